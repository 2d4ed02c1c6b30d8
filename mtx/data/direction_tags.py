"""What directions of translation change in a recipe: parts of the corpus, tags of target languages, held-out pairs.

A tag before each source tells a model of several target languages which one is wanted (Johnson et al. 2017, "Google's
Multilingual Neural Machine Translation System").
"""

import dataclasses
import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtx.data.normalise import DefaultNormaliser, Normaliser
from mtx.data.tokenize.language_tokens import check_unsampled
from mtx.data.tokenize.tokenization import Tokenization
from mtx.errors import ConfigError
from mtx.infra.dataset.download import Downloader
from mtx.infra.dataset.language_names import SIDES
from mtx.infra.dataset.sources.translation_directions import (
    CONFIG_KEY,
    Direction,
    DirectionsDownloader,
    direction_name,
    first_of_pair,
    is_both_ways,
    matching_direction,
    parsed_directions,
)

if TYPE_CHECKING:
    from mtx.data.preparation import Recipe

TAG_KEY = "datamodule.target_tag"
TAG_FIELDS = ("source", "target")


def directed_recipe(recipe: "Recipe", names: Sequence[str] | None, target_tag: str | None) -> "Recipe":
    """Return a recipe that serves its corpus in the given directions; the recipe itself without directions.

    With several target languages, each source gets the tag of its target language. It gets no tag if the normaliser has
    prefixes, or if the vocabulary's own language tokens are used. The tags are symbols of a vocabulary that mtx trains.
    With a direction and its opposite, `drop_leaks=true` becomes `either_side`, because a held-out pair would else be in
    training the other way round.

    Args:
        recipe: the recipe.
        names: directions such as `en-de`; None: none.
        target_tag: the tag, in which `{target}` and `{source}` stand for the codes; None: no tag.

    Raises:
        ConfigError: a direction or the tag is not valid, the normaliser has no tags, or the tokenizer samples
            segmentations, which have no language tokens.
    """
    check_tag(target_tag)
    if recipe.language_tokens is not None:
        check_unsampled(is_sampled=recipe.tokenizer.is_sampled)
    if names is None:
        return recipe
    directions = parsed_directions(names)
    held_out = recipe.held_out
    if is_both_ways(directions) and held_out.drop_leaks is True:
        held_out = dataclasses.replace(held_out, drop_leaks="either_side")
    recipe = dataclasses.replace(
        recipe, downloader=DirectionsDownloader(recipe.downloader, directions), held_out=held_out
    )
    is_tagged = bool(recipe.normalise.source_prefix) or recipe.language_tokens is not None
    if is_tagged or not has_several_targets(directions):
        return recipe
    if not target_tag:
        return recipe
    if not isinstance(recipe.normalise, DefaultNormaliser):
        raise ConfigError(
            f"{CONFIG_KEY} puts a tag before each source, which needs normalise=default, but normalise is "
            f"{type(recipe.normalise).__name__}. Set normalise=default, or {TAG_KEY}=null for no tags"
        )
    tags = {direction_name(each): tag_of(each, target_tag) for each in directions}
    _check_different(directions, list(tags.values()), target_tag)
    return dataclasses.replace(
        recipe,
        normalise=dataclasses.replace(recipe.normalise, source_prefix=tags),
        tokenizer=with_symbols(recipe.tokenizer, [tag.strip() for tag in tags.values()]),
    )


def check_tag(tag: str | None) -> None:
    """Raise ConfigError if a tag has other fields than plain `{target}` and `{source}`, or is only white space."""
    try:
        fields = [each[1:] for each in string.Formatter().parse(tag or "") if each[1] is not None]
        is_plain = all(name in TAG_FIELDS and not (spec or conversion) for name, spec, conversion in fields)
        is_right = is_plain and (not tag or bool(tag.strip()))
    except ValueError:
        is_right = False
    if not is_right:
        raise ConfigError(
            f"{TAG_KEY} is text with {{target}} for the code of the target language, and {{source}}, but is {tag!r}. "
            f"Set \"{TAG_KEY}='>>{{target}}<< '\", or null for no tag"
        )


