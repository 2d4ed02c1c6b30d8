"""Settings of Sphinx for the documentation site. `scripts/docs` builds the site."""

from typing import Any

import mtx

project = "mtx"
author = "the mtx developers"
copyright = author
release = version = mtx.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]

html_theme = "furo"
html_title = f"mtx {release}"
html_copy_source = False
html_show_sourcelink = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# The copy button leaves out the prompt of a console block, and its output.
copybutton_prompt_text = "$ "

# Docstrings mark code with single backticks, as Markdown does.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 80

# Sphinx runs with -n: a link to nothing is an error. Types in signatures are no links if another package defines them
# or if they are internal to mtx.
nitpick_ignore_regex = [
    ("py:.*", r"(?!mtx\.).*"),
    ("py:class", r"mtx\.batches\.batch_format\.BatchFormat"),
    ("py:class", r"mtx\.data\.engine_protocol\.Engine"),
    ("py:class", r"mtx\.data\.normalise\.Normaliser"),
    ("py:class", r"mtx\.data\.score\.planted_noise\.PlantedPairs"),
    ("py:class", r"mtx\.data\.store\.Store"),
    ("py:class", r"mtx\.data\.tokenize\.(bpe_dropout\.MergeSampler|word_index\.WordIndex)"),
    ("py:class", r"mtx\.infra\.dal\.maintenance_protocols\.(Damage|Leftover)"),
    ("py:class", r"mtx\.infra\.dal\.protocols\.(FileLayer|ObjectLayer|PayloadInfo)"),
    ("py:class", r"mtx\.training\.batch_datasets\.EncodedBatches"),
    ("py:class", r"mtx\.training\.checkpoint_translator\.Generator"),
    ("py:class", r"mtx\.training\.translation_state\.TranslationState"),
]


def without_bounds(signature: str) -> str:
    """Return a signature with `Annotated[TYPE, ...]` replaced by TYPE. The option reference has the bounds."""
    while (start := signature.rfind("Annotated[")) >= 0:
        begin = start + len("Annotated[")
        depth, end, first = 0, begin, None
        while depth or signature[end] != "]":
            depth += (signature[end] in "[({") - (signature[end] in "])}")
            if signature[end] == "," and not depth and first is None:
                first = end
            end += 1
        signature = signature[:start] + signature[begin : first or end] + signature[end + 1 :]
    return signature


def process_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Make signatures readable; Sphinx calls this for each object of the Python reference."""
    return signature and without_bounds(signature), returns


def setup(app: Any) -> None:
    """Connect the functions above; Sphinx calls this once."""
    app.connect("autodoc-process-signature", process_signature)
