"""`task=scores`: write the scores of all pairs as a file, and measure them with planted noise."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mtx.assumption_log import assume
from mtx.components.allowed_targets import TARGET_KEY
from mtx.components.checked_options import Natural, checked
from mtx.data.concatenated_corpus import Corpus
from mtx.data.dataset import SelectedDataset
from mtx.data.filter.selection import SelectionFilter
from mtx.data.preparation import PreparedScores, prepare_scores
from mtx.data.score.other_texts import MEASURING
from mtx.data.score.other_texts import other_texts as texts_of_file
from mtx.data.score.planted_noise_scores import noise_scores, without_held_out
from mtx.data.score.rules import RulesScorer
from mtx.data.score.score_table import ScoreTable
from mtx.data.stage_runner import StageRunner
from mtx.experiment.run_context import DATA_GROUPS, Run, needs
from mtx.experiment.score_examples import example_rows, example_texts
from mtx.infra.dal.arrow_rows import ROWS_PER_BATCH
from mtx.infra.dal.atomic_file import atomic_file
from mtx.infra.dal.row_views import ROW_COLUMN, SOURCE_COLUMN
from mtx.progress.tracking import Phases
from mtx.records.noise_report import (
    ColumnNoise,
    NoiseReport,
    ScoreExample,
    ScoreExamples,
    column_noise,
    kinds_table,
    score_histogram,
    thresholds_table,
)
from mtx.records.report_record import Report
from mtx.records.rule_cost_report import RuleCostReport, rule_costs, rule_costs_table
from mtx.records.score_report import ScorerReport, distribution, scores_table

SCORES_FILE = "scores.parquet"
CSV_FILE = "scores.csv"
DEFAULT_SCORER = "rules"


@needs(*DATA_GROUPS)
@checked("task")
def write_scores(
    run: Run,
    *,
    noise_pairs: Natural = 1000,
    example_pairs: Natural = 5,
    csv: bool = False,
    other_texts: str | None = None,
) -> None:
    """Score all pairs, write `scores.parquet`, and report what each score catches of planted noise.

    Args:
        run: The config, and the components that are built from it.
        noise_pairs: The number of planted pairs of each kind of noise. 0: no noise is planted.
        example_pairs: The number of pairs with the worst values of each score that the report shows with their texts.
            It shows as many pairs with values near the median. 0: the report has no text of the corpus.
        csv: Write `scores.csv`, too.
        other_texts: A file with texts in another language, one per line, from a half of which the noise
            `wrong_language` is made. None: no such noise.

    Raises:
        ConfigError: `other_texts` cannot be read.
        DataError: `other_texts` has no texts.
    """
    run = _with_scorer(run)
    recipe, store = run.datamodule.recipe, run.datamodule.storage
    others = texts_of_file(other_texts, "task.other_texts", MEASURING)
    prepared = prepare_scores(recipe, store, StageRunner(store, engine=run.datamodule.engine))
    parts = prepared.corpus.parts("train")
    table = ScoreTable.open(store.repo, parts, recipe.scorers, prepared.scored)
    run.output_dir.mkdir(parents=True, exist_ok=True)
    _write_parquet(run.output_dir / SCORES_FILE, table, prepared.corpus)
    if csv:
        _write_csv(run.output_dir / CSV_FILE, table, prepared.corpus)
    names = [name for name, column in table.columns.items() if column.is_score]
    values = {name: table.table[name].to_numpy() for name in names}
    histograms = {name: found for name in names if (found := score_histogram(values[name])) is not None}
    noise, costs = dict[str, ColumnNoise](), RuleCostReport()
    if noise_pairs:
        noise, costs = _measured_noise(run, prepared, values, noise_pairs, others)
    scorers = _scorer_reports(prepared, table)
    report = Report.of(
        {
            "name": prepared.corpus.info.name,
            "languages": prepared.corpus.info.languages,
            "scorers": scorers,
            "built": tuple(prepared.built),
            "store": store.location,
            "seed": run.seed,
        },
        NoiseReport(
            num_rows=table.table.num_rows,
            histograms=histograms,
            noise=noise,
            rule_costs=costs,
            examples=_examples(run, parts, values, example_pairs) if example_pairs else {},
        ),
    )
    _print_tables(run, scorers, noise, costs)
    run.console.print(f"report: {run.write_report(report)}", highlight=False, soft_wrap=True)


def _with_scorer(run: Run) -> Run:
    """Return a run with the scorer `rules` if none is chosen."""
    if run.config.get("score"):
        return run
    assume(
        f"the scorer {DEFAULT_SCORER} judges the pairs, because none is chosen. Choose others, such as "
        "'score=[rules,language,alignment]'"
    )
    scorers = {DEFAULT_SCORER: {TARGET_KEY: f"{RulesScorer.__module__}.{RulesScorer.__qualname__}"}}
    return Run(
        {**run.config, "score": scorers},
        output_dir=run.output_dir,
        console=run.console,
        in_sweep=run.in_sweep,
        overrides=run.overrides,
        config_sources=run.config_sources,
        assumptions=run.assumptions,
    )


def _print_tables(
    run: Run, scorers: Mapping[str, ScorerReport], noise: Mapping[str, ColumnNoise], costs: RuleCostReport
) -> None:
    run.console.print(scores_table(scorers))
    if noise:
        run.console.print(thresholds_table(noise))
        run.console.print(kinds_table(noise))
    if costs.together is not None:
        run.console.print(rule_costs_table(costs))
    run.console.print(f"scores: {run.output_dir / SCORES_FILE}", highlight=False, soft_wrap=True)


def _measured_noise(
    run: Run, prepared: PreparedScores, values: Mapping[str, np.ndarray], per_kind: int, others: Sequence[str]
) -> tuple[dict[str, ColumnNoise], RuleCostReport]:
    """Plant noise, and return what each score catches of it, and what the rules of a selection cost and catch."""
    recipe, parts = run.datamodule.recipe, prepared.corpus.parts("train")
    inputs = run.datamodule.storage, parts, recipe.scorers, prepared.scored
    with Phases("measuring planted noise", "noise", "scores") as phases:
        phases.begin("scoring bad pairs", unit=None)
        scored = noise_scores(*inputs, per_kind=per_kind, seed=run.seed, other_targets=others)
    costs = RuleCostReport()
    if isinstance(recipe.filter, SelectionFilter):
        costs = rule_costs(recipe.filter.column_rules, without_held_out(recipe.scorers, values), scored)
    return {name: column_noise(of, scored.get(name, {})) for name, of in values.items()}, costs


def _examples(
    run: Run, parts: Sequence[SelectedDataset], values: Mapping[str, np.ndarray], count: int
) -> dict[str, ScoreExamples]:
    """Return the worst and the median pairs of each score, with their texts."""
    rows = {name: example_rows(of, count, run.seed) for name, of in values.items()}
    repo = run.datamodule.storage.repo
    wanted = np.concatenate(
        [np.empty(0, dtype=np.int64), *(each for of in rows.values() for each in (of.worst, of.median))]
    )
    texts = example_texts([repo.get_checked(part.id).rows for part in parts], [part.num_rows for part in parts], wanted)

    def pairs(name: str, chosen: np.ndarray) -> tuple[ScoreExample, ...]:
        return tuple(
            ScoreExample(row=row, value=float(values[name][row]), source=texts[row][0], target=texts[row][1])
            for row in chosen.tolist()
        )

    return {
        name: ScoreExamples(worst=pairs(name, of.worst), median=pairs(name, of.median)) for name, of in rows.items()
    }


def _scorer_reports(prepared: PreparedScores, table: ScoreTable) -> dict[str, ScorerReport]:
    found = {}
    for name, of in prepared.scored.items():
        own = [column for column in table.columns if column == name or column.startswith(f"{name}.")]
        found[name] = ScorerReport(
            num_pairs=table.table.num_rows,
            scoring_s=of.built_s,
            training_s=of.trained_s,
            pairs_per_s=table.table.num_rows / of.built_s if of.built_s else None,
            columns={
                column: distribution(table.table[column].to_numpy()) for column in own if table.columns[column].is_score
            },
        )
    return found


def _batches(table: ScoreTable, corpus: Corpus) -> Iterator[pa.RecordBatch]:
    """Yield all scores with the number of each row and, for a mixture, the name of its source."""
    sources = corpus.source_of("train")
    first = 0
    for start in range(0, max(table.table.num_rows, 1), ROWS_PER_BATCH):
        piece = table.table.slice(start, ROWS_PER_BATCH)
        columns: dict[str, pa.Array | pa.ChunkedArray] = {
            ROW_COLUMN: pa.array(np.arange(first, first + piece.num_rows, dtype=np.int64))
        }
        if sources is not None:
            columns[SOURCE_COLUMN] = _source_names(corpus.names, sources[start : start + piece.num_rows])
        columns |= dict(zip(piece.column_names, piece.columns, strict=True))
        first += piece.num_rows
        yield pa.table(columns).combine_chunks().to_batches()[0] if piece.num_rows else _empty(columns)


def _source_names(names: list[str], sources: np.ndarray) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(sources))


def _empty(columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.RecordBatch:
    schema = pa.schema([pa.field(name, column.type) for name, column in columns.items()])
    return pa.RecordBatch.from_pylist([], schema=schema)


def _write_parquet(path: Path, table: ScoreTable, corpus: Corpus) -> None:
    writer = None
    with atomic_file(path) as file:
        for batch in _batches(table, corpus):
            writer = writer or pq.ParquetWriter(pa.PythonFile(file, mode="w"), batch.schema)
            writer.write_batch(batch)
        assert writer is not None
        writer.close()


def _write_csv(path: Path, table: ScoreTable, corpus: Corpus) -> None:
    writer = None
    with atomic_file(path) as file:
        for batch in _batches(table, corpus):
            writer = writer or pa_csv.CSVWriter(pa.PythonFile(file, mode="w"), batch.schema)
            writer.write_batch(batch)
        assert writer is not None
        writer.close()
