"""Groups of held-out pairs of a multilingual corpus, by direction or by tag, each of which gets figures of its own."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtx.data.concatenated_corpus import part_key
from mtx.data.direction_tags import part_normaliser
from mtx.data.normalise import Normaliser
from mtx.data.repo import DatasetRepo
from mtx.infra.dataset.download import Downloader
from mtx.infra.dataset.sources.translation_directions import Direction, direction_name


@dataclass(frozen=True)
class LanguageGroup:
    """The parts of a corpus with the same languages and the same tag.

    Attributes:
        name: the direction, such as `en-de`, or the names of the parts, if several groups have the same languages.
        languages: codes of source and target language.
        parts: the indices of the parts in the corpus.
    """

    name: str
    languages: Direction
    parts: tuple[int, ...]

    def has(self, sources: NDArray[np.uint16]) -> NDArray[np.bool_]:
        """Return which pairs belong to the group, from the index of the part of each pair, uint16 [n]: bool [n]."""
        found: NDArray[np.bool_] = np.isin(sources, self.parts)
        return found


def language_groups(
    corpus: Downloader, raw: Mapping[str, str], repo: DatasetRepo, normaliser: Normaliser
) -> list[LanguageGroup]:
    """Return the groups of the parts of a corpus by languages and prefix; none if all parts have the same ones.

    Args:
        corpus: the source of the pairs.
        raw: ids of its raw datasets, by `part_key`.
        repo: the repository that stores them.
        normaliser: has the prefix of each part.
    """
    directions, found = corpus.part_directions, dict[tuple[Direction, str], list[int]]()
    names = list(corpus.parts)
    for number, (name, languages) in enumerate(zip(names, part_languages(corpus, raw, repo), strict=True)):
        prefix = part_normaliser(normaliser, name, directions).source_prefix
        found.setdefault((languages, prefix if isinstance(prefix, str) else ""), []).append(number)
    if len(found) < 2:
        return []
    of_groups = [each for each, _ in found]
    return [
        LanguageGroup(
            direction_name(each) if of_groups.count(each) == 1 else "+".join(names[part] for part in parts),
            each,
            tuple(parts),
        )
        for (each, _), parts in found.items()
    ]


def part_languages(corpus: Downloader, raw: Mapping[str, str], repo: DatasetRepo) -> list[Direction]:
    """Return the direction of each part of a corpus in order: that of `datamodule.directions`, else of its source."""
    directions = corpus.part_directions
    stored = {name: dataset_languages(repo, raw[part_key(name, "train")]) for name in corpus.parts}
    return [directions.get(name, languages) for name, languages in stored.items()]


def dataset_languages(repo: DatasetRepo, dataset_id: str) -> Direction:
    """Return the languages of a dataset, as its source states them."""
    source, target = repo.manifest(dataset_id).languages
    return source, target
