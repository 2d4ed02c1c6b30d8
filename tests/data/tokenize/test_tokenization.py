"""What holds for every kind of tokenizer that is made here."""

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from conf_options import options, target
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.byte import ByteTokenization
from mtx.data.tokenize.pretrained import PretrainedTokenization
from mtx.data.tokenize.tokenization import (
    SpecialIds,
    Tokenization,
    encode_texts,
    special_ids,
)
from mtx.data.tokenize.unigram import UnigramTokenization
from mtx.data.tokenize.wordpiece import WordPieceTokenization
from mtx.errors import ConfigError, StoreError, TokenizerError

FROM_FILES = ("pretrained", "sentencepiece", "vocabulary_file")
KINDS = tuple(name for name in options("tokenizer") if name not in FROM_FILES)
TRAINED = tuple(target("tokenizer", name) for name in KINDS if target("tokenizer", name).is_trainable)
LOSSLESS = tuple(name for name in KINDS if name != "wordpiece")

AWKWARD = [
    "",
    " ",
    "  two  spaces, and at the end ",
    "tab\tnewline\ncarriage\r\n",
    "\0 NUL \x1b[0m",
    "e\u0301 combining, \u00e9 composed, n\u0303\u0323 two marks",
    "שלום עולם \u202bمرحبا بالعالم\u202c",
    "元始に神天地を創造たまへり　全角スペース、ｶﾅ",
    "👩‍👩‍👧‍👦 🇯🇵 ☕️",
    "▁ U+2581, Ġ U+0120, ## and <0x41>",
    "<EOS> a <PAD><BOS> <UNK>b </s>",
    "\ufeffBOM \u200b zero width \u2028 \U0010ffff \ue000 \ufffd",
]
text = st.text(max_size=40) | st.lists(st.sampled_from(AWKWARD), max_size=3).map(" ".join)


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=150, deadline=None)
@given(texts=st.lists(text, max_size=4))
def test_any_text_comes_back_exactly(trained: dict[str, Tokenization], kind: str, texts: list[str]) -> None:
    tokenizer = trained[kind].tokenizer
    assert tokenizer.decode_batch(encode_texts(tokenizer, texts)) == texts


