"""A PyTorch `Dataset` of text pairs, and a collate function that tokenizes the texts of a batch.

Use this module to train from text as in a plain PyTorch script: the texts are tokenized each time a batch is built.
mtx's own data module does not use this module: its loaders read token ids that were encoded once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer
from torch.utils.data import Dataset

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Batch, collate_rows
from mtx.batches.plan_batch_samplers import BucketBatchSampler, PlanBatchSampler
from mtx.data.token_rows import EncodedPairs, SpecialIds, TokenRows
from mtx.errors import TokenizerError
from mtx.infra.dal.arrow_rows import Rows

__all__ = ["BucketBatchSampler", "PTDataset", "PlanBatchSampler", "collate_fn"]


class PTDataset(Dataset[dict[str, Any]]):
    """A `torch.utils.data.Dataset` of text pairs.

    Args:
        data: rows with `src` and `tgt`, such as `TranslationDataset.data`. Memory-mapped rows stay memory-mapped in
            worker processes.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the pair at `index`, with `index` as its `row_id`."""
        return {**self.data[index], "row_id": index}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the pairs at `indices`. A DataLoader calls this method once for each batch."""
        rows = self.data.take(indices) if isinstance(self.data, Rows) else [self.data[index] for index in indices]
        return [{**row, "row_id": index} for row, index in zip(rows, indices, strict=True)]


def collate_fn(
    batch: Sequence[Mapping[str, Any]],
    tok: Tokenizer,
    *,
    target_tok: Tokenizer | None = None,
    batch_format: BatchFormat | None = None,
) -> Batch:
    """Tokenize pairs of text and collate them into a batch.

    Each side is padded to its longest row in the batch. EOS is appended to the labels before the padding. The
    tokenizer's settings for padding stay as they are. Use with a DataLoader: `collate_fn=partial(collate_fn,
    tok=tokenizer)`.

    Args:
        batch: pairs with `src` and `tgt`, and optionally `row_id`. Without `row_id`, the index in the batch is used.
        tok: tokenizer of both sides, with `<PAD>`, `<BOS>`, `<EOS>`, `<UNK>`.
        target_tok: tokenizer of the target side; None: `tok`.
        batch_format: format of the batch; None: the ids of the tokenizers' special tokens, without a maximum length.

    Returns:
        The batch, in the format that `mtx.batches.collate.collate_rows` documents.

    Raises:
        TokenizerError: a special token is missing from a tokenizer.
    """
    import numpy as np

    target_tok = target_tok or tok
    layout = batch_format or BatchFormat(source=_special_ids(tok), target=_special_ids(target_tok))
    pairs = EncodedPairs(_encoded_rows(tok, batch, "src"), _encoded_rows(target_tok, batch, "tgt"))
    made = collate_rows(pairs, np.arange(len(batch)), layout)
    if "row_ids" in made:
        made["row_ids"] = made["row_ids"].new_tensor([pair.get("row_id", i) for i, pair in enumerate(batch)])
    return made


def _encoded_rows(tok: Tokenizer, batch: Sequence[Mapping[str, Any]], key: str) -> TokenRows:
    if not tok.encode_special_tokens:  # a pickle loses this setting; without it, "<EOS>" in a text becomes EOS
        tok.encode_special_tokens = True
    encodings = tok.encode_batch_fast([pair[key] for pair in batch], add_special_tokens=False)
    if tok.padding is None:
        return TokenRows.of([encoding.ids for encoding in encodings])
    return TokenRows.of(  # if the caller's tokenizer pads, remove its padding
        [[token for token, real in zip(e.ids, e.attention_mask, strict=True) if real] for e in encodings]
    )


def _special_ids(tok: Tokenizer) -> SpecialIds:
    names = ("<PAD>", "<BOS>", "<EOS>", "<UNK>")
    ids = {name: tok.token_to_id(name) for name in names}
    missing = [name for name, token in ids.items() if token is None]
    if missing:
        raise TokenizerError(
            f"the tokenizer has no {', '.join(missing)}; batches need {', '.join(names)}. "
            "Train a tokenizer with mtx, or pass batch_format=BatchFormat(…) with the tokenizer's special ids"
        )
    return SpecialIds(*(token for token in ids.values() if token is not None))
