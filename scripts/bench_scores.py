"""Measure scorers: pairs per second, and what each score catches of planted noise, on the corpora that are there.

    scripts/bench_scores                      en–de of ../shared/data, and the sample corpus en–ja
    scripts/bench_scores --per-kind 4000

A corpus that is missing is skipped with a message. Rates are wall clock on all cores, and CPU seconds beside them.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

import mtx
from mtx.data.bounded_pair_batches import pair_batches
from mtx.data.filter.selection import SelectionFilter
from mtx.data.preparation import prepare_scores
from mtx.data.score.noise_scores import noise_scores
from mtx.data.score.score_table import ScoreTable
from mtx.data.score.scorer import CombiningScorer, TrainedScorer
from mtx.data.stage_runner import StageRunner
from mtx.records.noise_report import column_noise
from mtx.training.translation_data import TranslationData

ROOT = Path(__file__).resolve().parents[1]
EN_DE = "corpus.en-de.jsonl.gz"
SCORERS = ("rules", "combined")


def folder_of_corpora(given: str | None) -> Path | None:
    """Return the folder with the large corpora, or None."""
    places = [Path(given)] if given else [parent / "shared" / "data" for parent in ROOT.parents]
    return next((place for place in places if (place / EN_DE).is_file()), None)


def share_kept(rules: SelectionFilter, columns: dict[str, np.ndarray]) -> float:
    """Return the share of the pairs with these scores that the rules of filter=selection keep."""
    num_pairs = len(next(iter(columns.values())))
    texts = pa.array([""] * num_pairs, pa.large_string())
    kept = rules.apply(pa.table({"src": texts, "tgt": texts, **columns}), {})
    return sum(batch.num_rows for batch in kept) / num_pairs


def cpu_rate(datamodule: TranslationData, scorer: str, model_id: str | None, text_id: str) -> float:
    """Return the pairs that a scorer scores in a second of CPU time, from texts that are in memory."""
    store, component = datamodule.storage, datamodule.recipe.scorers[scorer]
    batches = list(pair_batches(store.repo.get(text_id).rows.batches()))
    assert isinstance(component, TrainedScorer)
    assert model_id is not None
    model = component.load(store.models.open(model_id))
    model.scores(batches[0].slice(0, 1), np.zeros(1, dtype=np.bool_))  # loads tables that all calls share
    started = time.process_time()
    for batch in batches:
        model.scores(batch, np.ones(batch.num_rows, dtype=np.bool_))
    return sum(batch.num_rows for batch in batches) / (time.process_time() - started)


def measure(name: str, overrides: list[str], per_kind: int) -> None:
    """Print the figures of all scorers on one corpus."""
    with tempfile.TemporaryDirectory() as folder:
        datamodule = mtx.compose_datamodule(
            [
                *(f"score=[{','.join(SCORERS)}]", "filter=selection", "tokenizer=byte", f"storage.root={folder}"),
                *overrides,
            ]
        )
        store, recipe = datamodule.storage, datamodule.recipe
        cpu = time.process_time()
        prepared = prepare_scores(recipe, store, StageRunner(store))
        cpu = time.process_time() - cpu
        parts = prepared.corpus.parts("train")
        table = ScoreTable.open(store.repo, parts, recipe.scorers, prepared.scored)
        num_pairs = table.table.num_rows
        print(f"\n{name}: {num_pairs:,} pairs; reading and scoring took {cpu:.1f} CPU s")
        for scorer, of in prepared.scored.items():
            rate = num_pairs / of.built_s if of.built_s else float("nan")
            told = f"  {scorer}: trained in {of.trained_s or 0:.1f} s, {rate:,.0f} pairs/s (wall clock, disk to disk)"
            if not isinstance(recipe.scorers[scorer], CombiningScorer):  # it needs the columns of the other scorers
                of_cpu = cpu_rate(datamodule, scorer, of.model, parts[0].id)
                told += f", {of_cpu:,.0f} pairs per CPU second and core"
            print(told)
        noise = noise_scores(store, parts, recipe.scorers, prepared.scored, per_kind=per_kind, seed=1)
        kinds = list(dict.fromkeys(kind for of in noise.values() for kind in of))
        assert isinstance(recipe.filter, SelectionFilter)
        rules = SelectionFilter(rules=recipe.filter.rules)
        lost = 1 - share_kept(rules, {column: table.table[column].to_numpy() for column in noise})
        caught = {kind: 1 - share_kept(rules, {column: of[kind] for column, of in noise.items()}) for kind in kinds}
        print(
            f"  default rules of filter=selection: {lost:.2%} of all pairs lost, {np.mean(list(caught.values())):.1%}"
        )
        print("  of all noise caught: " + ", ".join(f"{kind} {share:.0%}" for kind, share in caught.items()))
        print("  AUC / % caught at 5 % loss / % caught at 1 % loss")
        print("  " + "column".ljust(18) + "".join(kind[:11].rjust(13) for kind in (*kinds, "all")))
        for column, of in noise.items():
            found = column_noise(table.table[column].to_numpy(), of).kinds
            cells = (
                f"{found[kind].auc:.2f}/{100 * found[kind].caught_5:.0f}/{100 * found[kind].caught_1:.0f}"
                if kind in found
                else "–"
                for kind in kinds
            )
            together = {"all": np.concatenate(list(of.values()))}
            of_all = column_noise(table.table[column].to_numpy(), together).kinds["all"]
            told = f"{of_all.auc:.3f}/{100 * of_all.caught_5:.1f}/{100 * of_all.caught_1:.1f}"
            print("  " + column.ljust(18) + "".join(cell.rjust(13) for cell in (*cells, told)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-kind", type=int, default=2000, help="bad pairs of each kind")
    parser.add_argument("--data", help=f"folder with {EN_DE}")
    parser.add_argument("--sample-only", action="store_true", help="measure only the sample corpus")
    given = parser.parse_args()
    folder = folder_of_corpora(given.data)
    if given.sample_only:
        pass
    elif folder is None:
        print(f"SKIPPED: there is no {EN_DE}; name its folder with --data FOLDER", file=sys.stderr)
    else:
        overrides = ["downloader=local", f"downloader.path={folder / EN_DE}"]
        measure("en–de", overrides, given.per_kind)
    measure("en–ja, the sample, whose targets have no spaces", ["downloader=sample"], given.per_kind)


if __name__ == "__main__":
    main()
