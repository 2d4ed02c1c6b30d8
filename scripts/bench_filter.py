"""Benchmark: speed of the default filter, compared with a Python loop over the pairs that drops the same pairs."""

import pyarrow as pa
from bench_turns import options, print_rates, turns

import mtx
from mtx.data.filter.default import DefaultFilter

Pairs = list[tuple[str, str]]
CONTROLS = frozenset(chr(code) for code in range(160) if code < 32 or code >= 127) - set("\t\n\r")


def main() -> None:
    chosen = options(__doc__.split("\n")[0])
    downloader = mtx.compose_datamodule(chosen.source).recipe.downloader
    table = pa.Table.from_batches(downloader.batches("train", {}))
    pairs = list(zip(table["src"].to_pylist(), table["tgt"].to_pylist(), strict=True))
    rules = DefaultFilter()
    counts, expected = by_mtx(rules, table), in_python(rules, pairs)
    assert counts == expected, f"mtx drops {counts}, but plain Python drops {expected}"
    told = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    print(f"mtx and plain Python both keep {table.num_rows - sum(counts.values()):,} pairs and drop: {told or 'none'}")
    contestants = {"mtx": lambda: by_mtx(rules, table), "plain Python": lambda: in_python(rules, pairs)}
    print_rates(turns(contestants, chosen.rounds), table.num_rows)


def by_mtx(rules: DefaultFilter, table: pa.Table) -> dict[str, int]:
    dropped: dict[str, int] = {}
    for _ in rules.apply(table, dropped):
        pass
    return dropped


def in_python(rules: DefaultFilter, pairs: Pairs) -> dict[str, int]:
    """Apply the default rules of `DefaultFilter` pair by pair, and count the dropped pairs by reason."""
    dropped: dict[str, int] = {}
    kept: set[tuple[str, str]] = set()
    for source, target in pairs:
        pair = source.strip(), target.strip()
        reason = reason_to_drop(rules, *pair) or ("duplicate" if pair in kept else None)
        if reason:
            dropped[reason] = dropped.get(reason, 0) + 1
        else:
            kept.add(pair)
    return dropped


def reason_to_drop(rules: DefaultFilter, source: str, target: str) -> str | None:
    if not (CONTROLS.isdisjoint(source) and CONTROLS.isdisjoint(target)):
        return "control_characters"
    if not source:
        return "empty_source"
    if not target:
        return "empty_target"
    least, most = sorted((len(source), len(target)))
    if least < (rules.min_chars or 0):
        return "too_short"
    if rules.max_chars is not None and most > rules.max_chars:
        return "too_long"
    if rules.max_ratio is not None and most > rules.max_ratio * max(least, rules.ratio_floor_chars):
        return "length_ratio"
    return "identical" if source == target else None


if __name__ == "__main__":
    main()
