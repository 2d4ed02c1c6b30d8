"""Directions of translation: each source as one part for each direction, such as `en-de` and `de-en`, from one text.

A direction is written as two codes of languages with a hyphen, the source first. A part in the direction of its source
is the source itself, so it is stored once, with and without directions. A part in the other direction has swapped
sides.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated

import pyarrow as pa
from pydantic import Field

from mtx.assumption_log import assume
from mtx.components.identity import JSON, digest
from mtx.errors import ConfigError, SourceError, choices
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.language_names import SIDES, likeness
from mtx.infra.dataset.pair_stream import first_pairs
from mtx.infra.dataset.piece_reader import Batches, PieceReader, SwappedReader, swapped_sides
from mtx.infra.dataset.sources.mixture import SPLITS

CONFIG_KEY = "datamodule.directions"
SWAPPED = "swapped"  # the key of an identity that says that sides are swapped
SEVERAL_LANGUAGES = "mul"  # the code of ISO 639-2 for several languages
UNKNOWN = frozenset(SIDES)
Directions = Annotated[
    tuple[str, ...], Field(strict=False, min_length=1, description="pairs of languages, such as [en-de, de-en]")
]
Direction = tuple[str, str]  # codes of source and target language


def parsed_directions(names: Sequence[str]) -> tuple[Direction, ...]:
    """Return the directions of names such as `en-de`.

    Raises ConfigError if a name is not of two codes with a hyphen, or if two names are the same direction.
    """
    found: list[Direction] = []
    for name in names:
        codes = name.strip().split("-")
        if len(codes) != 2 or not all(codes) or any(not code.replace("_", "").isalnum() for code in codes):
            raise ConfigError(
                f"{CONFIG_KEY} has directions of two languages with a hyphen, but has {name!r}. Write a territory with "
                f"an underscore: '{CONFIG_KEY}=[en-pt_BR,pt_BR-en]'"
            )
        direction = (codes[0], codes[1])
        if _are_like(direction, direction[::-1]):
            raise ConfigError(
                f"{CONFIG_KEY} has directions between two languages, but has {name!r}. Set '{CONFIG_KEY}=[en-de,de-en]'"
            )
        if (same := next((one for one in found if _are_like(one, direction)), None)) is not None:
            raise ConfigError(
                f"{CONFIG_KEY} names each direction once, but has {direction_name(same)} and {name.strip()}. Remove one"
            )
        found.append(direction)
    return tuple(found)


def direction_name(direction: Direction) -> str:
    """Return the name of a direction, such as `en-de`."""
    return "-".join(direction)


def matching_direction(languages: Direction, directions: Sequence[Direction]) -> Direction | None:
    """Return the first of some directions that has these languages; None if none has.

    Raises ConfigError for languages such as `en` and `zh`, if directions are `en-zh_Hans` and `en-zh_Hant`.
    """
    found = [each for each in directions if _are_like(languages, each)]
    if other := next((each for each in found if not _are_like(each, found[0])), None):
        raise ConfigError(_ambiguous(languages, found[0], other))
    return next(iter(found), None)


def _ambiguous(languages: Direction, one: Direction, other: Direction) -> str:
    return (
        f"{direction_name(languages)} may be {direction_name(one)} or {direction_name(other)}, which are different "
        f"directions. Name the languages as exactly, or leave one of the two out of {CONFIG_KEY}"
    )


def is_both_ways(directions: Sequence[Direction]) -> bool:
    """Return whether two of the directions are opposite."""
    return any(_are_like(one[::-1], other) for one in directions for other in directions)


def first_of_pair(direction: Direction, directions: Sequence[Direction]) -> Direction:
    """Return that of a direction and its opposite which comes first in `directions`."""
    return next(each for each in directions if _are_like(each, direction) or _are_like(each[::-1], direction))


def _are_like(one: Direction, other: Direction) -> bool:
    """Return whether two directions have the same languages; an unknown language is like any."""
    return all(a in UNKNOWN or b in UNKNOWN or bool(likeness(a, b)) for a, b in zip(one, other, strict=True))


@dataclass(frozen=True)
class DirectedDownloader(Downloader):
    """One source in one direction.

    Args:
        source: the source.
        direction: the languages, of which the first is read as the source side.
        assumed: the languages of a source that does not state its own; None: it must state both.
    """

    source: Downloader
    direction: Direction
    assumed: Direction | None = None

    @property
    def original(self) -> Downloader:
        """The source itself."""
        return self.source.original

    def info(self) -> SourceInfo:
        """Return the description in this direction. Raises SourceError, or ConfigError for other languages."""
        info = self.source.info()
        languages = self._languages(info)
        named = info if languages == info.languages else _with_languages(info, languages)
        if _are_like(languages, self.direction):
            return named
        if not _are_like(languages[::-1], self.direction):
            known = direction_name(languages), direction_name((languages[1], languages[0]))
            raise ConfigError(
                f"{CONFIG_KEY} has {direction_name(self.direction)}, but {info.name} has the languages "
                f"{' and '.join(languages)}. Set '{CONFIG_KEY}=[{','.join(known)}]', or name other languages with "
                "downloader.source_language and downloader.target_language"
            )
        return replace(
            named,
            languages=(languages[1], languages[0]),
            identity={**named.identity, SWAPPED: True},
            provenance={**named.provenance, SWAPPED: True},
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Yield one split of the source, with swapped sides in the other direction. Raises SourceError."""
        batches = self.source.batches(split, counts)
        return swapped_sides(batches) if self._is_swapped else batches

    def piece_reader(self, split: str, piece_bytes: int) -> PieceReader | None:
        """Return what reads pieces of the source, with swapped sides in the other direction."""
        reader = self.source.piece_reader(split, piece_bytes)
        return SwappedReader(reader) if reader is not None and self._is_swapped else reader

    def joined_pieces(self, split: str, batches: Batches, counts: dict[str, int]) -> Batches:
        """Yield the pairs of all pieces, after the checks of the source."""
        return self.source.joined_pieces(split, batches, counts)

    @property
    def _is_swapped(self) -> bool:
        return not _are_like(self._languages(self.source.info()), self.direction)

    def _languages(self, info: SourceInfo) -> Direction:
        if UNKNOWN.isdisjoint(info.languages):
            return info.languages
        if self.assumed is None:
            raise ConfigError(
                f"{info.name} does not state both languages, so {CONFIG_KEY} cannot choose a direction. Name them with "
                "downloader.source_language and downloader.target_language"
            )
        found = [way for way in (self.assumed, self.assumed[::-1]) if _are_like(info.languages, way)]
        if not found:
            return info.languages
        if len(found) > 1:
            assume(
                f"the first side of {info.name} is {found[0][0]}, and the second {found[0][1]}, as in {CONFIG_KEY}, "
                "because it does not state its languages. Name them with downloader.source_language and "
                "downloader.target_language"
            )
        return found[0]


