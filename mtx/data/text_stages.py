"""The stages raw and text: store the pairs of each split of each source, and the texts that the normaliser changes."""

from collections.abc import Mapping
from functools import partial
from typing import cast

from mtx.assumption_log import assume, kept_assumptions
from mtx.components.identity import JSON, class_identity, digest, identity
from mtx.data.bounded_pair_batches import batch_without_own_columns, pair_batches
from mtx.data.canonical_batches import canonical_batch
from mtx.data.concatenated_corpus import NAME_SEPARATOR, part_key
from mtx.data.dataset import Split, TranslationDataset
from mtx.data.direction_tags import part_normaliser, set_direction
from mtx.data.language_groups import dataset_languages
from mtx.data.normalise import Normaliser, changed_rows
from mtx.data.row_tasks import no_batches
from mtx.data.stage_runner import Batches, Counts, Stage, StageRunner, added_counts, row_range_batches
from mtx.data.validation_sets import PREDICT_NAME
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.piece_reader import PieceReader

ASSUMED = "assumed"  # count of a task: what it has assumed, which this process logs once
VERSION = 2  # increase this when the module writes other output for the same inputs; it is part of all ids


def build_raw_parts(downloader: Downloader, runner: StageRunner) -> dict[str, str]:
    """Store the raw datasets of all splits of all sources, each under the id that it would have without the mixture."""
    raw: dict[str, str] = {}
    for name, part in downloader.parts.items():
        with downloader.named_errors(name):
            info = downloader.part_infos[name]
            raw |= {part_key(name, split): build_raw(part, runner, info, cast(Split, split)) for split in info.splits}
    return raw


def build_raw(
    downloader: Downloader, runner: StageRunner, info: SourceInfo, split: Split, stored_as: Split | None = None
) -> str:
    """Store the raw dataset of a split of a source, under another split name if `stored_as` is set."""
    raw_id = raw_dataset_id(downloader, info, split, stored_as)

    def stage() -> Stage:
        output = TranslationDataset(
            name=info.name,
            stage="raw",
            split=stored_as or split,
            languages=info.languages,
            provenance={"revision": info.revision, "source": dict(info.identity), **info.provenance},
        )

        reader = downloader.piece_reader(split, runner.piece_bytes)
        return Stage(
            output=output,
            description=f"reading {info.name} {split}",
            num_rows=None,
            read=no_batches,
            transform=partial(_read_whole, downloader, split) if reader is None else partial(_read_piece, reader),
            ranges=() if reader is None else reader.ranges,
            merge=_added_read_counts,
            finish=_stored_pairs if reader is None else partial(_joined_pairs, downloader, split),
        )

    runner.run(raw_id, stage)
    return raw_id


def _read_whole(downloader: Downloader, split: str, batches: Batches, first: int, counts: Counts) -> Batches:
    return downloader.batches(split, counts.setdefault("skipped", {}))


def _read_piece(reader: PieceReader, batches: Batches, first: int, counts: Counts) -> Batches:
    counts |= {"skipped": {}, ASSUMED: []}
    with kept_assumptions() as kept:
        yield from reader.read(first, counts["skipped"])
    counts[ASSUMED] = list(dict.fromkeys(kept))


def _added_read_counts(one: Counts, other: Counts) -> Counts:
    return {**added_counts(one, other), ASSUMED: [*one[ASSUMED], *other[ASSUMED]]}


def _joined_pairs(downloader: Downloader, split: str, batches: Batches, counts: Counts) -> Batches:
    skipped: dict[str, int] = {}

    def all_pieces() -> Batches:
        yield from batches
        skipped.update(counts["skipped"])  # which is complete now
        for what in dict.fromkeys(counts.pop(ASSUMED)):
            assume(what)

    return _stored_pairs(downloader.joined_pieces(split, all_pieces(), skipped), counts)


def _stored_pairs(batches: Batches, counts: Counts) -> Batches:
    """Return the pairs in the batches in which they are stored, which do not depend on how they were read."""
    return pair_batches(map(canonical_batch, map(batch_without_own_columns, batches)))


def raw_dataset_id(downloader: Downloader, info: SourceInfo, split: Split, stored_as: Split | None = None) -> str:
    """Return the id of the raw dataset that `build_raw` stores."""
    described: dict[str, JSON] = {
        "stage": "raw",
        "version": VERSION,
        "source": dict(info.identity),
        "downloader": class_identity(type(downloader.original)),
        "split": split,
        "stored_as": stored_as or split,
    }
    return f"raw-{stored_as or split}-{digest(described)}"


def build_text(normaliser: Normaliser, runner: StageRunner, raw_id: str) -> str:
    """Store the text dataset of a raw dataset: the rows that the normaliser changes."""
    raw = runner.repo.manifest(raw_id)
    described = {"stage": "text", "version": VERSION, "raw": raw_id, "normalise": identity(normaliser)}
    text_id = f"text-{raw.split}-{digest(described)}"

    def stage() -> Stage:
        rows = runner.repo.get_checked(raw_id).rows
        return Stage(
            output=TranslationDataset(
                name=raw.name,
                stage="text",
                split=raw.split,
                languages=raw.languages,
                n=raw.n,
                provenance={"inputs": [raw_id], "normalise": identity(normaliser)},
                changes=raw_id,
            ),
            description=f"normalising {raw.split}",
            num_rows=raw.n or 0,
            read=partial(row_range_batches, rows),
            transform=partial(_changed_batches, normaliser),
        )

    runner.run(text_id, stage)
    return text_id


def build_part_texts(
    normaliser: Normaliser, runner: StageRunner, raw: Mapping[str, str], directions: Mapping[str, tuple[str, str]]
) -> dict[str, str]:
    """Store the text datasets of raw datasets by `part_key`, each with the prefix of its part or of its direction."""
    parts = {key: part_normaliser(normaliser, key.rpartition(NAME_SEPARATOR)[0], directions) for key in raw}
    return {key: build_text(parts[key], runner, raw_id) for key, raw_id in raw.items()}


def build_set_texts(
    normaliser: Normaliser, runner: StageRunner, raw: Mapping[str, str], corpus: Downloader
) -> dict[str, str]:
    """Store the text datasets of validation sets and of the text to translate, each with the prefix of its direction.

    Raises ConfigError if a validation set has none of the directions of the corpus.
    """
    directions = list(dict.fromkeys(corpus.part_directions.values()))
    found = {}
    for name, raw_id in raw.items():
        languages = dataset_languages(runner.repo, raw_id)
        direction = None if name == PREDICT_NAME else set_direction(name, languages, directions)
        of_set = {} if direction is None else {name: direction}
        found[name] = build_text(part_normaliser(normaliser, name, of_set), runner, raw_id)
    return found


def _changed_batches(normaliser: Normaliser, batches: Batches, first: int, counts: Counts) -> Batches:
    counts["changed"] = 0
    changed_by_step: dict[str, int] = {}
    for batch in changed_rows(normaliser, batches, first, changed_by_step):
        counts["changed"] += batch.num_rows
        yield batch
    if changed_by_step:
        counts["changed_by_step"] = changed_by_step
