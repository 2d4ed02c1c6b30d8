"""What mtx assumes about the data of a run, computed from manifests, so that runs that build nothing tell it, too."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mtx.assumption_log import assume
from mtx.data.concatenated_corpus import part_key
from mtx.data.dataset import Split
from mtx.records.report_record import NO_FILTER, HeldOut

if TYPE_CHECKING:
    from mtx.training.translation_data import TranslationData

AUTO = "auto"  # a split of the source that mtx finds by its usual names


def assume_about_data(
    datamodule: "TranslationData", held_out: HeldOut, sizes: Mapping[str, int], num_pairs: Mapping[Split, int]
) -> None:
    """Tell which splits are held out, that they are not filtered, and vocabularies smaller than the config asks for.

    Args:
        datamodule: prepared data.
        held_out: how validation and test are filtered.
        sizes: the number of tokens of each vocabulary, by the name of its side.
        num_pairs: the number of filtered pairs of each split.
    """
    if held_out.filter == NO_FILTER and (num_pairs["validation"] or num_pairs["test"]):
        assume(
            f"validation and test are {held_out.filtering}, because datamodule.held_out_filter is null. To filter "
            "them, set +filter@datamodule.held_out_filter=default"
        )
    _assume_about_splits(datamodule, num_pairs)
    wanted = getattr(datamodule.recipe.tokenizer, "vocab_size", None)
    for side, size in sizes.items():
        if isinstance(wanted, int) and size < wanted:
            assume(
                f"the vocabulary{side} has {size:,} tokens, because the texts give no more, though "
                f"tokenizer.vocab_size={wanted}"
            )


def _assume_about_splits(datamodule: "TranslationData", num_pairs: Mapping[Split, int]) -> None:
    """Tell for each part of a corpus whose splits are found by name which are used, and which are held out instead.

    Pairs of the training split are held out only if no part has the split.
    """
    assert datamodule.ids is not None
    parts, sources = datamodule.recipe.downloader.parts, getattr(datamodule.recipe.downloader, "sources", None) or {}
    held_out: tuple[Split, ...] = ("validation", "test")
    for split in held_out:
        having = {name for name in parts if part_key(name, split) in datamodule.ids.raw}
        for name, part in parts.items():
            key = f"downloader.sources.{name}.{split}_split" if name in sources else f"downloader.{split}_split"
            of = f" of {name}" if name else ""
            if getattr(part, f"{split}_split", None) != AUTO:
                continue
            if name in having:
                every = " in each source that has the split" if len(having) > 1 else ""
                what = f"the source has a {split} split{of}, which is used completely. To hold out training pairs"
                assume(f"{what} instead, set {key}=null{every}")
            elif num_pairs[split] and not having:
                what = f"{split} pairs{of} are held out of the training split, because the source has no {split} split"
                assume(f"{what} of a usual name. For a split of another name, set {key}=NAME")
