"""The torch side of text: pairs as a Dataset, and batches made from text on the fly.

The simple way, as in any PyTorch script. Text is tokenised anew whenever a batch is made; the data module's loaders
read token ids that were encoded once instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer
from torch.utils.data import Dataset

from mtx.errors import TokenizerError
from mtx.infra.dal.rows import Rows
from mtx.infra.dataset.collate import Batch, BatchFormat, EncodedPairs, SpecialIds, TokenRows, collate_rows
from mtx.infra.dataset.sampler import BucketBatchSampler, PlanBatchSampler

__all__ = ["BucketBatchSampler", "PTDataset", "PlanBatchSampler", "collate_fn"]


class PTDataset(Dataset[dict[str, Any]]):
    """`torch.utils.data.Dataset` over pairs.

    Args:
        data: rows with `src` and `tgt`, such as `TranslationDataset.data`. Memory-mapped rows stay so in workers.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the pair with its `row_id`."""
        return {**self.data[index], "row_id": index}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the pairs of a batch, as a DataLoader asks for them."""
        rows = self.data.take(indices) if isinstance(self.data, Rows) else [self.data[index] for index in indices]
        return [{**row, "row_id": index} for row, index in zip(rows, indices, strict=True)]


def collate_fn(
    batch: Sequence[Mapping[str, Any]],
    tok: Tokenizer,
    *,
    target_tok: Tokenizer | None = None,
    batch_format: BatchFormat | None = None,
) -> Batch:
    """Make a batch from pairs of text, tokenising them.

    Pads to the longest row of the batch, closes labels with EOS before any padding, and leaves the tokenizer as it
    is. For a DataLoader: `collate_fn=partial(collate_fn, tok=tokenizer)`.

    Args:
        batch: pairs with `src` and `tgt`, and `row_id` if row ids are wanted (else their place in the batch).
        tok: tokenizer of both sides, with `<PAD>`, `<BOS>`, `<EOS>`, `<UNK>`.
        target_tok: tokenizer of the target, where it has its own.
        batch_format: what the batch looks like; by default the ids of the tokenizers' special tokens, no maximum.

    Returns:
        The batch as `mtx.infra.dataset.collate.collate_rows` documents it.

    Raises:
        TokenizerError: a special token is missing from a tokenizer.
    """
    import numpy as np

    target_tok = target_tok or tok
    layout = batch_format or BatchFormat(source=_special_ids(tok), target=_special_ids(target_tok))
    pairs = EncodedPairs(_encoded(tok, batch, "src"), _encoded(target_tok, batch, "tgt"))
    made = collate_rows(pairs, np.arange(len(batch)), layout)
    if "row_ids" in made:
        made["row_ids"] = made["row_ids"].new_tensor([pair.get("row_id", i) for i, pair in enumerate(batch)])
    return made


def _encoded(tok: Tokenizer, batch: Sequence[Mapping[str, Any]], key: str) -> TokenRows:
    if not tok.encode_special_tokens:  # not kept by a pickle; without it "<EOS>" in a text becomes the control id
        tok.encode_special_tokens = True
    encodings = tok.encode_batch_fast([pair[key] for pair in batch], add_special_tokens=False)
    if tok.padding is None:
        return TokenRows.of([encoding.ids for encoding in encodings])
    return TokenRows.of(  # somebody else's padding setting must not count as text
        [[token for token, real in zip(e.ids, e.attention_mask, strict=True) if real] for e in encodings]
    )


def _special_ids(tok: Tokenizer) -> SpecialIds:
    names = ("<PAD>", "<BOS>", "<EOS>", "<UNK>")
    ids = {name: tok.token_to_id(name) for name in names}
    missing = [name for name, token in ids.items() if token is None]
    if missing:
        raise TokenizerError(
            f"the tokenizer has no {', '.join(missing)}; batches need {', '.join(names)}. "
            "Train one with mtx, or pass batch_format=BatchFormat(…) with the ids that it uses"
        )
    return SpecialIds(*(token for token in ids.values() if token is not None))
