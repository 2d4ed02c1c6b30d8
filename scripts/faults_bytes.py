"""Flip one bit in every byte of a store, one byte at a time, and count how many flips `task=verify` detects."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
from faults_store import Child, ask, look, store_at

from mtx.data.dataset import TranslationDataset
from mtx.data.store import Store
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.verify import verify_store
from mtx.errors import StoreError


@dataclass
class Flips:
    """Counts of flipped bytes in one kind of file.

    Attributes:
        tried: bytes that were changed.
        found: changed bytes that mtx detected, with an error message of mtx.
        unused: changed bytes that were not detected but hold no data, such as free pages of SQLite: all content reads
            as before.
        missed: changed bytes that were not detected although the content changed, as file name and offset; must be
            empty.
        unclear: changed bytes that raised an error which is not one of mtx's errors; must be empty.
    """

    tried: int = 0
    found: int = 0
    unused: int = 0
    missed: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return len(self.missed) + len(self.unclear)

    def add(self, other: "Flips") -> None:
        """Add the counts of another file."""
        self.tried += other.tried
        self.found += other.found
        self.unused += other.unused
        self.missed += other.missed
        self.unclear += other.unclear


def small_store(option: str, root: Path) -> Path:
    """Create a very small store with texts, token ids and a tokenizer, because each flipped byte costs a full check."""

    def fill() -> None:
        store = store_at(option, root)
        shared = {"name": "small", "split": "train", "languages": ("en", "de")}
        texts = pa.table({"src": ["a house", "ä", ""], "tgt": ["ein Haus", "ß\u2028", "x"]})
        raw = store.repo.add(TranslationDataset(stage="raw", data=texts, **shared))
        ids = pa.array([[1, 2, 2**16 - 1], [], [7]], type=pa.large_list(pa.uint16()))
        encoded = pa.table({"source_ids": ids, "target_ids": ids, "num_target_bytes": [8, 5, 1]})
        store.repo.add(TranslationDataset(stage="encoded", data=encoded, **shared))
        tokenization = BPETokenization(vocab_size=261).train(raw)
        store.tokenizers.get_or_build(
            "tokenizer-1", lambda folder: tokenization.at(folder / "tokenizer.json").save(), {"stage": "tokenizer"}
        )

    ask(fill)
    return root


def kind_of(path: Path) -> str:
    """Return the kind of a file in a store, such as `manifests (.json)`."""
    if path.parent.parent.name in ("tokenizers", "words"):
        return f"{path.parent.parent.name}: {'manifest' if path.name == 'manifest.json' else 'files'}"
    if path.parent.name == "manifests":
        return "manifests (.json)"
    if path.name.startswith("manifests."):
        return f"manifests ({path.name.removeprefix('manifests')})"
    return f"payload ({path.suffix})" if path.parent.name.startswith("datasets") else path.name


def flip_all(option: str, root: Path, random: np.random.Generator, every: int = 1) -> dict[str, Flips]:
    """Flip one bit of each byte of each file in a store (or of one byte in `every`), and check the store each time.

    Returns the counts by kind of file. Each file is restored afterwards.
    """
    flips: dict[str, Flips] = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"):
        offsets = np.flatnonzero(random.random(path.stat().st_size) < 1 / every)
        bits = random.integers(8, size=len(offsets))
        child = Child(lambda say, path=path, at=(offsets, bits): say(_encoded(_flip(option, root, path, *at))))
        lines = child.lines()
        found = _decoded(lines[-1]) if child.status == 0 else Flips(unclear=[f"{path.name}: {child.status} {lines}"])
        flips.setdefault(kind_of(path), Flips()).add(found)
    return flips


def _flip(option: str, root: Path, path: Path, offsets: np.ndarray, bits: np.ndarray) -> Flips:
    before = look(store_at(option, root))
    assert not before.damaged, before.damaged
    original = path.read_bytes()
    flips = Flips(tried=len(offsets))
    try:
        for offset, bit in zip(offsets.tolist(), bits.tolist(), strict=True):
            changed = bytearray(original)
            changed[offset] ^= 1 << bit
            path.write_bytes(changed)
            try:
                found = _finds(store_at(option, root))
            except Exception as error:
                flips.unclear.append(f"{path.name} byte {offset}: {type(error).__name__}: {error}")
                continue
            if found:
                flips.found += 1
            elif look(store_at(option, root)).content == before.content:
                flips.unused += 1
            else:
                flips.missed.append(f"{path.name} byte {offset} bit {bit}")
    finally:
        path.write_bytes(original)
    return flips


def _finds(store: Store) -> bool:
    try:
        return bool(verify_store(store, full=True).findings)
    except StoreError:  # mtx reports that the whole store is unusable, so the change is detected
        return True


def _encoded(flips: Flips) -> str:
    return json.dumps(vars(flips))


def _decoded(line: str) -> Flips:
    return Flips(**cast(dict[str, int], json.loads(line)))  # type: ignore[arg-type]
