"""A mixture: several sources as one training set, each with a cap and a share of an epoch.

This module only describes the mixture. Each source is stored separately, under the same id as without the mixture. The
pairs of all sources pass through one filter (`mtx.data.concatenated_corpus`), and each pair keeps the number of its
source. The sampler draws epochs from the sources (`plan/mixture.py`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, ClassVar

import pyarrow as pa
from pydantic import Field

from mtx.components.checked_options import Count, component
from mtx.components.identity import JSON, class_identity, digest
from mtx.errors import ConfigError, SourceError, choices
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.pair_stream import first_pairs
from mtx.infra.dataset.sources.named_sources import check_name, downloader_of, named_errors

CONFIG_KEY = "downloader.sources"
SPLITS = ("train", "validation", "test")
UNKNOWN_LANGUAGES = ("src", "tgt")  # the languages of a source that does not state its languages
Positive = Annotated[float, Field(gt=0)]
Word = Annotated[str, Field(min_length=1)]
Sources = Annotated[  # each value is a SourceConfig, which `__post_init__` checks
    Mapping[Any, Any],
    Field(description="a file or options for the name of each source, such as {news: FILE, web: FILE}"),
]
Weights = Annotated[
    Mapping[str, Positive], Field(description="a number above 0 for each source, such as {news: 1, web: 3}")
]
Caps = Annotated[Mapping[str, Count], Field(description="a number of pairs for sources, such as {web: 1000}")]
Languages = Annotated[tuple[Word, Word], Field(strict=False, description="two names, such as [en,mul]")]
MAX_SOURCES = 2**16 - 1  # a pair stores the number of its source in 16 bits


@component("downloader")
class MixtureDownloader(Downloader):
    """Reads several sources one after another, in the given order.

    A split of the mixture contains that split of all its sources. Only if no source has a validation (or test) split,
    pairs of the training set are held out for that split.

    With `weights` or `temperature`, an epoch draws `epoch_pairs` pairs, and each source contributes exactly its share.
    If a source has more pairs than its share, each epoch draws other pairs, until all pairs were drawn. If a source has
    fewer pairs, an epoch repeats pairs. Without both options, an epoch contains every pair once.

    Args:
        sources: for each name: a file, the options of a `LocalDownloader`, or a downloader. If several sources contain
            the same pair and `filter.drop_duplicates` is on, only the first source keeps the pair.
        weights: relative share of each source in an epoch, by name; only the ratios matter.
        temperature: instead of `weights`: shares in proportion to (training pairs)^(1 / temperature). The value 1 keeps
            the proportions of the sizes, 5 increases the shares of small sources, and 100 gives almost equal shares
            (Arivazhagan et al. 2019, arXiv 1907.05019).
        epoch_pairs: number of pairs in an epoch, with `weights` or `temperature`. None: the number of training pairs.
        caps: maximum number of training pairs of a source, by name; the first pairs are used. All pairs are read and
            stored, so another cap needs no new download. A source's own `n` limits what is read.
        n: take only the first n training pairs of each source that has no own `n`. None: all pairs.
        languages: names of the source and target language of the mixture, for sources with different languages, such as
            `[en, mul]`. None: all sources must have the same languages.
        name: name of the mixture in tables and reports. None: the names of the sources, joined by +.
    """

    kind: ClassVar[str] = "downloader/mixture"
    version: ClassVar[int] = 1

    sources: Sources | None = None
    weights: Weights | None = None
    temperature: Positive | None = None
    epoch_pairs: Count | None = None
    caps: Caps | None = None
    n: Count | None = None
    languages: Languages | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.sources, Mapping) or not 0 < len(self.sources) <= MAX_SOURCES:
            raise ConfigError(
                f"{CONFIG_KEY} must name at least one source, but is {self.sources!r}. "
                f"Set '{CONFIG_KEY}={{news: FILE, web: FILE}}'"
            )
        made = {}
        for name, config in self.sources.items():
            check_name(name, CONFIG_KEY, f"+{CONFIG_KEY}.news=FILE")
            made[name] = downloader_of(config, f"{CONFIG_KEY}.{name}", f"the source {name!r}")
            if isinstance(made[name], MixtureDownloader):
                raise ConfigError(
                    f"{CONFIG_KEY}.{name} must not be a mixture itself. List the sources of {name} in {CONFIG_KEY}, "
                    "each with its weight"
                )
            made[name] = self._limited_part(name, made[name])
        object.__setattr__(self, "sources", made)
        if problems := list(self._problems()):
            raise ConfigError("\n".join(problems))

    @property
    def parts(self) -> dict[str, Downloader]:
        """The sources by name, in the configured order."""
        return {name: part for name, part in (self.sources or {}).items() if isinstance(part, Downloader)}

    @property
    def is_weighted(self) -> bool:
        """Whether an epoch draws pairs by `weights` or `temperature`."""
        return self.weights is not None or self.temperature is not None

    def with_parts(self, change: Callable[[Downloader], Downloader]) -> "MixtureDownloader":
        """Return a copy in which each source is replaced by the result of `change` for that source."""
        return replace(self, sources={name: change(part) for name, part in self.parts.items()})

    @property
    def sampling(self) -> dict[str, JSON]:
        """The options that decide how often an epoch draws pairs of each source, as plain values."""
        weights: JSON = None if self.weights is None else {name: float(value) for name, value in self.weights.items()}
        return {"weights": weights, "temperature": self.temperature, "epoch_pairs": self.epoch_pairs}

    def info(self) -> SourceInfo:
        """Return the description of the mixture, from the descriptions of all sources.

        Raises SourceError if a source cannot be read, and ConfigError if the sources do not fit together.
        """
        infos = self.part_infos
        parts: list[JSON] = [{"name": name, "source": dict(info.identity)} for name, info in infos.items()]
        return SourceInfo(
            name=self.name or "+".join(infos),
            languages=self._common_languages(),
            revision=f"mixture:{digest({name: info.revision for name, info in infos.items()})}",
            identity={
                **class_identity(type(self)),
                "parts": parts,
                "caps": dict(self.caps or {}),
                "languages": list(self._common_languages()),
            },
            splits=tuple(split for split in SPLITS if any(split in info.splits for info in infos.values())),
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Yield one split of all sources, one source after another, each up to its cap. Raises SourceError."""
        splits = self.info().splits
        if split not in splits:
            raise SourceError(f"no source of the mixture has a split {split!r}; present: {choices(split, splits)}")
        for name, part in self.parts.items():
            if split in self.part_infos[name].splits:
                with self.named_errors(name):
                    yield from first_pairs(part.batches(split, counts), self.cap(name, split))

    def cap(self, name: str, split: str) -> int | None:
        """Return the maximum number of pairs taken from a split of the source `name`; None: all pairs."""
        return (self.caps or {}).get(name) if split == "train" else None

    def named_errors(self, name: str) -> AbstractContextManager[None]:
        """Return a context manager that adds the name of the source and its config keys to errors raised inside."""
        return named_errors(f"{CONFIG_KEY}.{name}", f"the source {name!r}")

    @cached_property
    def part_infos(self) -> dict[str, SourceInfo]:
        """The description of each source, by name. Raises SourceError, or ConfigError if two sources are the same."""
        infos: dict[str, SourceInfo] = {}
        seen: dict[str, str] = {}
        for name, part in self.parts.items():
            with self.named_errors(name):
                infos[name] = part.info()
            first = seen.setdefault(digest(infos[name].identity), name)
            if first != name:
                raise ConfigError(
                    f"the sources {first!r} and {name!r} of the mixture are the same: {infos[name].name}, "
                    f"{infos[name].revision}. Remove one from {CONFIG_KEY}; to draw more pairs of a source, set a "
                    "higher weight in downloader.weights"
                )
        return infos

    def _limited_part(self, name: str, part: Downloader) -> Downloader:
        """Return the source limited to its first n pairs, if it has no own limit.

        Raises ConfigError if it has no option n.
        """
        source: Any = part  # a user-defined downloader may have other fields
        if self.n is None or getattr(source, "n", None) is not None:
            return part
        if not hasattr(source, "n"):
            raise ConfigError(
                f"downloader.n needs sources with an option n, but {CONFIG_KEY}.{name}, a {type(part).__name__}, has "
                f"no option n. Set downloader.n=null, and limit single sources with +{CONFIG_KEY}.NAME.n=COUNT or "
                "+downloader.caps.NAME=COUNT"
            )
        limited: Downloader = replace(source, n=self.n)
        return limited

    def _common_languages(self) -> tuple[str, str]:
        """Return the languages of the mixture.

        Raises ConfigError if the sources' languages differ and none are configured.
        """
        if self.languages is not None:
            return self.languages
        named = {name: info.languages for name, info in self.part_infos.items() if info.languages != UNKNOWN_LANGUAGES}
        if not named:
            return UNKNOWN_LANGUAGES
        if len(set(named.values())) > 1:
            told = "; ".join(f"{name}: {' to '.join(languages)}" for name, languages in named.items())
            raise ConfigError(
                f"all sources of a mixture must have the same languages, but these differ: {told}. Swap the sides of a "
                f"source with {CONFIG_KEY}.NAME.source_column and target_column, or source_language and "
                "target_language; to mix languages, name the result with 'downloader.languages=[en,mul]'"
            )
        return next(iter(named.values()))

    def _problems(self) -> Iterator[str]:
        """Yield a description of each invalid field, with its config key."""
        if self.weights is not None and self.temperature is not None:
            yield "downloader.weights and downloader.temperature exclude each other. Set one of them to null"
        for key in ("weights", "caps"):
            for name in getattr(self, key) or {}:
                if name not in self.parts:
                    yield f"downloader.{key} has {name!r}, which is not a source; present: {choices(name, self.parts)}"
        if self.weights is not None and (missing := [name for name in self.parts if name not in self.weights]):
            yield f"downloader.weights must name all sources, but lacks {', '.join(missing)}. Add a weight above 0"
        if self.epoch_pairs is not None and not self.is_weighted:
            yield (
                "downloader.epoch_pairs needs downloader.weights or downloader.temperature, because an epoch contains "
                "every pair once without them. Set downloader.temperature=1 to keep the proportions of the sources"
            )
