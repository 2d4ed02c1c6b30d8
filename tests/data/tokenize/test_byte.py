import doctest
from pathlib import Path

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize import byte
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.byte import ByteTokenization, byte_chars
from mtx.data.tokenize.tokenization import encode_texts
from mtx.errors import TokenizerError


def test_the_id_of_a_byte_is_its_value_plus_four() -> None:
    every_char = "".join(map(chr, range(0x800))) + "神👧"
    ids = encode_texts(ByteTokenization().tokenizer, [every_char])[0]
    assert ids == [byte + 4 for byte in every_char.encode()]


def test_bytes_stand_for_the_characters_that_the_library_means() -> None:
    assert set(byte_chars()) == set(ByteLevel.alphabet())
    assert len(byte_chars()) == 256


def test_there_is_nothing_to_train_and_nothing_to_load(dataset: TranslationDataset) -> None:
    assert ByteTokenization().train(dataset).load().tokenizer.get_vocab_size() == 260


def test_a_file_of_another_vocabulary_is_refused(dataset: TranslationDataset, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    BPETokenization(filepath=path, vocab_size=300).train(dataset).save()
    with pytest.raises(TokenizerError, match=r"another vocabulary than ByteTokenization's 256 bytes .* has 300 tokens"):
        ByteTokenization(filepath=path).load()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"no tokenizer file .*absent.json: correct tokenizer.filepath"):
        ByteTokenization(filepath=tmp_path / "absent.json").load()


def test_the_examples_of_the_module_run() -> None:
    assert doctest.testmod(byte) == doctest.TestResults(failed=0, attempted=1)
