"""Vocabularies of fairseq and Marian, compared with subword-nmt and transformers, and with ids worked out by hand."""

import contextlib
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sentencepiece

from mtx.data.tokenize.bpe_codes import read_codes
from mtx.data.tokenize.cached_encoding import FlatEncoder
from mtx.data.tokenize.stored_tokenizer import tokenizer_from_str
from mtx.data.tokenize.tokenization import encode_texts, special_ids, vocabulary_size
from mtx.data.tokenize.tokenizer_artifact import SEPARATE, load_pair
from mtx.data.tokenize.vocabulary_file import VocabularyFileTokenization
from mtx.data.tokenize.vocabulary_lookup import LookupTables, VocabularyTokenizer
from mtx.errors import ConfigError, TokenizerError

WORDS = [f"{a}{b}{c}" for a in ("ka", "lo", "mi", "Tu") for b in ("ren", "sho", "ba") for c in ("", "el", "dri", "un")]
TEXTS = [" ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 9)) + " ." for i in range(1, 60)]
UNUSUAL = [
    *("", " ", "  kaba   loren ", "e\u0301 Z\u0327aby", "\u0915\u094d\u0937\u093f", "a\x00b", "kaba\u3000loren\xa0x"),
    *("<s> kaba</s>", "<unk>", "日本語と日本", "العربية", "☃☃ kaba ☃", "kaba@@ loren", "</w>", "ka</w> x", "\u2028ka"),
]
CODES = "#version: 0.2\nl o\nk a\nn </w>\nlo re\nr e\nlo w</w>\n"  # `n </w>` applies in version 0.1 only


def trained_codes() -> str:
    learn_bpe = pytest.importorskip("subword_nmt.learn_bpe").learn_bpe
    out = io.StringIO()
    with contextlib.redirect_stderr(io.StringIO()):
        learn_bpe(io.StringIO("\n".join(TEXTS)), out, 60, min_frequency=1)
    return out.getvalue()


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codes") / "codes.txt"
    path.write_text(trained_codes(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=made, minloglevel=2, vocab_size=90, hard_vocab_limit=False
    )
    path = tmp_path_factory.mktemp("model") / "source.spm"
    path.write_bytes(made.getvalue())
    return path


def subwords_of_library(codes: Path, text: str) -> list[str]:
    bpe = pytest.importorskip("subword_nmt.apply_bpe").BPE(io.StringIO(codes.read_text(encoding="utf-8")))
    return [*bpe.process_line(text).split(" ")]


def fairseq_ids(tokens: list[str], lines: list[str]) -> list[int]:
    """Number tokens as fairseq's Dictionary: four special tokens, then the lines; white space separates tokens."""
    ids = {line.rsplit(" ", 1)[0]: id for id, line in enumerate(lines, 4)}
    return [ids.get(token, 3) for token in " ".join(tokens).split()]


def check_flat(tokenizer: Any, texts: list[str], expected: list[list[int]]) -> None:
    lengths, ids = FlatEncoder.of(tokenizer).encode(pa.array(texts * 2, pa.large_string()))
    assert lengths.tolist() == [len(row) for row in expected] * 2
    assert ids.tolist() == [id for row in expected for id in row] * 2


def test_words_are_merged_by_hand() -> None:
    codes = read_codes(CODES.encode(), "codes.txt")
    assert codes.segment("low") == ("low",)
    assert codes.segment("lower") == ("lo@@", "w@@", "e@@", "r")
    assert codes.segment("lore") == ("lo@@", "r@@", "e"), "the last character has the end of the word"
    assert codes.segment("lorel") == ("lore@@", "l"), "`lo re` applies after `r e`, which comes later in the file"
    assert codes.segment("k") == ("k",)
    first = read_codes(CODES.encode()[len("#version: 0.2\n") :], "codes.txt")
    assert first.segment("ln") == ("l@@", "n")
    assert first.segment("lokan") == ("lo@@", "ka@@", "n"), "version 0.1 marks the end of a word by a symbol of its own"
    with_counts = read_codes(b"l o 12\nlo w</w> 7\n", "codes.txt")
    assert with_counts.segment("low") == ("low",), "fastBPE"


def test_subwords_are_those_of_subword_nmt(codes: Path) -> None:
    bpe_class = pytest.importorskip("subword_nmt.apply_bpe").BPE
    rng = np.random.default_rng(0)
    letters = [*"aeklorTumishbdun", "\u0301", "日"]
    words = [*WORDS, *("".join(rng.choice(letters, size=rng.integers(1, 15))) for _ in range(1500))]
    head, *merges = codes.read_text(encoding="utf-8").rstrip("\n").split("\n")
    shuffled = [merges[i] for i in rng.permutation(len(merges))]
    for lines in ([head, *merges], merges, [head, *shuffled, *merges[:9]]):
        content = "\n".join(lines) + "\n"
        library, ours = bpe_class(io.StringIO(content)), read_codes(content.encode(), "codes.txt")
        assert [list(ours.segment(word)) for word in words] == [library.segment_tokens([word]) for word in words]


def test_a_word_of_100_000_characters_is_split_in_less_than_quadratic_time(codes: Path) -> None:
    pieces = read_codes(codes.read_bytes(), codes).segment("kaloren" * 14_000)
    assert "".join(piece.removesuffix("@@") for piece in pieces) == "kaloren" * 14_000


def test_ids_are_those_of_fairseq(codes: Path, tmp_path: Path) -> None:
    texts = [*TEXTS, *UNUSUAL]
    subwords = [subwords_of_library(codes, text) for text in texts]
    tokens = sorted({token for row in subwords[:55] for token in row if token} | {"x", "@@", "☃"})
    lines = [f"{token} {len(token)}" for token in tokens if token not in ("<s>", "<unk>", "</s>")]
    path = tmp_path / "dict.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = VocabularyFileTokenization(filepath=path, codes=codes).load()
    expected = [fairseq_ids(row, lines) for row in subwords]
    assert encode_texts(made.tokenizer, texts) == expected
    assert 3 in expected[-3]
    assert 3 not in expected[0]
    assert special_ids(made.tokenizer, made.special) == (1, 0, 2, 3)
    assert made.tokenizer.decode([0, *expected[0], 2]) == TEXTS[0]
    check_flat(made.tokenizer, texts, expected)


def test_a_stored_copy_and_a_pickle_have_the_same_ids(codes: Path, tmp_path: Path) -> None:
    (tmp_path / "dict.txt").write_text("".join(f"{c}@@ 1\n{c} 1\n" for c in "kalorenmi"), encoding="utf-8")
    made = VocabularyFileTokenization(filepath=tmp_path / "dict.txt", codes=codes).load()
    expected = encode_texts(made.tokenizer, TEXTS[:9])
    made.at(tmp_path / "tokenizer.json").save()
    stored = made.at(tmp_path / "tokenizer.json").load()
    again = tokenizer_from_str((tmp_path / "tokenizer.json").read_text())
    for tokenizer in (stored.tokenizer, again, pickle.loads(pickle.dumps(made)).tokenizer):
        assert encode_texts(tokenizer, TEXTS[:9]) == expected
    identity = VocabularyFileTokenization(filepath=tmp_path / "dict.txt", codes=codes).identity()
    assert identity == made.identity()
    assert identity != VocabularyFileTokenization(filepath=tmp_path / "dict.txt").identity()
    with pytest.raises(TokenizerError, match="is damaged"):
        tokenizer_from_str(made.tokenizer.to_str().replace('"merges": [[', '"merges": [["x"], ['))


def test_marian_reads_keys_of_yaml_as_texts_and_ids_may_have_holes(tmp_path: Path) -> None:
    path = tmp_path / "vocab.yml"
    path.write_text('</s>: 0\n<unk>: 1\nno: 5\n"1": 7\n~: 9\n"@@": 40\n', encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"no pad token.*Set \"tokenizer.pad_token='<pad>'\""):
        VocabularyFileTokenization(filepath=path).load()
    made = VocabularyFileTokenization(filepath=path, pad_token="<pad>").load()
    assert encode_texts(made.tokenizer, ["no 1 ~ yes  no", "</s> @@", "no\u3000no"]) == [[5, 7, 9, 1, 5], [1, 40], [1]]
    assert special_ids(made.tokenizer, made.special) == (41, 41, 0, 1)
    assert vocabulary_size(made.tokenizer) == 42
    (tmp_path / "old.json").write_text('{"eos": 0, "UNK": 1, "no": 2}')
    old = VocabularyFileTokenization(filepath=tmp_path / "old.json", pad_token="<pad>").load()
    assert encode_texts(old.tokenizer, ["no eos maybe"]) == [[2, 1, 1]]
    (tmp_path / "vocab.txt").write_text("</s>\n<unk>\nno\n\u3000\n", encoding="utf-8")
    listed = VocabularyFileTokenization(filepath=tmp_path / "vocab.txt", pad_token="<pad>").load()
    assert encode_texts(listed.tokenizer, ["no \u3000 x"]) == [[2, 3, 1]]


def marian_folder(folder: Path, model: Path) -> Path:
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    names = [pieces.id_to_piece(id) for id in range(pieces.get_piece_size())]
    tokens = ["</s>", "<unk>", *reversed([name for name in names if name[0] != "<"]), ">>de<<", "☃", "<pad>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(tokens)}))
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(model.read_bytes())
    return folder


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_ids_are_those_of_marian_in_transformers(model: Path, tmp_path: Path) -> None:
    folder = marian_folder(tmp_path / "opus", model)
    from transformers import MarianTokenizer

    theirs = MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"), source_lang="en"
    )
    theirs.punc_normalizer = lambda text: text
    named = ("<s>", "<unk>")  # transformers finds the names of special tokens in texts
    texts = [
        *TEXTS,
        ">>de<< kaba",
        *(t for t in UNUSUAL if not any(n in t for n in named)),
        ">>xx<< kaba",
        *(">> kaba loren << ba", ">>a>b<c<< ka", ">><< ka", ">>\n<<ka", ">>de<< >>de<< ka", ">>ka", " >>de<< ka"),
        *("ka >>de<< ba", "kaba>>de<<", ">>de<", "<<de>> ka", ">>de<<"),
        ">>de<<loren ☃",
        "☃☃",
    ]
    expected = theirs(texts, add_special_tokens=False)["input_ids"]
    made = VocabularyFileTokenization(filepath=folder).load()
    assert encode_texts(made.tokenizer, texts) == expected
    found = encode_texts(made.tokenizer, texts[-2:])
    assert (found[0][0], found[0][-1], found[1][-1]) == (theirs.encoder[">>de<<"], theirs.encoder["☃"], 1)
    assert made.special.pad == made.special.bos == "<pad>"
    assert made.tokenizer.decode(expected[0]) == TEXTS[0]
    check_flat(made.tokenizer, texts, expected)
    alone = VocabularyFileTokenization(filepath=folder / "vocab.json", codes=model).load()
    assert alone.identity() == made.identity()


def test_white_space_in_pieces_separates_tokens_of_fairseq(model: Path, tmp_path: Path) -> None:
    (tmp_path / "dict.txt").write_text("\u2581 9\nk 8\na 7\n", encoding="utf-8")
    made = VocabularyFileTokenization(filepath=tmp_path / "dict.txt", codes=model).load()
    library = sentencepiece.SentencePieceProcessor(model_file=str(model))
    texts = ["ka\x1cb", "k a", "kaba\x1c", "\u2028", ">>xx<< ka"]
    expected = [fairseq_ids(library.encode(text, out_type=str), ["\u2581 9", "k 8", "a 7"]) for text in texts]
    assert encode_texts(made.tokenizer, texts) == expected


def test_each_side_may_have_its_own_vocabulary_and_codes(model: Path, codes: Path, tmp_path: Path) -> None:
    (tmp_path / "dict.en.txt").write_text("ka@@ 3\nba 2\n")
    (tmp_path / "dict.de.txt").write_text("ba 3\nkaba 2\n")
    options: dict[str, Any] = {"filepath": tmp_path / "dict.en.txt", "target_filepath": tmp_path / "dict.de.txt"}
    with pytest.raises(ConfigError, match=r"tokenizer\.joint=false"):
        VocabularyFileTokenization(filepath=tmp_path / "dict.en.txt", target_codes=codes)
    config = VocabularyFileTokenization(**options, target_codes=codes, joint=False)
    for side, name in SEPARATE.items():
        config.for_side(side).load().at(tmp_path / name).save()
    pair = load_pair(config, tmp_path)
    assert [encode_texts(each, ["kaba ba"]) for each in (pair.source, pair.target)] == [[[3, 5]], [[5, 4]]]
    assert config.identity() != VocabularyFileTokenization(**options, joint=False).identity()
    folder = marian_folder(tmp_path / "opus", model)
    content = (folder / "target.spm").read_bytes()
    (folder / "target.spm").write_bytes(content + b"\x1a\x00")  # an empty message, which changes nothing
    with pytest.raises(ConfigError, match=r"a SentencePiece model for each side.*Set tokenizer\.joint=false"):
        VocabularyFileTokenization(filepath=folder).load()
    both = VocabularyFileTokenization(filepath=folder, joint=False)
    assert both.identity()["target"] == both.for_side("target").identity()


def test_a_folder_without_codes_or_with_two_vocabularies_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"</s>": 0, "<unk>": 1, "<pad>": 2}')
    (tmp_path / "merges.txt").write_text("a b\n")
    with pytest.raises(TokenizerError, match=r"none of source\.spm, .*Set tokenizer\.codes, or .*=\S+/vocab\.json if"):
        VocabularyFileTokenization(filepath=tmp_path).load()
    VocabularyFileTokenization(filepath=tmp_path / "vocab.json").load()
    (tmp_path / "target_vocab.json").write_text('{"</s>": 0, "<unk>": 1, "<pad>": 2}')
    told = r"Set tokenizer\.joint=false .*/vocab\.json .*target_filepath=\S+/target_vocab\.json .*=\S+/target\.spm$"
    with pytest.raises(TokenizerError, match=told):
        VocabularyFileTokenization(filepath=tmp_path, joint=False).load()


def test_the_identity_does_not_depend_on_the_order_of_entries(tmp_path: Path) -> None:
    ids = {"</s>": 0, "<unk>": 1, "<pad>": 2, "ka": 3, "lo": 4}
    found = []
    for name, entries in (("a.json", ids), ("b.json", dict(reversed(ids.items())))):
        (tmp_path / name).write_text(json.dumps(entries))
        found.append(VocabularyFileTokenization(filepath=tmp_path / name).load().tokenizer.to_str())
    assert found[0] == found[1]


def test_long_words_are_not_kept_in_memory() -> None:
    tables = LookupTables({"ka": 1}, {"<unk>": 0}, "<unk>", splits_at_any_space=True)
    tokenizer = VocabularyTokenizer(tables)
    assert tokenizer.ids_of(["ka " + "k" * 64, "l" * 65]) == [[1, 0], [0]]
    assert tokenizer._of_word.cache_info().currsize == 2


BAD: list[tuple[str, bytes, str]] = [
    ("dict.txt", b"ka 3\nlo three\n", r"dict.txt, line 2: a line of a dict.txt of fairseq has a token"),
    ("dict.txt", b"ka 3\nka 2\n", r"line 2: the token 'ka' occurs twice.*append ` #fairseq:overwrite`"),
    ("dict.txt", b"\xff\xfe 1\n", r"not UTF-8.*Set tokenizer\.filepath"),
    ("vocab.txt", b"</s>\n<unk>\n\nka\n", r"line 3 is empty"),
    ("vocab.txt", b"</s>\n<unk>\nka\nka\n", r"line 3 has 'ka', which occurs twice"),
    ("vocab.txt", b"ka\nlo\n", r"has no </s>, which each vocabulary of Marian has"),
    ("vocab.yml", b"</s>: 0\n<unk>: [1]\n", r"cannot be read as YML: line 2 has neither a token nor an id"),
    ("vocab.yml", b"</s>: 0\n<unk>: 0\n", r"gives one id to two tokens"),
    ("vocab.yml", b"[a: {", r"cannot be read as YML"),
    ("vocab.yml", b"- a\n", r"it is no mapping"),
    ("vocab.json", b'{"</s>": 0, "<unk>": -1}', r"'<unk>': -1"),
    ("vocab.json", b'{"</s>": 0, "<unk>": 1, "a": 99999999}', r"ids are at most"),
    ("vocab.json", b"{", r"cannot be read as JSON"),
    ("vocab.yml", b"[" * 200_000, r"it is no mapping"),
    ("vocab.yml", b"</s>: " + b"[" * 200_000, r"line 1 has neither a token nor an id"),
    ("vocab.yml", b"</s>: &a 0\n<unk>: *a\n", r"line 2 has neither a token nor an id"),
    ("vocab.yml", b"</s>: 0\n---\n<unk>: 1\n", r"line 2 has neither a token nor an id"),
    ("vocab.yml", b"# nothing\n", r"it is no mapping"),
    ("vocab.yml", b"</s>: 0\n<unk>: x\n", r"has '<unk>': x"),
    ("vocab.yml", b"</s>: 0\n<unk>: 1\nka: 2\nka: 3\n", r"the token 'ka' occurs twice"),
    ("vocab.json", b'{"</s>": 0, "<unk>": 1, "ka": 2, "ka": 3}', r"the token 'ka' occurs twice"),
    ("vocab.json", b'{"</s>": 0, "<unk>": 1, "\\ud800": 2}', r"has '\\ud800': 2"),
    ("vocab.json", b"[" * 200_000, r"cannot be read as JSON"),
    ("vocab.json", b"[1]", r"but is list"),
]


@pytest.mark.parametrize(("name", "content", "told"), BAD, ids=range(len(BAD)))
def test_files_that_are_no_vocabulary_are_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=told) as caught:
        VocabularyFileTokenization(filepath=tmp_path / name, pad_token="<pad>").load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"#version: 0.2\na b\nab\n", r"line 3: .*two symbols.*is 'ab'\. Set tokenizer\.codes"),
        (b"#version: 9\na b\n", r"begins with '#version: 9', but mtx reads the versions 0.1 and 0.2"),
        (b"\xff", r"not UTF-8.*or to a SentencePiece model whose name ends in \.model or \.spm$"),
        (b"a b 3\na b\n", r"line 2"),
    ],
)
def test_files_that_are_no_codes_are_refused_in_one_line(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "codes").write_bytes(content)
    (tmp_path / "dict.txt").write_text("ka 3\n")
    with pytest.raises(TokenizerError, match=told) as caught:
        VocabularyFileTokenization(filepath=tmp_path / "dict.txt", codes=tmp_path / "codes").load()
    assert "\n" not in str(caught.value)


def test_other_mistakes_say_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "dict.txt").write_text("ka 3\nka 2 #fairseq:overwrite\n<unk> 1 #fairseq:overwrite\nlo 1\n")
    made = VocabularyFileTokenization(filepath=tmp_path / "dict.txt").load()
    assert encode_texts(made.tokenizer, ["ka lo <unk>"]) == [[5, 7, 3]]
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: VocabularyFileTokenization(filepath=tmp_path / "dict.txt", codes="none").load(), r"codes=none cannot"),
        (lambda: VocabularyFileTokenization(filepath=tmp_path / "dict.txt", eos_token="[E]").load(), r"has <pad>, <s>"),
        (lambda: VocabularyFileTokenization(filepath=tmp_path / "none.txt").load(), r"no tokenizer file"),
    ]
    for call, told in cases:
        with pytest.raises(TokenizerError, match=told):
            call()
    (tmp_path / "dict.txt").rename(tmp_path / "other")
    with pytest.raises(TokenizerError, match=r"has no vocab.json, vocab.yml or dict.txt, only other"):
        VocabularyFileTokenization(filepath=tmp_path).load()
