"""Say which goals the scores of a corpus miss, on which planted noise, and why.

scripts/bench_scores prints these lines. The reasons follow from the numbers alone, so they hold for any corpus: a kind
cannot be planted, no column reacts to it, nearly all pairs have one value of a column, the missed pairs are short, or
the texts have no spaces.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.data.score.noise_curves import LOSSES, CorpusScores
from mtx.data.score.planted_noise import PlantedPairs

LOSS = 0.05  # of all pairs, at which columns are compared
LITTLE_CAUGHT = 0.88  # kinds of which the best column catches less are explained
BLIND_AUC = 0.55  # a column with less hardly reacts to a kind
FEW_PAIRS = 100_000  # trained scorers know fewer pairs of texts than goals assume
TIED = 0.5  # share of all pairs with one value from which thresholds of a column are coarse

Scores = Mapping[str, NDArray[np.float64]]
Noise = Mapping[str, Scores]


@dataclass(frozen=True)
class Goal:
    """The least AUC, and the least share that is caught at 5 % loss, of one column for one kind of noise."""

    column: str
    kind: str  # `all`: all kinds together
    auc: float
    caught: float = 0.0


GOALS = (
    *(Goal("alignment", kind, 0.99, 0.95) for kind in ("misaligned", "shifted")),
    *(Goal("language", kind, 0.98) for kind in ("copied", "swapped")),
    *(
        Goal(column, kind, 0.98)
        for column, kind in (
            ("rules.digits", "changed_number"),
            ("rules.mojibake", "mojibake"),
            ("rules.copy", "copied"),
        )
    ),
    Goal("rules.length_z", "truncated", 0.95),
    Goal("combined", "all", 0.97, 0.88),
)


def gap_lines(values: Scores, noise: Noise, planted: Mapping[str, PlantedPairs], targets: list[str]) -> list[str]:
    """Return lines about the goals and about the kinds of which little is caught.

    Args:
        values: the scores of all pairs, by column.
        noise: the scores of bad pairs, by column and kind.
        planted: the bad pairs of each kind, in the order of their scores.
        targets: some targets of the corpus.
    """
    corpora = {column: CorpusScores(of) for column, of in values.items() if column in noise}
    lines = [line for goal in GOALS if goal.column in corpora for line in [_goal_line(goal, corpora, noise)]]
    kinds = [kind for kind in planted if any(kind in of for of in noise.values())]
    weak = {kind: told for kind in kinds if (told := _kind_line(kind, corpora, noise, planted[kind]))}
    unspaced = np.mean([" " not in text.strip() for text in targets]) if targets else 0.0
    size = len(next(iter(values.values()), ()))
    general = []
    if size < FEW_PAIRS:
        general.append(f"only {size:,} pairs train the models, which then know fewer word translations")
    if unspaced > TIED:
        general.append(
            f"{unspaced:.0%} of the targets have no space: a planted change of a word then changes a single character"
        )
    tied = [
        f"{column} has one value for {share:.0%} of all pairs"
        for column, of in values.items()
        if (share := _tied(of)) > TIED
    ]
    return [
        "goals: " + ("; ".join(lines) or "none for these scorers"),
        f"kinds of which no column catches {LITTLE_CAUGHT:.0%} at {LOSS:.0%} loss: " + (", ".join(weak) or "none"),
        *(f"  {line}" for line in weak.values()),
        "what holds for the whole corpus: " + ("; ".join([*general, *tied]) or "nothing unusual"),
    ]


def _goal_line(goal: Goal, corpora: Mapping[str, CorpusScores], noise: Noise) -> str:
    name = f"{goal.column} on {goal.kind}"
    of = noise[goal.column]
    if goal.kind != "all" and goal.kind not in of:
        return f"{name}: not measured, because no pair can be changed to this kind"
    bad = np.concatenate(list(of.values())) if goal.kind == "all" else of[goal.kind]
    found = corpora[goal.column].separation(bad)
    caught = found.caught[LOSSES.index(LOSS)]
    is_reached = found.auc >= goal.auc and caught >= goal.caught
    least = f"{goal.auc:.2f}" + (f" / {goal.caught:.0%}" if goal.caught else "")
    told = "reached" if is_reached else "MISSED"
    return f"{name} {told}: {found.auc:.3f} / {caught:.0%}, goal {least}"


def _kind_line(kind: str, corpora: Mapping[str, CorpusScores], noise: Noise, planted: PlantedPairs) -> str:
    """Return why little of a kind is caught; empty if a column catches enough."""
    found = {
        column: corpus.separation(noise[column][kind]) for column, corpus in corpora.items() if kind in noise[column]
    }
    caught = {column: of.caught[LOSSES.index(LOSS)] for column, of in found.items()}
    best = max(caught, key=lambda column: caught[column])
    if caught[best] >= LITTLE_CAUGHT:
        return ""
    seen = [column for column, of in found.items() if of.auc >= BLIND_AUC]
    blind = [column for column in found if column not in seen]
    masks = [noise[column][kind] < corpora[column].threshold(LOSS) for column in found]
    nowhere = 1 - np.mean(np.logical_or.reduce(masks))
    is_missed = noise[best][kind] >= corpora[best].threshold(LOSS)
    lengths = pc.utf8_length(planted.pairs["tgt"]).to_numpy()
    missed, hit = (np.median(lengths[mask]) if mask.any() else float("nan") for mask in (is_missed, ~is_missed))
    return (
        f"{kind}: {best} is the best with {caught[best]:.0%} (AUC {found[best].auc:.2f}); {nowhere:.0%} of the pairs "
        f"are below the threshold of no column; the median target that {best} misses has {missed:.0f} characters, and "
        f"one that it catches {hit:.0f}; without reaction (AUC below {BLIND_AUC}): {', '.join(blind) or 'no column'}"
    )


def _tied(values: NDArray[np.float64]) -> float:
    """Return the share of the most frequent value."""
    known = values[~np.isnan(values)]
    return float(np.unique(known, return_counts=True)[1].max() / len(values)) if len(known) else 0.0