@pytest.mark.parametrize("kind", LOSSLESS)
def test_awkward_texts_come_back_exactly(trained: dict[str, Tokenization], kind: str) -> None:
    tokenizer = trained[kind].tokenizer
    assert tokenizer.decode_batch(encode_texts(tokenizer, AWKWARD)) == AWKWARD


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("unit", ["神", "ab ", "a", " ", "👩‍👧"])
def test_a_line_of_100_000_characters_comes_back_exactly(
    trained: dict[str, Tokenization], kind: str, unit: str
) -> None:
    line = (unit * 100_000)[:100_000]
    tokenizer = trained[kind].tokenizer
    assert tokenizer.decode(encode_texts(tokenizer, [line])[0]) == line


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(texts=st.lists(text, max_size=3))
def test_no_text_becomes_a_control_id(trained: dict[str, Tokenization], kind: str, texts: list[str]) -> None:
    control = {0, 1, 2} if kind == "wordpiece" else {0, 1, 2, 3}
    for ids in encode_texts(trained[kind].tokenizer, texts):
        assert not control & set(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_have_the_first_four_ids(trained: dict[str, Tokenization], kind: str) -> None:
    tokenizer = trained[kind].tokenizer
    assert [tokenizer.id_to_token(i) for i in range(4)] == ["<PAD>", "<BOS>", "<EOS>", "<UNK>"]
    assert special_ids(tokenizer, trained[kind].special) == SpecialIds(pad=0, bos=1, eos=2, unk=3)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_have_no_gaps_and_decoding_leaves_special_tokens_out(trained: dict[str, Tokenization], kind: str) -> None:
    tokenizer = trained[kind].tokenizer
    assert sorted(tokenizer.get_vocab().values()) == list(range(tokenizer.get_vocab_size()))
    ids = encode_texts(tokenizer, ["Ka."])[0]
    assert tokenizer.decode([1, *ids, 2, 0, 0]) == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_encodes_alike(trained: dict[str, Tokenization], kind: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "tokenizer.json"
    saved = trained[kind].at(path).save()
    loaded = type(saved)(filepath=path).load()
    assert saved.tokenizer.to_str() == loaded.tokenizer.to_str()
    assert encode_texts(loaded.tokenizer, AWKWARD) == encode_texts(saved.tokenizer, AWKWARD)
    assert [file.name for file in path.parent.iterdir()] == ["tokenizer.json"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_one_spells_special_tokens_out(trained: dict[str, Tokenization], kind: str) -> None:
    """The library forgets that setting in its own pickle; workers get their tokenizer through one."""
    before = encode_texts(trained[kind].tokenizer, ["a <EOS>"])
    assert encode_texts(pickle.loads(pickle.dumps(trained[kind].tokenizer)), ["a <EOS>"]) == before
    copy = pickle.loads(pickle.dumps(trained[kind]))
    assert copy.tokenizer.encode("a <EOS>", add_special_tokens=False).ids == before[0]


def test_one_without_a_tokenizer_is_pickled_too() -> None:
    assert pickle.loads(pickle.dumps(BPETokenization(vocab_size=300))).vocab_size == 300


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_the_file_and_gives_the_same_ids(
    trained: dict[str, Tokenization], kind: str, tmp_path: Path
) -> None:
    from transformers import PreTrainedTokenizerFast

    saved = trained[kind].at(tmp_path / "tokenizer.json").save()
    theirs = PreTrainedTokenizerFast(
        tokenizer_file=str(saved.filepath), pad_token="<PAD>", bos_token="<BOS>", eos_token="<EOS>", unk_token="<UNK>"
    )
    texts = ["Kalo miren tu.", "神の光、天と地。", " 12 «ß»\n"]
    assert [theirs.encode(text, add_special_tokens=False) for text in texts] == encode_texts(saved.tokenizer, texts)
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id, theirs.unk_token_id) == (0, 1, 2, 3)
    assert len(theirs) == saved.tokenizer.get_vocab_size()


TRAIN_IN_A_PROCESS = """
import sys
sys.path[:0] = sys.argv[1:]
from conftest import dataset_of, pairs_of_text
from test_tokenization import TRAINED, file_digest
dataset = dataset_of(pairs_of_text(200))
print(*(file_digest(kind(vocab_size=500).train(dataset)) for kind in TRAINED))
"""


def file_digest(tokenization: Tokenization) -> str:
    return hashlib.sha256(tokenization.tokenizer.to_str(pretty=True).encode()).hexdigest()


def test_every_process_learns_the_same_file(trained: dict[str, Tokenization]) -> None:
    here = [file_digest(trained[kind]) for kind in KINDS if type(trained[kind]) in TRAINED]
    for threads, hash_seed in (("1", "1"), ("2", "77")):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", TRAIN_IN_A_PROCESS, str(Path(__file__).parent), str(Path(__file__).parents[2])]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
        assert told.split() == here


@pytest.mark.parametrize("kind", TRAINED)
def test_training_again_gives_the_same_file(kind: type[Tokenization], dataset: TranslationDataset) -> None:
    digests = {file_digest(kind(vocab_size=450).train(dataset)) for _ in range(5)}  # type: ignore[call-arg]
    assert len(digests) == 1


@pytest.mark.parametrize("kind", TRAINED)
def test_a_side_is_learned_from_its_column_alone(kind: type[Tokenization], dataset: TranslationDataset) -> None:
    source = kind(vocab_size=400, joint=False).train(dataset, side="source").tokenizer  # type: ignore[call-arg]
    target = kind(vocab_size=400, joint=False).train(dataset, side="target").tokenizer  # type: ignore[call-arg]
    per_source, per_target = (len(encode_texts(t, ["kalomi"])[0]) for t in (source, target))
    assert per_source < per_target or target.encode("kalomi").ids == [3]


@pytest.mark.parametrize("kind", TRAINED)
def test_a_small_corpus_gives_fewer_tokens_than_asked(kind: type[Tokenization], make_dataset) -> None:
    small = make_dataset([{"src": "the cat", "tgt": "die Katze"}])
    assert kind(vocab_size=5000).train(small).tokenizer.get_vocab_size() < 300  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("line", ["神光天地" * 25_000, "\0" * 100_000, "ab " * 33_333])
def test_a_line_of_100_000_characters_is_learned_from(kind: type[Tokenization], line: str, make_dataset) -> None:
    odd = make_dataset([{"src": line, "tgt": "kalo miren"}])
    assert kind(vocab_size=400).train(odd).tokenizer.get_vocab_size() > 4  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", TRAINED)
def test_the_trainer_prints_nothing(
    kind: type[Tokenization], dataset: TranslationDataset, capfd: pytest.CaptureFixture[str]
) -> None:
    kind(vocab_size=400).train(dataset)  # type: ignore[call-arg]
    assert capfd.readouterr() == ("", "")


def test_the_file_is_the_only_thing_that_at_changes(trained: dict[str, Tokenization], tmp_path: Path) -> None:
    other = trained["bpe"].at(tmp_path / "a.json")
    assert other.filepath == str(tmp_path / "a.json")
    assert trained["bpe"].filepath is None
    assert other.identity() == trained["bpe"].identity()
    assert other.tokenizer is trained["bpe"].tokenizer


def test_identity_holds_what_decides_the_vocabulary() -> None:
    described = BPETokenization(vocab_size=600, filepath="a.json").identity()
    release = described.pop("tokenizers")
    assert isinstance(release, str)
    assert release.count(".") == 1
    assert described == {
        "kind": "tokenizer/bpe",
        "version": 1,
        "joint": True,
        "vocab_size": 600,
        "min_frequency": 2,
        "normalization": None,
        "max_train_pairs": 1_000_000,
    }
    assert ByteTokenization().identity() == {
        "kind": "tokenizer/byte",
        "version": 1,
        "joint": True,
    }


def test_only_vocabularies_that_are_learned_need_training() -> None:
    needing = {kind for kind in (*TRAINED, ByteTokenization, PretrainedTokenization) if kind.is_trainable}
    assert needing == set(TRAINED)


FORK = """
import os
from mtx.data.tokenize.tokenization import encode_texts
from mtx.data.tokenize.byte import ByteTokenization
tokenizer = ByteTokenization().tokenizer
encode_texts(tokenizer, ["abc"] * 1000)
child = os.fork()
if not child:
    os._exit(len(encode_texts(tokenizer, ["abc"] * 1000)) != 1000)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("parallel", ["true", None])
def test_a_forked_process_tokenises_without_waiting_or_warning(parallel: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TOKENIZERS_PARALLELISM"}
    if parallel:
        environment["TOKENIZERS_PARALLELISM"] = parallel
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", TRAINED)
def test_before_training_there_is_no_tokenizer(kind: type[Tokenization]) -> None:
    with pytest.raises(TokenizerError, match=rf"{kind.__name__} has no tokenizer yet: call .train\(dataset\) or .load"):
        kind().tokenizer  # noqa: B018
    with pytest.raises(TokenizerError, match="has no tokenizer yet"):
        kind(filepath="a.json").save()


@pytest.mark.parametrize("kind", TRAINED)
def test_without_a_file_it_says_how_to_give_one(kind: type[Tokenization], dataset: TranslationDataset) -> None:
    with pytest.raises(
        TokenizerError, match=rf"has no file\. Give it one, as {kind.__name__}\(filepath='tokenizer.json'"
    ):
        kind().load()
    with pytest.raises(TokenizerError, match="has no file"):
        kind(vocab_size=400).train(dataset).save()  # type: ignore[call-arg]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"no tokenizer file .*absent.json: train one with .train\(dataset\) and"):
        BPETokenization(filepath=tmp_path / "absent.json").load()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"cannot be read: Is a directory. tokenizer.filepath must be one file"):
        BPETokenization(filepath=tmp_path).load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: remove it and train again"),
        (b" \n", "is empty"),
        (b"\xff\xfe\x00", r"not a tokenizer file, which is JSON .* its byte 1 is not valid UTF-8"),
        (b"{", r"not a tokenizer file, .*the error is at line 1, column 2\. Correct"),
        (b"[1, 2]", "not a tokenizer file"),
        (b'{"version": "1.0", "name": "a package.json"}', "not a tokenizer file, .*it has no key 'model'"),
        (
            b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}',
            "not a tokenizer file, .*its BPE model merges to the token 'b', which is not in its vocabulary",
        ),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=message):
        BPETokenization(filepath=path).load()


@pytest.mark.parametrize(
    ("kind", "other"),
    [("wordpiece", BPETokenization), ("bpe", UnigramTokenization), ("unigram", WordPieceTokenization)],
)
def test_a_file_of_another_model_is_refused(
    trained: dict[str, Tokenization], kind: str, other: type[Tokenization], tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    trained[kind].at(path).save()
    found = trained[kind].MODEL
    message = f"holds a {found} model, but {other.__name__} reads only {other.MODEL} models"
    with pytest.raises(TokenizerError, match=message):
        other(filepath=path).load()


def test_a_file_cut_short_is_refused_and_an_earlier_load_stays(
    trained: dict[str, Tokenization], tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    loaded = trained["bpe"].at(path).save().load()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TokenizerError, match="not a tokenizer file"):
        loaded.load()
    assert loaded.tokenizer.get_vocab_size() == 500


def test_missing_special_tokens_are_named_with_those_that_might_do(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    vocab = '{"<s>": 0, "</s>": 1, "a": 2, "<EOS>": 3}'
    added = '{"id": 1, "content": "</s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false'
    path.write_text(
        f'{{"version": "1.0", "added_tokens": [{added}, "normalized": false}}],'
        f'"model": {{"type": "BPE", "vocab": {vocab}, "merges": []}}}}'
    )
    with pytest.raises(TokenizerError) as caught:
        BPETokenization(filepath=path).load()
    assert str(caught.value) == (
        "the vocabulary of 4 tokens has no <PAD>, <BOS>, <UNK>, but needs a token for each of pad, bos, eos and unk. "
        "Special tokens in it: </s>, <EOS>, <s>. Set them with tokenizer=pretrained "
        "\"tokenizer.pad_token='…'\" \"tokenizer.bos_token='…'\" \"tokenizer.unk_token='…'\"; "
        "one token may serve twice, such as <pad> for bos"
    )


def test_a_vocabulary_without_any_special_token_says_none() -> None:
    from tokenizers.models import BPE

    with pytest.raises(TokenizerError, match="Special tokens in it: none"):
        special_ids(Tokenizer(BPE()))


def test_a_folder_that_cannot_be_made_is_named(trained: dict[str, Tokenization], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"the folder .*file.* for the tokenizer cannot be created"):
        trained["bpe"].at(tmp_path / "file" / "tokenizer.json").save()


def test_all_problems_of_a_config_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        BPETokenization(vocab_size=100, min_frequency=0, max_train_pairs=-1, normalization="NFKD")  # type: ignore[arg-type]
    assert str(caught.value).splitlines() == [
        "tokenizer.vocab_size is an integer of at least 260 (256 bytes and 4 special tokens), but is 100. "
        "Set tokenizer.vocab_size=260 or more",
        "tokenizer.min_frequency is an integer of at least 1, but is 0. Set tokenizer.min_frequency=1 or more",
        "tokenizer.normalization is one of NFKC, NFC, or null, but is 'NFKD'. Set tokenizer.normalization=NFKC",
        "tokenizer.max_train_pairs is an integer of at least 1, but is -1. Set tokenizer.max_train_pairs=1 or more",
    ]


def test_what_is_no_text_is_refused_by_encoding(trained: dict[str, Tokenization]) -> None:
    with pytest.raises(TypeError):
        encode_texts(trained["bpe"].tokenizer, ["\ud800"])