def _with_languages(info: SourceInfo, languages: Direction) -> SourceInfo:
    return replace(info, languages=languages, identity={**info.identity, "languages": list(languages)})


@dataclass(frozen=True)
class DirectionsDownloader(Downloader):
    """Reads each source once for each direction that its languages have; the directions are parts, as in a mixture.

    A part is named by its direction; a part of a mixture by the source and the direction, such as `web-en-de`.

    Args:
        source: a single source or a mixture.
        directions: the directions, each of which at least one source has.
        stored: the names of the parts, if they are known from stored datasets; None: from the languages of the sources.
    """

    source: Downloader
    directions: tuple[Direction, ...]
    stored: tuple[str, ...] | None = field(default=None, compare=False)

    @property
    def parts(self) -> Mapping[str, Downloader]:
        """The sources in their directions by name, in the order of the sources and then of the directions."""
        return {name: part for name, (_, part) in self._directed.items()}

    @property
    def part_directions(self) -> Mapping[str, Direction]:
        """The direction of each part by its name."""
        return {name: part.direction for name, (_, part) in self._directed.items()}

    @cached_property
    def part_infos(self) -> Mapping[str, SourceInfo]:
        """The description of each part by its name.

        Raises SourceError. Raises ConfigError if two directions would have the same pairs of a source.
        """
        found = {}
        seen: dict[tuple[str, Direction], Direction] = {}
        for name, (of, part) in self._directed.items():
            with self.named_errors(name):
                found[name] = part.info()
                languages = found[name].languages
                if (same := seen.setdefault((of, languages), part.direction)) != part.direction:
                    raise ConfigError(_ambiguous(languages, same, part.direction))
        return found

    @property
    def is_weighted(self) -> bool:
        """Whether an epoch draws pairs by the weights of the sources."""
        return self.source.is_weighted

    @property
    def sampling(self) -> dict[str, JSON]:
        """The options that decide how often an epoch draws pairs; each direction has the weight of its source."""
        options = dict(self.source.sampling)
        if isinstance(weights := options.get("weights"), dict):
            options["weights"] = {name: weights[of] for name, (of, _) in self._directed.items()}
        return options

    def cap(self, name: str, split: str) -> int | None:
        """Return the maximum number of pairs of a part, which is that of its source."""
        return self.source.cap(self._directed[name][0], split)

    def named_errors(self, name: str) -> AbstractContextManager[None]:
        """Return a context manager that adds the name of the part's source to errors raised inside."""
        return self.source.named_errors(self._directed[name][0])

    def with_parts(self, change: Callable[[Downloader], Downloader]) -> "DirectionsDownloader":
        """Return a copy in which each source is replaced by the result of `change`."""
        return replace(self, source=self.source.with_parts(change))

    def with_stored_parts(self, names: Collection[str]) -> "DirectionsDownloader":
        """Return a copy whose parts are those with stored datasets; see `Downloader.with_stored_parts`."""
        return replace(self, stored=tuple(names))

    def info(self) -> SourceInfo:
        """Return the description of all parts together; a side with several languages has the language `mul`."""
        infos = self.part_infos
        sides = [list(dict.fromkeys(info.languages[side] for info in infos.values())) for side in (0, 1)]
        source, target = (codes[0] if len(codes) == 1 else SEVERAL_LANGUAGES for codes in sides)
        parts: list[JSON] = [{"name": name, "source": dict(info.identity)} for name, info in infos.items()]
        return SourceInfo(
            name=self.source.info().name if len(self.source.parts) == 1 else "+".join(infos),
            languages=(source, target),
            revision=f"directions:{digest({name: info.revision for name, info in infos.items()})}",
            identity={"kind": "directions", "version": 1, "parts": parts},
            splits=tuple(split for split in SPLITS if any(split in info.splits for info in infos.values())),
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Yield one split of all parts, one after another, each up to the cap of its source. Raises SourceError."""
        if split not in (splits := self.info().splits):
            raise SourceError(f"no source has a split {split!r}; present: {choices(split, splits)}")
        for name, part in self.parts.items():
            if split in self.part_infos[name].splits:
                yield from first_pairs(part.batches(split, counts), self.cap(name, split))

    @cached_property
    def _directed(self) -> dict[str, tuple[str, DirectedDownloader]]:
        """The name of its source, and the part, of each part by name."""
        assumed = self.directions[0] if len(self.directions) == 1 else None
        found: dict[str, tuple[str, DirectedDownloader]] = {}
        for of, source in self.source.parts.items():
            for direction in self.directions:
                name = f"{of}-{direction_name(direction)}" if of else direction_name(direction)
                part = DirectedDownloader(source, direction, assumed)
                if self._has(name, of, part):
                    if name in found:
                        raise ConfigError(
                            f"two sources have the name {name} with {CONFIG_KEY}. Rename one in downloader.sources"
                        )
                    found[name] = (of, part)
        self._check_used(found)
        return found

    def _has(self, name: str, of: str, part: DirectedDownloader) -> bool:
        """Return whether a source has a direction; a single source has all, or `info` of the part raises an error."""
        if self.stored is not None:
            return name in self.stored
        if not of:
            return True
        with self.source.named_errors(of):
            languages = part._languages(self.source.part_infos[of])
        return _are_like(languages, part.direction) or _are_like(languages[::-1], part.direction)

    def _check_used(self, found: Mapping[str, tuple[str, DirectedDownloader]]) -> None:
        """Raise ConfigError if a direction has no source, or a source no direction."""
        used = {part.direction for _, part in found.values()}
        sources = [of for of in self.source.parts if self.stored is None and of]
        present = {of: direction_name(self.source.part_infos[of].languages) for of in sources}
        if unused := [direction_name(each) for each in self.directions if each not in used]:
            told = "; ".join(f"{of}: {languages}" for of, languages in present.items())
            raise ConfigError(
                f"{CONFIG_KEY} has {unused[0]}, but no source has these languages; present: {told}. Remove the "
                "direction, or add a source"
            )
        of_parts = {of for of, _ in found.values()}
        for of, languages in present.items():
            if of not in of_parts:
                raise ConfigError(
                    f"{CONFIG_KEY} has no direction for the source {of!r}, whose languages are {languages}. Add "
                    f"{languages} to it, or remove the source from downloader.sources"
                )
