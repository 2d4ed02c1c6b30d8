"""The dataset card of a stored dataset: a README.md that says where its pairs come from and how to build it anew.

The card has YAML front matter, as the Hugging Face Hub reads it. Texts from corpora and configs stand only in the YAML
values, in code spans and in code blocks. So none of them is Markdown or HTML.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from mtx.data.dataset import SPLITS, TranslationDataset, counts_by_reason
from mtx.data.exchange.dependency_order import all_inputs_first, input_names
from mtx.data.store import Store
from mtx.redaction_and_escaping import redacted_json, safe_line, visible_text

CARD_FILE = "README.md"
LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z0-9]+)*")  # what the Hub accepts as a language
MAX_TEXT_CHARS = 300  # of a name, an id or a licence in the card
SIZES = (
    *((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")),
    *((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B")),
    *((10**10, "1B<n<10B"), (10**11, "10B<n<100B"), (10**12, "100B<n<1T")),
)
TITLES = {  # key of a manifest's provenance, and the question that it answers
    "normalise": "How were texts normalised?",
    "held_out": "Which pairs are held out?",
    "filter": "Which rules dropped pairs?",
    "share": "Which share of the pairs was taken?",
    "scorer": "Which scores do the pairs have?",
}
NOT_GIVEN = "not given by the source"


def dataset_card(store: Store, dataset_id: str, command: str | None) -> str:
    """Return the card of a dataset as Markdown text.

    Args:
        store: the store of the dataset.
        dataset_id: id of the dataset.
        command: the command that builds the dataset anew; None if no run is known that used it.

    Raises NotStoredError, DamagedError or NewerFormatError.
    """
    dataset = store.repo.manifest(dataset_id)
    chain = _chain(store, dataset)
    lines = ["---", _front_matter(dataset, chain).rstrip("\n"), "---", "", f"# {code(dataset.name)}", ""]
    pair = " to ".join(code(name) for name in dataset.languages)
    lines += [f"{dataset.n or 0:,} sentence pairs from {pair}: the {dataset.split} split, stage {dataset.stage}.", ""]
    lines += [*_sources(chain), *_funnel(chain), *_options(store, dataset, chain), *_building(dataset, command)]
    return "\n".join(lines) + "\n"


def code(text: object) -> str:
    """Return any text as a code span of Markdown on one line, which fits in a cell of a table."""
    shown = _one_line(str(text))
    fence = _fence(shown)
    space = " " if shown.startswith("`") or shown.endswith("`") or not shown.strip() else ""
    return f"{fence}{space}{shown or ' '}{space}{fence}".replace("|", r"\|")


def _fence(text: str, least: int = 1) -> str:
    """Return backticks that enclose a text as code: more than any run of them in it, and at least `least`."""
    return "`" * max(least, 1 + max((len(run) for run in re.findall("`+", text)), default=0))


def _one_line(text: str) -> str:
    shown = safe_line(text[: 2 * MAX_TEXT_CHARS].replace("\n", " ").replace("\t", " "))
    return shown if len(shown) <= MAX_TEXT_CHARS else f"{shown[:MAX_TEXT_CHARS]}…"


def _block(value: object) -> list[str]:
    """Return a value as a YAML code block. YAML escapes line ends, and the fence is longer than any in the value."""
    text = visible_text(yaml.safe_dump(redacted_json(value), sort_keys=True, allow_unicode=False, width=100))
    fence = _fence(text, least=3)
    return [f"{fence}yaml", text.rstrip("\n"), fence, ""]


def _chain(store: Store, dataset: TranslationDataset) -> list[TranslationDataset]:
    """Return the stored datasets from which a dataset was built, by stages from raw on, and then the dataset."""
    found = [*map(store.repo.manifest, all_inputs_first(dataset, store)), dataset]
    order = ("raw", "text", "scores", "split", "filtered", "encoded")
    return sorted(found, key=lambda each: (order.index(each.stage), SPLITS.index(each.split), each.id))


def _licences(raw: TranslationDataset) -> list[str]:
    given = raw.provenance.get("licences")
    return [str(each) for each in given if each] if isinstance(given, list) else []


def _front_matter(dataset: TranslationDataset, chain: Sequence[TranslationDataset]) -> str:
    languages = [name for name in dataset.languages if LANGUAGE.fullmatch(name)]
    licences = {each for raw in chain if raw.stage == "raw" for each in _licences(raw)}
    all_given = all(_licences(raw) for raw in chain if raw.stage == "raw")
    values: dict[str, Any] = {
        "pretty_name": _one_line(dataset.name) or "without a name",
        "task_categories": ["translation"],
        "size_categories": [next((name for limit, name in SIZES if len(dataset) < limit), "n>1T")],
    }
    if languages:
        values["language"] = languages
    only = next(iter(licences)) if len(licences) == 1 and all_given else ""
    is_known = re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,40}", only)  # as the Hub writes licences
    values["license"] = only if is_known else ("other" if licences else "unknown")
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _sources(chain: Sequence[TranslationDataset]) -> Iterator[str]:
    yield from ("## Where do the pairs come from?", "", "| source | revision | licences as given | pairs read |")
    yield "| --- | --- | --- | ---: |"
    for raw in (each for each in chain if each.stage == "raw"):
        licences = ", ".join(code(each) for each in _licences(raw)) or NOT_GIVEN
        yield f"| {code(raw.name)} | {code(raw.provenance.get('revision', ''))} | {licences} | {len(raw):,} |"
    yield ""
    for raw in (each for each in chain if each.stage == "raw"):
        yield from _block({raw.id: raw.provenance.get("source") or {}})


def _funnel(chain: Sequence[TranslationDataset]) -> Iterator[str]:
    yield from ("## Which pairs were kept and dropped?", "", "| dataset | pairs | left out, by reason |")
    yield "| --- | ---: | --- |"
    for each in chain:
        if each.stage == "scores":
            continue
        counts = counts_by_reason(each.metrics)
        reasons = [f"{code(reason)} {number:,}" for of_key in counts.values() for reason, number in of_key]
        changed = each.metrics.get("changed")
        reasons += [f"none; {changed:,} changed"] if isinstance(changed, int) and not reasons else []
        yield f"| {code(each.id)} | {len(each):,} | {', '.join(reasons) or 'none'} |"
    yield ""


def _options(store: Store, dataset: TranslationDataset, chain: Sequence[TranslationDataset]) -> Iterator[str]:
    for key, title in TITLES.items():
        found = {each.id: each.provenance[key] for each in chain if key in each.provenance}
        yield from (f"## {title}", "", *(_block(found) if found else ["None.", ""]))
    tokenizers = [
        name for name in input_names(dataset) if name.startswith("tokenizer-") and store.tokenizers.exists(name)
    ]
    if tokenizers:
        yield from ("## Which tokenizer made the token ids?", "")
        yield from _block({name: dict(store.tokenizers.manifest(name).described) for name in tokenizers})


def _building(dataset: TranslationDataset, command: str | None) -> Iterator[str]:
    yield from ("## How is the dataset built again?", "")
    if command is None:
        yield "No run is known that used this dataset. The options above are complete."
    else:
        shown = safe_line(command)
        fence = _fence(shown, least=3)
        yield from (f"{fence}bash", shown, fence, "", "Relative paths count from the folder of the first run.")
    yield from ("", f"With the same sources and versions, the dataset has the id {code(dataset.id)} again.")
