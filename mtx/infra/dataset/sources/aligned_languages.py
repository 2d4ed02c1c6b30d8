"""The languages of two line-aligned files: those that the user's config says, and those that the files' names state."""

import re

from mtx.assumption_log import assume
from mtx.errors import SourceError, override_text
from mtx.infra.dataset.column_detection import DEFAULT_LANGUAGES, RequestedColumns
from mtx.infra.dataset.language_names import language_of_name, likeness
from mtx.infra.dataset.sources.local_files import SourceFile

MAX_LANGUAGE_CHARS = 8  # maximum length of a file's ending that can be a language: en, deu, zh_Hant


def aligned_languages(source: SourceFile, target: SourceFile, wanted: RequestedColumns) -> tuple[str, str]:
    """Return the languages of two line-aligned files: those in `wanted`, or else those that the names state.

    Raises SourceError if the names state the requested languages in the opposite order.
    """
    said = wanted.source_language, wanted.target_language
    first, second = language_in_name(source), language_in_name(target)
    named = _differing_endings(source, target) or (first, second)
    if first is not None and second is not None and not likeness(first, second):
        stated = first, second
        if any(
            language and likeness(other, language) and not likeness(own, language)
            for own, other, language in zip(stated, stated[::-1], said, strict=True)
        ):
            raise _swapped_error(source, target, said, stated)
        for file, own, language, side in zip((source, target), stated, said, ("source", "target"), strict=True):
            if language and not likeness(own, language):
                assume(
                    f"{file.name} is in {language!r}, because downloader.{side}_language says so, though its name "
                    f"says {own!r}. If the name is right, set downloader.{side}_language={own}"
                )
    languages = (said[0] or named[0] or DEFAULT_LANGUAGES[0], said[1] or named[1] or DEFAULT_LANGUAGES[1])
    if None in said and None not in named and languages != DEFAULT_LANGUAGES:
        assume(
            f"the languages are {languages[0]!r} and {languages[1]!r}, by the names of {source.name} and "
            f"{target.name}. For others, set downloader.source_language=NAME downloader.target_language=NAME"
        )
    return languages


def language_in_name(file: SourceFile) -> str | None:
    """Return the language in the last two parts of a file's name, such as `de` in `lamps.de` and `train-de.txt.gz`."""
    for part in reversed(_plain_name(file).split(".")[-2:]):
        words = re.split("[-_]", part)
        if len(words) > 1 and all(map(language_of_name, words)) and part == part.lower():
            return None  # a pair of languages, such as de-en
        found = language_of_name(part) or language_of_name(words[-1])
        if found is not None:
            return found
    return None


def _plain_name(file: SourceFile) -> str:
    return file.path.name.removesuffix(file.path.suffix if file.compression else "")


def _differing_endings(source: SourceFile, target: SourceFile) -> tuple[str, str] | None:
    """Return the endings of two names that differ only in a short ending, such as `corpus.en` and `corpus.de.gz`."""
    (stem, _, language), (other_stem, _, other) = (_plain_name(file).rpartition(".") for file in (source, target))
    fits = stem and stem == other_stem and language != other and "-" not in language + other
    return (language, other) if fits and max(len(language), len(other)) <= MAX_LANGUAGE_CHARS else None


def _swapped_error(
    source: SourceFile, target: SourceFile, said: tuple[str | None, str | None], stated: tuple[str, str]
) -> SourceError:
    requested = " and ".join(
        f"downloader.{side}_language={language}"
        for side, language in zip(("source", "target"), said, strict=True)
        if language
    )
    return SourceError(
        f"the files' names state that the source, {source.name}, is in {stated[0]!r} and the target, {target.name}, in "
        f"{stated[1]!r}, but the config has {requested}. Swap the files with "
        f"{override_text('downloader.source_path', str(target.path))} "
        f"{override_text('downloader.target_path', str(source.path))}, or set the languages to "
        f"downloader.source_language={stated[0]} downloader.target_language={stated[1]}"
    )
