"""The sentences that tell people the result of a comparison of arms."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mtx.evaluation.arm_means import ArmModel
    from mtx.evaluation.verdict import Difference, Verdict

MAX_NAMES = 3  # arms that a sentence lists; more are counted


def decimals(uncertainty: float) -> int:
    """Return how many decimals show two digits of an uncertainty; 4 significant digits are enough without one."""
    if not math.isfinite(uncertainty) or uncertainty <= 0:
        return 4
    return min(max(0, 1 - math.floor(math.log10(uncertainty))), 8)


def difference_text(difference: "Difference") -> str:
    """Write a difference with its sign and its interval: `+0.045 [+0.021, +0.069]`."""
    if math.isnan(difference.estimate):
        return "diverged"
    half = (difference.high - difference.low) / 2
    if not math.isfinite(half):
        return f"{difference.estimate:+.4g}"
    places = decimals(half)
    low, high = (f"{end:+.{places}f}" for end in (difference.low, difference.high))
    return f"{difference.estimate:+.{places}f}" + (f" [{low}, {high}]" if half else "")


def reason_text(
    decided: "Verdict",
    model: "ArmModel",
    rival: str | None,
    lead: "Difference | None",
    direction: Literal["minimize", "maximize"],
) -> str:
    """Say who wins by how much, or why nobody does and what would help.

    Args:
        decided: the verdict, whose reason is not known yet.
        model: the means.
        rival: the arm that is hardest to tell apart from the best one; None for one arm.
        lead: its difference to the best arm, with the interval of the t test.
        direction: as in the verdict.
    """
    if rival is None or lead is None:
        sentences = _without_comparison(decided)
    else:
        sentences = _leading(decided, model, rival, lead, direction)
    return " ".join([*sentences, *_of_reference(decided), *_of_diverged(decided)])


def interval_text(difference: "Difference") -> str:
    """Write the interval of a difference alone: `[+0.021, +0.069]`; `–` for an infinite one."""
    if not math.isfinite(difference.high - difference.low):
        return "–"
    places = decimals((difference.high - difference.low) / 2)
    return f"[{difference.low:+.{places}f}, {difference.high:+.{places}f}]"


def difference_texts(decided: "Verdict", arm: str) -> list[str]:
    """Write the difference of an arm to the best: over seeds if they have intervals, then over held-out sentences.

    The interval over sentences stands alone beside the one over seeds, since both are about the same difference.
    """
    by_seeds, by_text = decided.differences.get(arm), decided.text_differences.get(arm)
    told = []
    if decided.has_intervals:
        told.append("" if by_seeds is None else difference_text(by_seeds))
    if decided.text_differences:
        write = interval_text if decided.has_intervals else difference_text
        told.append("" if by_text is None else write(by_text))
    return told


def sentences_text(decided: "Verdict") -> list[str]:
    """Name the arms that seeds tell apart, but whose interval over held-out sentences includes 0."""
    unsure = {
        arm: found
        for arm, found in decided.text_differences.items()
        if decided.differences[arm].is_told_apart and not found.is_told_apart
    }
    if not unsure:
        return []
    found = next(iter(unsure.values()))
    shown = f", {interval_text(found)}," if len(unsure) == 1 and math.isfinite(found.high - found.low) else ""
    whose = f"the interval{'s' * (len(unsure) > 1)} over held-out sentences for {names_text(list(unsure))}"
    include = "include" if len(unsure) > 1 else "includes"
    return [f"Other held-out sentences may turn this around: {whose}{shown} {include} 0."]


def names_text(names: Sequence[str], *, others: str = "arms") -> str:
    """List names in a sentence; more than three are counted."""
    if len(names) > MAX_NAMES:
        return f"{names[0]} and {len(names) - 1} other {others}"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _leading(
    decided: "Verdict", model: "ArmModel", rival: str, lead: "Difference", direction: Literal["minimize", "maximize"]
) -> list[str]:
    best, second = decided.order[0], rival
    seeds = f"{model.num_seeds[best]} seeds"
    if model.num_seeds[best] != model.num_seeds[second]:
        seeds += f" of {best}, {model.num_seeds[second]} of {second}"
    side = "lower" if direction == "minimize" else "higher"
    gap, interval = _lead_text(lead, decided.level)
    if decided.winner is not None:
        if not model.deviation:
            return [f"{best} is best: {gap} {side} than {second} with each seed."]
        return [f"{best} is best: {gap} {side} than {second} ({interval}, {seeds})."]
    if not model.df or model.num_seeds[best] < 2:
        most = "lowest" if direction == "minimize" else "highest"
        who = f"{best}, which has the {most} mean," if model.df else "each arm"
        shown = f" {best} has the {most} number, {gap} {side} than {second}." if lead.estimate else ""
        told = f"No winner: {who} has one seed, and one seed does not show how much seeds vary."
        return [f"{told}{shown} Run more seeds: seed=1,2,3."]
    if lead.estimate == 0 and not model.deviation:
        return [f"No winner: {names_text(decided.tied)} have equal numbers."]
    together = f" between {names_text(decided.tied)}" if len(decided.tied) > 2 else ""
    told = f"Can't tell yet{together}: {best} is {gap} {side} than {second} ({interval}, {seeds})."
    return [told, _needed(decided)]


def _lead_text(lead: "Difference", level: float) -> tuple[str, str]:
    """Write the lead of the best arm as a positive number, and its interval."""
    flip = -1 if lead.estimate < 0 else 1
    half = (lead.high - lead.low) / 2
    if not math.isfinite(half) or not half:
        return f"{abs(lead.estimate):.4g}", ""
    places = decimals(half)
    low, high = sorted((flip * lead.low, flip * lead.high))
    return f"{abs(lead.estimate):.{places}f}", f"{100 * level:g} % interval {low:.{places}f} to {high:.{places}f}"


def _needed(decided: "Verdict") -> str:
    if decided.seeds_needed is None:
        return "The difference is too small for more seeds to tell."
    more = "1 more seed" if decided.seeds_needed == 1 else f"{decided.seeds_needed:,} more seeds"
    return f"About {more} per arm would show a difference of this size."


def _without_comparison(decided: "Verdict") -> list[str]:
    finite = [arm for arm in decided.order if arm not in decided.diverged]
    if not decided.order:
        return ["No winner: no arm has a number."]
    if not finite:
        return ["No winner: all arms diverged."]
    return [f"No winner: {finite[0]} is the only arm {'without divergence' if decided.diverged else 'with numbers'}."]


def _of_reference(decided: "Verdict") -> list[str]:
    if decided.compared_to is None or decided.compared_to == decided.order[0]:
        return []
    apart = [arm for arm, found in decided.differences.items() if found.is_told_apart]
    told = [f"{arm} by {difference_text(decided.differences[arm])}" for arm in apart]
    if not apart:
        return [f"No arm is told apart from {decided.compared_to}."]
    return [f"Told apart from {decided.compared_to}: {', '.join(told)}."]


def _of_diverged(decided: "Verdict") -> list[str]:
    if not decided.diverged:
        return []
    bad = sum(decided.diverged.values())
    jobs = "1 job" if bad == 1 else f"{bad} jobs"
    return [f"{jobs} of {names_text(list(decided.diverged))} diverged (NaN or infinite), so ranked last, not averaged."]
