"""`SpilledHashes`: sorted 128-bit hashes in unnamed temporary files, so that they take no memory."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtx.infra.dal.atomic_file import convert_disk_errors
from mtx.infra.dal.column_file import ColumnFile

Hashes = NDArray[np.uint64]  # [n, 2], the two halves of 128-bit hashes


class SpilledHashes:
    """Runs of ascending hashes in files without a name, which the operating system removes with the process.

    The first halves of a run are in one file and the second halves in another, so that a search reads only one half.

    Args:
        folder: the folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: list[tuple[Hashes, Hashes]] = []

    def add_run(self, num_hashes: int, parts: Iterable[Hashes]) -> None:
        """Write a run, given its number of hashes and its parts, which ascend within and across parts.

        Raises StoreError if the disk refuses the write.
        """
        with convert_disk_errors(self._folder), ColumnFile(self._folder) as first, ColumnFile(self._folder) as second:
            for part in parts:
                first.append(part[:, 0])
                second.append(part[:, 1])
            self._runs.append((first.values(np.uint64), second.values(np.uint64)))
        assert len(self._runs[-1][0]) == num_hashes

    def contain(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Return which of n hashes are in a run: bool [n]. Fast if the hashes ascend."""
        found = np.zeros(len(hashes), dtype=np.bool_)
        for first, second in self._runs:
            pending = np.flatnonzero(~found)
            places = np.searchsorted(first, hashes[pending, 0])
            while len(pending):  # more than one round only for different hashes with one first half
                inside = places < len(first)
                pending, places = pending[inside], places[inside]
                alike = first[places] == hashes[pending, 0]
                pending, places = pending[alike], places[alike]
                is_equal = second[places] == hashes[pending, 1]
                found[pending[is_equal]] = True
                pending, places = pending[~is_equal], places[~is_equal] + 1
        return found
