"""The encoded datasets of a recipe: the token ids of all rows of each text, so that splits and filters share them."""

from functools import partial

from mtx.components.identity import JSON, digest
from mtx.data.dataset import SelectedDataset, TranslationDataset
from mtx.data.encoding_stage import PairEncoder, joined_ids, text_range_batches
from mtx.data.stage_runner import Stage, StageRunner

VERSION = 2  # increase this when the module writes other output for the same inputs; it is part of all ids


def whole_text(runner: StageRunner, text_id: str) -> tuple[SelectedDataset, ...]:
    """Return all rows of a text as a part."""
    return (SelectedDataset(text_id, runner.repo.manifest(text_id).n or 0),)


def build_encoded(runner: StageRunner, parts: tuple[SelectedDataset, ...], encode: PairEncoder) -> str:
    """Store the token ids of all rows of a text, so that they do not depend on split and filter."""
    texts: list[JSON] = [[part.id, part.num_rows] for part in parts]
    first = runner.repo.manifest(parts[0].id)
    tokenizer_id = encode.tokenizers.id
    described: dict[str, JSON] = {"stage": "encoded", "version": VERSION, "text": texts, "tokenizer": tokenizer_id}
    encoded_id = f"encoded-{first.split}-{digest(described)}"

    def stage() -> Stage:
        opened = [(runner.repo.get_checked(part.id).rows, part.num_rows) for part in parts]
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
