"""Plant noise of known kinds into a corpus, and measure with experiment=worth_of_rules which rules gain, and how much.

    scripts/bench_rule_worth                                  corpus.en-de.jsonl.gz of ../shared/data
    scripts/bench_rule_worth --corpus FILE --out FOLDER
    scripts/bench_rule_worth --real-tokens 50000 --seeds 1,2  a first look
    scripts/bench_rule_worth --plan                           write the corpus and print the command, no training

The noise replaces pairs of the training split. Held-out pairs are other pairs of the corpus, without noise. A rule that
finds planted noise should gain, and the others should not be told apart from no effect. All jobs train on equally many
tokens, so other work on the machine changes no result. Arguments after -- go to mtx.
"""

import argparse
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from mtx.data.score.planted_noise import planted_noise
from mtx.infra.dataset.sources.local import LocalDownloader

ROOT = Path(__file__).resolve().parents[1]
EN_DE = "corpus.en-de.jsonl.gz"
KINDS = ("copied", "mojibake")  # each is found by one rule alone: copy and mojibake
RULES = ("mojibake", "copy", "digits", "length_z")
# No controls: a training of less than an epoch reads a part of the pairs, so a random drop changes only their order.
ARMS = ("all", "none", *(f"without_{rule}" for rule in RULES))
RULES_OFF = ("letters", "markup", "repetition")  # find none of this noise; fewer arms leave time for more seeds
HELD_OUT, NOISE_SEED = 500, 1
SHARE = 0.2  # of the training pairs


def write_corpora(corpus: Path, folder: Path, kinds: list[str], share: float, num_pairs: int | None) -> dict[str, int]:
    """Write the training pairs with noise, and the held-out pairs, and return the number of bad pairs of each kind."""
    pairs = pa.Table.from_pylist(list(LocalDownloader(path=str(corpus), n=num_pairs).download())).select(["src", "tgt"])
    order = np.random.default_rng(NOISE_SEED).permutation(len(pairs))
    held_out, pool = pairs.take(np.sort(order[:HELD_OUT])), pairs.take(np.sort(order[HELD_OUT:]))
    rows = {number: (pair["src"], pair["tgt"]) for number, pair in enumerate(pool.to_pylist())}
    per_kind = round(share * len(pool) / len(kinds))
    counts, changed = {}, set()
    for kind, planted in planted_noise(pool, per_kind=2 * per_kind, seed=NOISE_SEED, kinds=kinds).items():
        free = [place for place, row in enumerate(planted.rows.tolist()) if row not in changed][:per_kind]
        texts = planted.pairs.take(free).to_pylist()
        rows |= {int(planted.rows[place]): (pair["src"], pair["tgt"]) for place, pair in zip(free, texts, strict=True)}
        changed |= {int(planted.rows[place]) for place in free}
        counts[kind] = len(free)
    _write(folder / "train.jsonl.gz", rows.values())
    _write(folder / "validation.jsonl.gz", ((pair["src"], pair["tgt"]) for pair in held_out.to_pylist()))
    print(f"{len(rows):,} training pairs in {folder}, of which {sum(counts.values()):,} are planted noise: {counts}")
    return counts


def _write(path: Path, pairs) -> None:  # type: ignore[no-untyped-def]  # an iterable of two texts
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        file.writelines(f"{json.dumps({'src': src, 'tgt': tgt}, ensure_ascii=False)}\n" for src, tgt in pairs)


def command(given: argparse.Namespace) -> list[str]:
    """Return the command of the experiment."""
    out = given.out
    files = f"{{train: {out}/train.jsonl.gz, validation: {out}/validation.jsonl.gz}}"
    return [
        *("experiment=worth_of_rules", "downloader=local", f"downloader.path={files}", f"storage.root={out}/store"),
        "filter.before.drop_identical=false",  # which would leave nothing to the rule copy
        *(f"filter.rules.{rule}=null" for rule in RULES_OFF),
        *("tokenizer.vocab_size=2000", "sampler.max_tokens=1024", "trainer=cpu", "datamodule.num_workers=0"),
        f"filter.ablation={given.arms}",
        *("task.translations=0", "task.contrastive_pairs=0", f"seed={given.seeds}", f"hydra.sweep.dir={out}/sweep"),
        *("budget.seconds=null", f"budget.real_tokens={given.real_tokens}"),
        *(["launcher=joblib", f"hydra.launcher.n_jobs={given.jobs}"] if given.jobs > 1 else []),
        *given.more,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    places = [parent / "shared" / "data" / EN_DE for parent in ROOT.parents]
    parser.add_argument("--corpus", type=Path, default=next((path for path in places if path.is_file()), None))
    parser.add_argument("--pairs", type=int, help="read at most this many pairs")
    parser.add_argument("--out", type=Path, default=Path("rule_worth"), help="folder for the corpus, store and sweep")
    parser.add_argument("--share", type=float, default=SHARE, help="share of the training pairs that become noise")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of noise, in equal shares")
    parser.add_argument("--real-tokens", type=int, default=200_000, help="training of each job, both sides")
    parser.add_argument("--arms", default=",".join(ARMS), help="values of filter.ablation")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--jobs", type=int, default=2, help="jobs side by side, each on one core")
    parser.add_argument("--plan", action="store_true", help="only check the config, and print the command")
    parser.add_argument("more", nargs="*", help="more overrides, after --")
    given = parser.parse_args()
    if given.corpus is None:
        sys.exit(f"There is no {EN_DE} in ../shared/data. Name a corpus with --corpus FILE")
    given.out = given.out.resolve()
    given.out.mkdir(parents=True, exist_ok=True)
    write_corpora(given.corpus, given.out, given.kinds.split(","), given.share, given.pairs)
    arguments = command(given)
    print("mtx " + " ".join(f"'{text}'" if set(text) & set("{}[] ") else text for text in arguments), flush=True)
    if given.plan:
        return
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "mtx", *arguments], check=False)
    print(f"the whole command took {(time.perf_counter() - started) / 60:.1f} minutes")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