def _check_different(directions: Sequence[Direction], tags: Sequence[str], target_tag: str) -> None:
    """Raise ConfigError if directions with different target languages have the same tag."""
    targets: dict[str, str] = {}
    for (_, target), tag in zip(directions, tags, strict=True):
        if targets.setdefault(tag, target) != target:
            raise ConfigError(
                f"{TAG_KEY}={target_tag!r} gives the target languages {targets[tag]} and {target} the same tag, "
                f"{tag!r}. Set \"{TAG_KEY}='>>{{target}}<< '\""
            )


def tag_of(direction: Direction, target_tag: str) -> str:
    """Return the tag of a direction, such as `>>de<< `."""
    return target_tag.format(source=direction[0], target=direction[1])


def has_several_targets(directions: Sequence[Direction]) -> bool:
    """Return whether directions have several target languages."""
    return len({target for _, target in directions}) > 1


def untagged_targets_warning(directions: Sequence[Direction]) -> str | None:
    """Return a warning for sources without a tag, if directions have several target languages; else None."""
    if not has_several_targets(directions):
        return None
    languages = ", ".join(dict.fromkeys(target for _, target in directions))
    return (
        f"the corpus has several target languages ({languages}), but sources have no tag, so a model cannot know which "
        f"one is wanted. Set {TAG_KEY} with {CONFIG_KEY}, or normalise.source_prefix"
    )


def with_symbols(tokenizer: Tokenization, symbols: Sequence[str]) -> Tokenization:
    """Return a tokenizer that also has these symbols; the same one if its vocabulary has no symbols of its own."""
    trained: Any = tokenizer  # symbols are a field of some subclasses
    if not hasattr(trained, "symbols"):
        return tokenizer
    found: Tokenization = dataclasses.replace(trained, symbols=tuple(dict.fromkeys([*trained.symbols, *symbols])))
    return found


def directed_names(downloader: Downloader) -> list[str]:
    """Return the names by which parts of a corpus may have a prefix: of its parts, and of its directions."""
    directions = map(direction_name, downloader.part_directions.values())
    return list(dict.fromkeys([*filter(None, downloader.parts), *directions]))


def part_normaliser(normaliser: Normaliser, name: str, directions: Mapping[str, Direction]) -> Normaliser:
    """Return the normaliser of a part: with the prefix by its name, else by its direction.

    Args:
        normaliser: that of the corpus.
        name: the part.
        directions: the direction of each part by name.
    """
    given = normaliser.source_prefix
    if not isinstance(given, str) and name not in given and name in directions:
        return normaliser.for_part(direction_name(directions[name]))
    return normaliser.for_part(name)


def set_direction(name: str, languages: Direction, directions: Sequence[Direction]) -> Direction | None:
    """Return the direction of a validation set; None without directions.

    Raises ConfigError if the set has other languages, or does not state them and several directions are possible.
    """
    if not directions:
        return None
    is_unknown = not set(SIDES).isdisjoint(languages)
    if is_unknown and len(directions) > 1:
        raise ConfigError(
            f"the direction of the validation set {name} is not known, because it does not state its languages. Name "
            f"them with datamodule.validation_sets.{name}.source_language and target_language"
        )
    found = directions[0] if is_unknown else matching_direction(languages, directions)
    if found is None:
        known = ", ".join(map(direction_name, directions))
        raise ConfigError(
            f"the validation set {name} translates {' to '.join(languages)}, which is no direction of the training: "
            f"{known}. Add it to {CONFIG_KEY}, or name other languages with datamodule.validation_sets.{name}."
            "source_language and target_language"
        )
    return found


def grouping_sides(downloader: Downloader) -> list[str]:
    """Return for each part the side, `src` or `tgt`, by whose text its pairs are held out; empty without directions.

    Both directions of a pair have one text, that of the language which comes first, so they are held out together.
    """
    directions = downloader.part_directions
    every = list(dict.fromkeys(directions.values()))
    return ["src" if first_of_pair(each, every) == each else "tgt" for each in directions.values()]
