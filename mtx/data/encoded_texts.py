"""The encoded datasets of a recipe: the token ids of all rows of each text, so that splits and filters share them."""

import logging
from collections.abc import Sequence
from functools import partial

from mtx.components.identity import JSON, digest
from mtx.data.dataset import SelectedDataset, TranslationDataset
from mtx.data.direction_tags import set_direction, untagged_targets_warning
from mtx.data.encoding_stage import PairEncoder, joined_ids, text_range_batches
from mtx.data.stage_runner import Stage, StageRunner
from mtx.data.tokenize.language_token_names import TargetStart
from mtx.data.tokenize.language_tokens import (
    LanguageTokens,
    LeadingIds,
    leading_ids,
    target_start_warning,
    untagged_warning,
)
from mtx.data.validation_sets import PREDICT_NAME
from mtx.errors import ConfigError
from mtx.infra.dataset.sources.translation_directions import Direction

log = logging.getLogger(__name__)

VERSION = 2  # increase this when the module writes other output for the same inputs; it is part of all ids


def whole_text(runner: StageRunner, text_id: str) -> tuple[SelectedDataset, ...]:
    """Return all rows of a text as a part."""
    return (SelectedDataset(text_id, runner.repo.manifest(text_id).n or 0),)


def build_encoded(
    runner: StageRunner,
    parts: tuple[SelectedDataset, ...],
    encode: PairEncoder,
    leading: Sequence[LeadingIds] = (),
) -> str:
    """Store the token ids of all rows of a text, so that they do not depend on split and filter.

    Args:
        runner: builds missing datasets.
        parts: the text datasets, one after another.
        encode: the tokenizers.
        leading: the ids of the language tokens of each part; empty: none.
    """
    texts: list[JSON] = [[part.id, part.num_rows] for part in parts]
    first = runner.repo.manifest(parts[0].id)
    tokenizer_id = encode.tokenizers.id
    described: dict[str, JSON] = {"stage": "encoded", "version": VERSION, "text": texts, "tokenizer": tokenizer_id}
    if leading:
        described["language_tokens"] = [list(each) for each in leading]
    encoded_id = f"encoded-{first.split}-{digest(described)}"

    def stage() -> Stage:
        ids: list[LeadingIds | None] = [*leading] or [None] * len(parts)
        opened = [
            (runner.repo.get_checked(part.id).rows, part.num_rows, each) for part, each in zip(parts, ids, strict=True)
        ]
        return Stage(
            output=TranslationDataset(
                name=first.name,
                stage="encoded",
                split=first.split,
                languages=first.languages,
                provenance={
                    "inputs": [*(part.id for part in parts), tokenizer_id],
                    **({"num_rows": [part.num_rows for part in parts]} if len(parts) > 1 else {}),
                },
            ),
            description=f"encoding {first.split}",
            num_rows=sum(part.num_rows for part in parts),
            read=partial(text_range_batches, opened),
            transform=encode,
            gather=partial(joined_ids, scratch=encode.scratch),
        )

    runner.run(encoded_id, stage)
    return encoded_id


class LanguageTokenIds:
    """The ids of the language tokens of the parts of a corpus and of the datasets beside it.

    Args:
        given: `datamodule.language_tokens`; None: there are none.
        encode: the tokenizers.
        languages: the direction of each part of the corpus, in order.
        has_tags: whether sources have a prefix; if they have neither, the log warns of what a model then lacks.
        starts: the tokens with which the model of the tokenizer begins; the log warns if targets do not.
        position: `datamodule.language_token_position`.
    """

    def __init__(
        self,
        given: LanguageTokens | None,
        encode: PairEncoder,
        languages: Sequence[Direction],
        *,
        has_tags: bool,
        starts: Sequence[TargetStart] = (),
        position: str = "prefix",
    ) -> None:
        self._given = given
        self._tokenizers = encode.tokenizers
        self._languages = languages
        targets = list(dict.fromkeys(target for _, target in languages))
        told = [target_start_warning(start, given, position, targets) for start in starts]
        if not has_tags and given is None:
            told += [None if any(told) else untagged_warning(encode.tokenizers), untagged_targets_warning(languages)]
        for warning in filter(None, told):
            log.warning(warning)

    def of_parts(self, parts: Sequence[SelectedDataset]) -> list[LeadingIds]:
        """Return the ids of parts of the corpus; empty without language tokens."""
        return [] if self._given is None else [self._of(self._languages[part.source or 0]) for part in parts]

    def beside(self, name: str, languages: Direction) -> list[LeadingIds]:
        """Return the ids of a validation set, or of the text to translate, which has those of the only direction.

        Raises ConfigError if the direction is not known.
        """
        if self._given is None:
            return []
        directions = list(dict.fromkeys(self._languages))
        if name == PREDICT_NAME:
            if len(directions) > 1:
                raise ConfigError(
                    "datamodule.predict_from has no direction, so its language tokens are not known. Translate the "
                    "file with task=translate and task.direction"
                )
            return [self._of(directions[0])]
        return [self._of(set_direction(name, languages, directions) or directions[0])]

    def _of(self, languages: Direction) -> LeadingIds:
        assert self._given is not None
        return leading_ids(self._given, languages, self._tokenizers)
