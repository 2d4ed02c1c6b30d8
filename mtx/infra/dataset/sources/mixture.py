"""Several sources as one: which they are, how much of each is taken, and what share of an epoch each gets.

A mixture only says so. Each source is stored by itself, under the name that it has alone; the pairs of all go through
one filter, each with its source (`mtx.data.corpus`); and an epoch is drawn from them (`plan/mixture.py`).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from mtx.errors import ConfigError, SourceError, choices
from mtx.identity import JSON, digest
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.sources.named import SourceConfig, check_name, downloader_of, named_errors

KEY = "downloader.sources"
SPLITS = ("train", "validation", "test")
UNNAMED = ("src", "tgt")  # languages of sources that do not say theirs
MAX_SOURCES = 2**16 - 1  # a pair's source is a number of 16 bits


@dataclass(frozen=True, kw_only=True)
class MixtureDownloader(Downloader):
    """Reads several sources, one after the other, in the order given.

    A split of the mixture is what its sources have of it, put together. Only where none of them has a validation (or
    test) split is one held out from the training pairs of all.

    With `weights` or a `temperature`, an epoch has `epoch_pairs` servings, of which each source gets its share, exact
    to the pair. Of a source that has more pairs than that, each epoch has others, in turn; the pairs of one that has
    fewer are served several times. Without either, an epoch has every pair once.

    Args:
        sources: by name: a file, the settings of a `LocalDownloader`, or a downloader. Where pairs stand in several
            and `filter.drop_duplicates` is on, the first source keeps them.
        weights: the share of each source in an epoch, by name; only their ratios count.
        temperature: instead: shares in proportion to (training pairs)^(1 / temperature). 1 leaves the sizes as they
            are, 5 lifts small sources, 100 makes all nearly alike (Arivazhagan et al. 2019, arXiv 1907.05019).
        epoch_pairs: servings of an epoch, with `weights` or `temperature`; None: as many as there are training pairs.
        caps: the most training pairs of a source, by name: its first ones. They are read and stored all the same, so
            that another cap costs no download; a source's own `n` reads no more.
        languages: what to call source and target language where those of the sources differ, as in training for many
            languages: `[en, mul]`. None: they have to be the same.
        name: what to call the mixture. None: the sources' names with + between.
    """

    sources: Mapping[str, SourceConfig] | None = None
    weights: Mapping[str, float] | None = None
    temperature: float | None = None
    epoch_pairs: int | None = None
    caps: Mapping[str, int] | None = None
    n: int | None = None
    languages: tuple[str, str] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.sources, Mapping) or not 0 < len(self.sources) <= MAX_SOURCES:
            raise ConfigError(
                f"{KEY} names the sources of a mixture, at least one, but is {self.sources!r}. "
                f"Set '{KEY}={{news: FILE, web: FILE}}'"
            )
        if self.n is not None and not _is_count(self.n):
            raise ConfigError(f"downloader.n is a number of pairs, at least 1, or null, but is {self.n!r}")
        made = {}
        for name, config in self.sources.items():
            check_name(name, KEY, f"+{KEY}.news=FILE")
            made[name] = downloader_of(config, f"{KEY}.{name}", f"the source {name!r}")
            if isinstance(made[name], MixtureDownloader):
                raise ConfigError(f"{KEY}.{name} is a mixture itself. Name its sources in {KEY}, each with its weight")
            made[name] = self._limited(name, made[name])
        object.__setattr__(self, "sources", made)
        if problems := list(self._problems()):
            raise ConfigError("\n".join(problems))
        for key in ("weights", "caps"):
            if getattr(self, key) is not None:
                object.__setattr__(self, key, dict(getattr(self, key)))
        if self.languages is not None:
            object.__setattr__(self, "languages", tuple(self.languages))

    @property
    def parts(self) -> dict[str, Downloader]:
        """The sources by name, in order."""
        return {name: part for name, part in (self.sources or {}).items() if isinstance(part, Downloader)}

    @property
    def is_weighted(self) -> bool:
        """Whether an epoch is drawn from the pairs by weights or temperature."""
        return self.weights is not None or self.temperature is not None

    @property
    def sampling(self) -> dict[str, JSON]:
        """What decides how often a pair is served, in plain values."""
        weights: JSON = None if self.weights is None else {name: float(value) for name, value in self.weights.items()}
        return {"weights": weights, "temperature": self.temperature, "epoch_pairs": self.epoch_pairs}

    def info(self) -> SourceInfo:
        """Ask all sources what they are. Raises SourceError, or ConfigError where they do not go together."""
        infos = self.part_infos
        parts: list[JSON] = [{"name": name, "source": dict(info.identity)} for name, info in infos.items()]
        return SourceInfo(
            name=self.name or "+".join(infos),
            languages=self._agreed(),
            revision=f"mixture:{digest({name: info.revision for name, info in infos.items()})}",
            identity={
                "class": f"{__name__}.MixtureDownloader",
                "version": 1,
                "parts": parts,
                "caps": dict(self.caps or {}),
                "languages": list(self._agreed()),
            },
            splits=tuple(split for split in SPLITS if any(split in info.splits for info in infos.values())),
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream one split of all sources, one after the other, each up to its cap. Raises SourceError."""
        splits = self.info().splits
        if split not in splits:
            raise SourceError(f"no source of the mixture has a split {split!r}; there are: {choices(split, splits)}")
        for name, part in self.parts.items():
            if split not in self.part_infos[name].splits:
                continue
            left = self.cap(name, split)
            with self.named_errors(name):
                for batch in part.batches(split, counts):
                    yield batch.slice(0, left)
                    if left is not None:
                        left -= min(left, batch.num_rows)
                        if not left:
                            break

    def cap(self, name: str, split: str) -> int | None:
        """Return how many pairs of a source's split are taken at most; None: all."""
        return (self.caps or {}).get(name) if split == "train" else None

    def named_errors(self, name: str) -> AbstractContextManager[None]:
        """Let errors raised within say which source it is, and its own keys."""
        return named_errors(f"{KEY}.{name}", f"the source {name!r}")

    @cached_property
    def part_infos(self) -> dict[str, SourceInfo]:
        """What each source is. Raises SourceError, or ConfigError where two are the same."""
        infos: dict[str, SourceInfo] = {}
        seen: dict[str, str] = {}
        for name, part in self.parts.items():
            with self.named_errors(name):
                infos[name] = part.info()
            first = seen.setdefault(digest(infos[name].identity), name)
            if first != name:
                raise ConfigError(
                    f"the sources {first!r} and {name!r} of the mixture are the same: {infos[name].name}, "
                    f"{infos[name].revision}. Leave one out of {KEY}; more of a source is a higher weight in "
                    "downloader.weights"
                )
        return infos

    def _limited(self, name: str, part: Downloader) -> Downloader:
        """Return a source that takes its first n pairs, where it has no such limit of its own. Raises ConfigError."""
        source: Any = part  # one of a user's own may have other fields
        if self.n is None or getattr(source, "n", None) is not None:
            return part
        if not hasattr(source, "n"):
            raise ConfigError(
                f"downloader.n is for sources that have a setting n, but {type(part).__name__}, which is {KEY}.{name}, "
                f"has none. Set downloader.n=null, and limit the others by +{KEY}.NAME.n, or any by downloader.caps"
            )
        limited: Downloader = replace(source, n=self.n)
        return limited

    def _agreed(self) -> tuple[str, str]:
        """Return the languages of all. Raises ConfigError where they differ and the config does not say what to do."""
        if self.languages is not None:
            return self.languages
        named = {name: info.languages for name, info in self.part_infos.items() if info.languages != UNNAMED}
        if not named:
            return UNNAMED
        if len(set(named.values())) > 1:
            told = "; ".join(f"{name}: {' to '.join(languages)}" for name, languages in named.items())
            raise ConfigError(
                f"the sources of a mixture have one source and one target language, but here are {told}. Swap sides "
                f"with {KEY}.NAME.source_column and target_column, or source_language and target_language; where they "
                "are meant to differ, say what to call them: downloader.languages=[en,mul]"
            )
        return next(iter(named.values()))

    def _problems(self) -> Iterator[str]:
        """Say what is wrong with the fields, each with its key."""
        if self.weights is not None and self.temperature is not None:
            yield "downloader.weights and downloader.temperature both give shares of an epoch. Set one of them to null"
        if self.weights is not None:
            yield from self._problems_by_name("weights", self.weights, "a number above 0", _is_positive)
            if isinstance(self.weights, Mapping) and (missing := [n for n in self.parts if n not in self.weights]):
                yield f"downloader.weights names all sources, but not {', '.join(missing)}. Give each a weight above 0"
        if self.temperature is not None and not _is_positive(self.temperature):
            yield (
                f"downloader.temperature is a number above 0, or null, but is {self.temperature!r}. 1 leaves the sizes "
                "of sources as they are, 5 lifts small ones"
            )
        if self.epoch_pairs is not None:
            if not _is_count(self.epoch_pairs):
                yield f"downloader.epoch_pairs is a number of pairs, at least 1, or null, but is {self.epoch_pairs!r}"
            elif not self.is_weighted:
                yield (
                    "downloader.epoch_pairs goes with downloader.weights or downloader.temperature; without them, an "
                    "epoch has every pair once. Set downloader.temperature=1 to keep the proportions of the sources"
                )
        if self.caps is not None:
            yield from self._problems_by_name("caps", self.caps, "a number of pairs, at least 1", _is_count)
        if self.languages is not None and (
            isinstance(self.languages, str) or len(self.languages) != 2 or not all(map(_is_word, self.languages))
        ):
            yield f"downloader.languages are two names, as [en,mul], or null, but are {self.languages!r}"

    def _problems_by_name(self, key: str, values: object, rule: str, fits: Callable[[object], bool]) -> Iterator[str]:
        if not isinstance(values, Mapping):
            yield f"downloader.{key} gives {rule} for each source, as {{news: 1, web: 3}}, but is {values!r}"
            return
        for name, value in values.items():
            if name not in self.parts:
                known = choices(str(name), self.parts)
                yield f"downloader.{key} has {name!r}, which is no source. There are: {known}"
            elif not fits(value):
                yield f"downloader.{key}.{name} is {rule}, but is {value!r}; to have none of it, leave it out of {KEY}"


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(value)
