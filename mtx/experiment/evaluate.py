"""`task=evaluate`: evaluate a checkpoint on named sets, by bits per byte and by the metrics of sacrebleu."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from mtx.assumption_log import assume
from mtx.components.checked_options import Count, checked
from mtx.data.direction_tags import set_direction
from mtx.data.evaluation_texts import EvaluationText, SplitChoice, evaluation_texts
from mtx.data.normalise import Normaliser, for_evaluation
from mtx.data.stage_runner import StageRunner
from mtx.errors import ConfigError
from mtx.evaluation.corpus_metrics import INSTALL_COMMAND
from mtx.evaluation.corpus_metrics import bits_per_byte as bits_per_byte_of
from mtx.evaluation.paired_bootstrap import bootstrap_differences
from mtx.evaluation.translation_metrics import SystemScores, paired_differences, system_scores
from mtx.evaluation.verdict import Difference
from mtx.experiment.bleu_tokenizers import (
    BleuTokenizer,
    bleu_assumption,
    bleu_tokenizer,
    check_bleu_tokenizer,
)
from mtx.experiment.run_context import DATA_GROUPS, Run, needs
from mtx.experiment.translate import Penalty, loaded_translator
from mtx.experiment.translation_files import single_line
from mtx.infra.dal.atomic_file import atomic_file
from mtx.infra.dataset.sources.translation_directions import direction_name
from mtx.progress.tracking import CountedWork
from mtx.records.evaluation_report import (
    MetricDifference,
    SetEvaluation,
    difference_table,
    evaluation_table,
)
from mtx.records.report_record import Report
from mtx.training.checkpoint_likelihood import target_nats
from mtx.training.checkpoint_translator import CheckpointTranslator, SearchOptions
from mtx.training.translation_state import TranslationState

GUIDE = "docs/howto/own_model.md"
LINES_OF = {"checkpoint": "translations", "baseline": "baseline_translations"}  # folders in the folder of the run
NUM_DECIMALS = 4  # decimal places of a score in the report


@needs(*DATA_GROUPS)
@checked("task")
def evaluate(
    run: Run,
    *,
    ckpt: str | None,
    baseline: str | None = None,
    split: SplitChoice = "auto",
    beam: Count = 4,
    length_penalty: Penalty = 1.0,
    batch_tokens: Count = 4096,
    device: str | None = None,
    bleu_tokenizer: BleuTokenizer | None = None,
) -> float | None:
    """Translate and score the pairs of the downloader and of each validation set, and write the report.

    The run's folders `sources`, `translations`, `baseline_translations` and `references` get the lines of each set.

    Args:
        run: The config, and the components that are built from it.
        ckpt: The checkpoint to evaluate.
        baseline: A checkpoint to compare with; None: none.
        split: The split of the downloader; `auto`: the test split, else the validation split, else all pairs.
        beam: The number of hypotheses in beam search.
        length_penalty: The exponent of the length in the score of a hypothesis.
        batch_tokens: The padded source positions of a batch, times `beam`.
        device: Where the model computes; None: a GPU if there is one.
        bleu_tokenizer: How BLEU splits words; None: by the target language of each set.

    Returns:
        BLEU of the first set, which a sweep can maximise; None without sacrebleu.

    Raises:
        ConfigError: A checkpoint cannot translate, or the pairs would contain training pairs.
        EmptyDatasetError: A set has no pairs.
    """
    if bleu_tokenizer is not None:
        check_bleu_tokenizer(bleu_tokenizer)
    options = SearchOptions(beam=beam, length_penalty=length_penalty, batch_tokens=batch_tokens)
    translators = {"checkpoint": loaded_translator(run, ckpt, device, task="evaluate")}
    if baseline is not None:
        translators["baseline"] = loaded_translator(run, baseline, device, task="evaluate")
    store, states = run.datamodule.storage, [each.state for each in translators.values()]
    recipe = replace(run.datamodule.recipe, normalise=states[0].normalise)
    corpora = [state.corpus for state in states]
    texts = evaluation_texts(recipe, StageRunner(store), trained_on=corpora, split=split)
    check_prefixes(texts, [state.normalise for state in states])
    check_languages(texts, states)
    found = {name: _evaluated(run, name, text, translators, options, bleu_tokenizer) for name, text in texts.items()}
    first = next(iter(found.values()))
    report = Report.of(
        {"checkpoint": ckpt, "beam": beam, "seed": run.seed, "store": store.location},
        {} if first.bits_per_byte is None else {"bits_per_byte": first.bits_per_byte},
        {"evaluation": found, **({} if baseline is None else {"baseline": baseline})},
        {name: value for name in ("bleu", "chrf", "chrf_plus_plus", "ter") if (value := first.score(name)) is not None},
    )
    run.console.print(evaluation_table(found))
    if baseline is not None:
        run.console.print(difference_table(found, baseline))
    _print_notes(run, found)
    run.console.print(f"report: {run.write_report(report)}", highlight=False, soft_wrap=True)
    return None if first.bleu is None else float(first.bleu)


def check_languages(texts: Mapping[str, EvaluationText], states: Sequence[TranslationState]) -> None:
    """Raise ConfigError if a set has the opposite direction of a checkpoint, or none of its directions.

    Other differences are told.
    """
    for (name, text), (trained, directions) in itertools.product(
        texts.items(), dict.fromkeys((state.languages, state.directions) for state in states)
    ):
        if directions:
            set_direction(name, text.languages, directions)
        elif text.languages == trained[::-1] != trained:
            raise ConfigError(
                f"the set {name} translates {' to '.join(text.languages)}, but the checkpoint {' to '.join(trained)}. "
                "Swap the sides with downloader.source_language and downloader.target_language"
            )
        elif text.languages != trained:
            assume(
                f"the set {name} ({' to '.join(text.languages)}) has the languages of the checkpoint, "
                f"{' to '.join(trained)}. Name them with downloader.source_language and downloader.target_language"
            )


def check_prefixes(texts: Mapping[str, EvaluationText], normalisers: Sequence[Normaliser]) -> None:
    """Raise ConfigError if sources with the prefix of one checkpoint would be translated by one with another prefix."""
    prefixes = [each.source_prefix for each in normalisers]
    if any(text.is_of_training for text in texts.values()) and any(each != prefixes[0] for each in prefixes):
        raise ConfigError(
            f"the checkpoints were trained with different texts before each source, {prefixes[0]!r} and "
            f"{prefixes[-1]!r}, and the held-out pairs have one of them. Leave task.baseline out, evaluate each "
            "checkpoint alone, and compare the reports"
        )


def _of_set(translator: CheckpointTranslator, name: str, text: EvaluationText) -> CheckpointTranslator:
    """Return the translator with the normaliser of a set, which may have a prefix of its own or of its direction."""
    state, own = translator.state, translator.state.normalise
    if (direction := set_direction(name, text.languages, state.directions)) is not None:
        state = state.in_direction(direction_name(direction))
    has_own = text.is_of_training or direction is None or name in own.source_prefix
    normalise = for_evaluation(own, name, is_tagged=text.is_of_training) if has_own else state.normalise
    return CheckpointTranslator(replace(state, normalise=normalise), translator.generator, translator.device)


def _evaluated(
    run: Run,
    name: str,
    text: EvaluationText,
    translators: Mapping[str, CheckpointTranslator],
    options: SearchOptions,
    typed_tokenizer: str | None,
) -> SetEvaluation:
    """Return the scores of a set, and the differences to the baseline if there is one."""
    sources_for_metrics = _untagged(text, translators["checkpoint"].state.normalise)
    translators = {role: _of_set(translator, name, text) for role, translator in translators.items()}
    tokenizer = typed_tokenizer or _bleu_tokenizer(text.languages[1], next(iter(translators.values())).languages[1])
    scores: dict[str, SystemScores] = {}
    likelihoods: dict[str, NDArray[np.float64] | None] = {}
    for role, translator in translators.items():
        sources = translator.encode(text.sources)
        with CountedWork(f"translating {name}", len(sources), "evaluate", unit="sentences") as progress:
            found = translator.n_best_of_ids(sources, options, progress.reach)
        outputs = [best[0].text for best in found]
        _write_lines(run, LINES_OF[role], name, outputs)
        likelihoods[role] = _likelihoods(translator, text, sources, options)
        if find_spec("sacrebleu"):
            scores[role] = system_scores(outputs, text.references, tokenizer=tokenizer)
    _write_lines(run, "sources", name, sources_for_metrics)
    _write_lines(run, "references", name, text.references)
    rng = np.random.default_rng(run.seed)
    differences = _likelihood_difference(likelihoods, rng)
    if len(scores) == 2:
        differences |= paired_differences(scores["checkpoint"], scores["baseline"], tokenizer=tokenizer, rng=rng)
    nats = likelihoods["checkpoint"]
    used = None if nats is None else nats[~np.isnan(nats[:, 0])]
    ours = scores.get("checkpoint")
    return SetEvaluation(
        languages=text.languages,
        num_pairs=len(text.sources),
        left_out=0 if used is None else len(text.sources) - len(used),
        bits_per_byte=None
        if used is None or not len(used)
        else _rounded(float(bits_per_byte_of(used.sum(0)[None])[0])),
        signatures={} if ours is None else dict(ours.signatures),
        difference={metric: _difference(each) for metric, each in differences.items()},
        **({} if ours is None else {metric: _rounded(value) for metric, value in ours.scores.items()}),
    )


def _untagged(text: EvaluationText, normalise: Normaliser) -> list[str]:
    """Return sources for metrics that read them, such as COMET: without the prefixes of the training."""
    own = normalise.source_prefix
    prefixes = (own,) if isinstance(own, str) else normalise.part_prefixes
    if not text.is_of_training:
        return text.sources
    return [
        source.removeprefix(max(filter(source.startswith, prefixes), key=len, default="")) for source in text.sources
    ]


def _bleu_tokenizer(own: str, trained: str) -> str:
    """Return the tokenizer for BLEU by the target language of a set, or that of the checkpoint if it is no code."""
    is_known = bleu_tokenizer(own) != "13a" or bleu_assumption(own) is None
    language = own if is_known else trained
    if find_spec("sacrebleu") and (told := bleu_assumption(language)) is not None:
        assume(told)
    return bleu_tokenizer(language)


def _likelihoods(
    translator: CheckpointTranslator, text: EvaluationText, sources: list[list[int]], options: SearchOptions
) -> NDArray[np.float64] | None:
    """Return nats and bytes of each target, float64 [n, 2]; NaN for pairs that are too long; None if not known."""
    normalised = translator.normalised(text.references, "target")
    nats = target_nats(
        translator, sources, translator.encode(text.references, "target"), batch_tokens=options.batch_tokens
    )
    if nats is None:
        return None
    num_bytes = np.array([len(target.encode()) for target in normalised], dtype=np.float64)
    most = translator.state.eval_max_bytes
    if most is not None:  # as in the validation of a training, so that the figures are of the same pairs
        of_source = np.array([len(source.encode()) for source in translator.normalised(text.sources)])
        nats[np.maximum(num_bytes, of_source) > most] = np.nan
    return np.stack([nats, num_bytes], axis=1)


def _likelihood_difference(
    likelihoods: Mapping[str, NDArray[np.float64] | None], rng: np.random.Generator
) -> dict[str, Difference]:
    ours, theirs = likelihoods["checkpoint"], likelihoods.get("baseline")
    if ours is None or theirs is None:
        return {}
    both = ~np.isnan(ours[:, 0] + theirs[:, 0])
    if not both.any():
        return {}
    arms = {"checkpoint": [(1.0, ours[both])], "baseline": [(1.0, theirs[both])]}
    found = bootstrap_differences(arms, bits_per_byte_of, compared_to="baseline", rng=rng)
    return {"bits_per_byte": found["checkpoint"]}


def _difference(found: Difference) -> MetricDifference:
    ends = {} if not np.isfinite([found.low, found.high]).all() else {"low": found.low, "high": found.high}
    return MetricDifference(
        estimate=_rounded(found.estimate), **{name: _rounded(float(value)) for name, value in ends.items()}
    )


def _rounded(value: float) -> float:
    return round(value, NUM_DECIMALS)


def _write_lines(run: Run, folder_name: str, name: str, outputs: Sequence[str]) -> None:
    folder = run.output_dir / folder_name
    folder.mkdir(parents=True, exist_ok=True)
    stem = name.replace("%", "%25").replace("/", "%2F")  # so that two names are never one file
    with atomic_file(folder / f"{stem}.txt") as file:
        file.write("".join(single_line(line) + "\n" for line in outputs).encode(errors="replace"))


def _print_notes(run: Run, found: Mapping[str, SetEvaluation]) -> None:
    """Print signatures, pairs without a likelihood, and what is missing and how to get it."""
    signatures: dict[tuple[str, str], list[str]] = {}
    for name, each in found.items():
        for signature in each.signatures.items():
            signatures.setdefault(signature, []).append(name)
    lines = [
        f"{metric}{'' if len(names) == len(found) else ' of ' + ', '.join(names)}: {signature}"
        for (metric, signature), names in signatures.items()
    ]
    for name, each in found.items():
        if each.left_out:
            lines.append(f"{name}: {each.left_out} pairs are too long for bits per byte, and are in the other scores")
        if each.bits_per_byte is None:
            lines.append(f"{name}: bits per byte need the model's method target_nats(batch). See {GUIDE}")
    if not signatures:
        lines.append(f"BLEU, chrF, chrF++ and TER need sacrebleu. Install it: {INSTALL_COMMAND}")
    for line in lines:
        run.console.print(line, highlight=False, soft_wrap=True)
