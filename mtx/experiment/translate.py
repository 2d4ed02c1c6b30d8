"""`task=translate`: translate a file of text with a checkpoint, and write the translations in the same order.

The task reads neither the store nor a corpus, and imports Lightning only for a user's own model.
"""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from mtx import __version__
from mtx.components.allowed_targets import TARGET_KEY, allowed_target
from mtx.components.checked_options import Count, checked
from mtx.components.identity import JSON
from mtx.experiment.run_context import Run, needs
from mtx.experiment.translation_files import InputLines, TranslationOutput
from mtx.progress.literal_console import PlainConsole
from mtx.progress.tracking import CountedWork

if TYPE_CHECKING:
    from mtx.training.checkpoint_translator import CheckpointTranslator, SearchOptions

REFERENCE_MODEL = "mtx.training.reference.transformer.TransformerTranslator"
LINES_AT_ONCE = 1000  # lines that are translated together, in batches of similar length, and then written

Penalty = Annotated[float, Field(ge=0, le=10)]


@needs()
@checked("task")
def translate(
    run: Run,
    *,
    ckpt: str | None,
    input: str = "-",
    output: str = "-",
    beam: Count = 4,
    n_best: Count | None = None,
    length_penalty: Penalty = 1.0,
    batch_tokens: Count = 4096,
    device: str | None = None,
    overwrite: bool = False,
    direction: str | None = None,
) -> None:
    """Translate the lines of a file, and write one line, or `n_best` lines, for each.

    An empty line has an empty translation. A line above the maximal length of the training is truncated, and a message
    says so. The output appears when it is complete. Until then, the lines are in a file beside it, from which the same
    command resumes.

    Args:
        run: The run, which provides the console and a model that the user has typed.
        ckpt: The checkpoint.
        input: The file to translate; `-` is standard input.
        output: The file of the translations; `-` is standard output.
        beam: The number of hypotheses in beam search.
        n_best: The number of translations of each line, with scores; None: the best as plain text.
        length_penalty: The exponent of the length in the score of a hypothesis.
        batch_tokens: The padded source positions of a batch, times `beam`.
        device: Where the model computes; None: a GPU if there is one.
        overwrite: Whether to replace an output file that exists.
        direction: The direction of a checkpoint of several, such as `en-de`; None: sources have their tags.

    Raises:
        ConfigError: The checkpoint cannot translate, or the output exists.
        SourceError: The input is missing, empty, or not UTF-8.
        StoreError: The output cannot be written.
    """
    from mtx.training.checkpoint_content import existing_checkpoint
    from mtx.training.checkpoint_translator import SearchOptions

    options = SearchOptions(beam=beam, n_best=n_best or 1, length_penalty=length_penalty, batch_tokens=batch_tokens)
    path = existing_checkpoint(ckpt, task="translate")
    lines = InputLines(input)
    source, stat = lines.identity(), path.stat()
    file: list[JSON] = [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
    search: list[JSON] = [options.beam, options.n_best, options.length_penalty, *filter(None, [direction])]
    settings = source and [*source, *file, *search, *_typed(run, "model"), *_typed(run, "normalise"), __version__]
    with TranslationOutput(output, settings=settings, is_table=n_best is not None, overwrite=overwrite) as out:
        translator = loaded_translator(run, str(path), device, direction=direction)
        with CountedWork("translating", lines.count(), "translate", unit="lines") as progress:
            num_cut = _translate_all(translator, lines, out, options, progress)
    if num_cut:
        PlainConsole(stderr=True).print(
            f"{num_cut} of {progress.num_done} lines have more than {translator.max_source_tokens} tokens, the maximum "
            "of the training, and are truncated. Split them into sentences for whole translations",
            highlight=False,
            soft_wrap=True,
        )


def loaded_translator(
    run: Run, ckpt: str | None, device: str | None, *, task: str = "translate", direction: str | None = None
) -> "CheckpointTranslator":
    """Return the translator of a checkpoint, with the model and the normaliser that the user has typed, if any."""
    from mtx.training.checkpoint_content import existing_checkpoint
    from mtx.training.checkpoint_translator import load_translator

    normalise = run.build("normalise") if _typed(run, "normalise") and "normalise" in run.config else None
    return load_translator(
        existing_checkpoint(ckpt, task=task),
        device=device,
        model=_own_model(run),
        normalise=normalise,
        direction=direction,
    )


def _own_model(run: Run) -> Any:
    """Return what builds a user's own model from the hyperparameters of a checkpoint; None for the reference model.

    A hyperparameter of the checkpoint has priority over the config, and a key that the user has typed over both.
    """
    if (options := run.config.get("model")) is None:
        return None
    target = allowed_target(options[TARGET_KEY], "model")
    if f"{target.__module__}.{target.__qualname__}" == REFERENCE_MODEL:
        return None
    given = {key: value for key, value in options.items() if key != TARGET_KEY and value is not None}
    typed = {
        text.lstrip("+").removeprefix("model.").partition("=")[0].partition(".")[0] for text in _typed(run, "model")
    }
    said = {key: given[key] for key in typed & given.keys()}
    return partial(lambda **stored: target(**{**given, **stored, **said}), **said)  # its keywords are what was typed


def _typed(run: Run, group: str) -> list[str]:
    """Return the overrides of a config group."""
    return [text for text in run.overrides if text.lstrip("+~").partition("=")[0].partition(".")[0] == group]


def _translate_all(
    translator: "CheckpointTranslator",
    lines: InputLines,
    file: TranslationOutput,
    options: "SearchOptions",
    progress: CountedWork,
) -> int:
    """Translate all lines that the output lacks, write them, and return the number of truncated lines."""
    num_cut = 0
    progress.reach(file.num_lines)
    for first, texts in lines.blocks(LINES_AT_ONCE, skip=file.num_lines):
        rows = translator.encode(texts)
        num_cut += translator.num_truncated([len(ids) for ids in rows])
        found = translator.n_best_of_ids(rows, options, partial(_reach, progress, first))
        file.write(first, found)
    return num_cut


def _reach(progress: CountedWork, first: int, num_done: int) -> None:
    progress.reach(first + num_done)
