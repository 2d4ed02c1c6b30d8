import hashlib
import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import Metaspace as MetaspaceDecoder
from tokenizers.models import Unigram, WordLevel
from tokenizers.pre_tokenizers import Metaspace, Whitespace
from tokenizers.processors import TemplateProcessing

from mtx.assumption_log import collected_assumptions
from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize import tokenizer_folder
from mtx.data.tokenize.pretrained import PretrainedTokenization
from mtx.data.tokenize.tokenization import SpecialIds, encode_texts, special_ids
from mtx.errors import ConfigError, TokenizerError

T5_LIKE = {"pad_token": "<pad>", "bos_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


@pytest.fixture
def t5_like(tmp_path: Path) -> Path:
    """A unigram vocabulary with truncation, padding and a post-processor, and its special tokens among its pieces."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((char, -3.0) for char in "▁ab</s>pd"), ("▁ab", -2.0)]
    tokenizer = Tokenizer(Unigram(vocab=pieces, unk_id=2))
    tokenizer.pre_tokenizer = Metaspace()
    tokenizer.decoder = MetaspaceDecoder()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=8, pad_token="<pad>")
    path = tmp_path / "t5.json"
    tokenizer.save(str(path))
    return path


def test_only_the_vocabulary_of_the_file_acts(t5_like: Path) -> None:
    """Ids: ▁ 3, a 4, b 5, < 6, / 7, s 8, > 9, p 10, d 11, ▁ab 12."""
    tokenizer = PretrainedTokenization(filepath=t5_like, **T5_LIKE).load().tokenizer
    assert encode_texts(tokenizer, ["ab ab aba ab", "b"]) == [[12, 12, 12, 4, 12], [3, 5]]


def test_special_tokens_among_the_pieces_are_spelled_out(t5_like: Path) -> None:
    tokenizer = PretrainedTokenization(filepath=t5_like, **T5_LIKE).load().tokenizer
    assert encode_texts(tokenizer, ["a</s>b <pad>"]) == [[3, 4, 6, 7, 8, 9, 5, 3, 6, 10, 4, 11, 9]]
    assert tokenizer.decode(encode_texts(tokenizer, ["a</s>b <pad>"])[0]) == "a</s>b <pad>"


def test_a_model_without_pre_tokenizer_spells_them_out_too(tmp_path: Path) -> None:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((char, -3.0) for char in "ab</s>pd")]
    path = tmp_path / "bare.json"
    Tokenizer(Unigram(vocab=pieces, unk_id=2)).save(str(path))
    tokenizer = PretrainedTokenization(filepath=path, **T5_LIKE).load().tokenizer
    assert tokenizer.encode("a</s>b").tokens == ["a", "<", "/", "s", ">", "b"]


def test_one_token_may_serve_twice(t5_like: Path) -> None:
    loaded = PretrainedTokenization(filepath=t5_like, **T5_LIKE).load()
    assert special_ids(loaded.tokenizer, loaded.special) == SpecialIds(pad=0, bos=0, eos=1, unk=2)


def test_tokens_that_the_file_did_not_mark_are_left_out_of_decoded_text(tmp_path: Path) -> None:
    vocab = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3}
    tokenizer = Tokenizer(WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_tokens([AddedToken("</s>", special=False)])
    path = tmp_path / "words.json"
    tokenizer.save(str(path))
    loaded = PretrainedTokenization(filepath=path, **T5_LIKE).load().tokenizer
    assert loaded.decode([3, 1, 0]) == "a"
    assert 1 not in encode_texts(loaded, ["a </s>"])[0]


def test_saving_copies_the_file_and_keeps_the_identity(t5_like: Path, tmp_path: Path) -> None:
    loaded = PretrainedTokenization(filepath=t5_like, **T5_LIKE).load()
    copy = loaded.at(tmp_path / "store" / "tokenizer.json").save()
    assert (tmp_path / "store" / "tokenizer.json").read_bytes() == t5_like.read_bytes()
    fresh = PretrainedTokenization(filepath=copy.filepath, **T5_LIKE)
    assert fresh.identity() == loaded.identity() == copy.identity()
    assert encode_texts(fresh.load().tokenizer, ["ab </s>"]) == encode_texts(loaded.tokenizer, ["ab </s>"])


def test_identity_follows_the_content_and_the_special_tokens(t5_like: Path) -> None:
    one = PretrainedTokenization(filepath=t5_like, **T5_LIKE)
    assert one.identity() == {
        "kind": "tokenizer/pretrained",
        "version": 1,
        "joint": True,
        **T5_LIKE,
        "sha256": hashlib.sha256(t5_like.read_bytes()).hexdigest(),
    }
    before = one.identity()
    assert PretrainedTokenization(filepath=t5_like, **{**T5_LIKE, "bos_token": "</s>"}).identity() != before
    t5_like.write_bytes(t5_like.read_bytes() + b"\n")
    assert one.identity() != before


def test_missing_special_tokens_are_named(t5_like: Path) -> None:
    with pytest.raises(TokenizerError, match=r"has no <PAD>, <BOS>, <EOS>, <UNK>, .* in it: <pad>, </s>, <unk>"):
        PretrainedTokenization(filepath=t5_like).load()


def test_a_missing_file_is_named_also_by_identity(tmp_path: Path) -> None:
    absent = PretrainedTokenization(filepath=tmp_path / "absent.json")
    for call in (absent.load, absent.identity):
        with pytest.raises(TokenizerError, match=r"no tokenizer file .*absent.json: correct tokenizer.filepath"):
            call()


def test_it_is_not_trained(t5_like: Path, dataset: TranslationDataset) -> None:
    with pytest.raises(TokenizerError, match=r"t5.json is not trained: call .load\(\), or choose tokenizer=bpe"):
        PretrainedTokenization(filepath=t5_like, **T5_LIKE).train(dataset)


def test_before_loading_there_is_nothing(t5_like: Path) -> None:
    unread = PretrainedTokenization(filepath=t5_like, **T5_LIKE)
    with pytest.raises(TokenizerError, match=r"has no tokenizer yet: call .load\(\) first"):
        unread.tokenizer  # noqa: B018
    with pytest.raises(TokenizerError, match=r"has no tokenizer yet: call .load\(\) first"):
        unread.save()


def test_all_problems_of_a_config_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        PretrainedTokenization(pad_token=["PAD"], bos_token="", eos_token="</s>")  # type: ignore[arg-type]
    rule = "is a text, in quotes on a command line (\"tokenizer.pad_token='[PAD]'\"), or null, but is"
    assert str(caught.value).splitlines() == [
        f"tokenizer.pad_token {rule} ['PAD']. Set tokenizer.pad_token=TEXT",
        f"tokenizer.bos_token {rule} ''. Set tokenizer.bos_token=TEXT",
    ]
    with pytest.raises(
        ConfigError, match=r"^tokenizer\.filepath must be a file, but is not set\. Set tokenizer\.filepath="
    ):
        PretrainedTokenization()


def test_the_end_must_not_look_like_padding() -> None:
    with pytest.raises(ConfigError, match="must differ, but both are '</s>': losses ignore padding"):
        PretrainedTokenization(filepath="a.json", pad_token="</s>", eos_token="</s>")


@pytest.fixture
def folder(t5_like: Path, tmp_path: Path) -> Path:
    """A folder as `save_pretrained` of transformers writes it."""
    found = tmp_path / "folder"
    found.mkdir()
    (found / "tokenizer.json").write_bytes(t5_like.read_bytes())
    (found / "special_tokens_map.json").write_text(
        json.dumps({"pad_token": "<pad>", "eos_token": {"content": "</s>", "lstrip": False}, "unk_token": "<unk>"})
    )
    return found


def test_a_folder_names_its_special_tokens(folder: Path, t5_like: Path, tmp_path: Path) -> None:
    from_folder = PretrainedTokenization(filepath=folder)
    with collected_assumptions() as kept:
        assert from_folder.identity() == PretrainedTokenization(filepath=t5_like, **T5_LIKE).identity()
        _ = PretrainedTokenization(filepath=folder, bos_token="<pad>").special
    assert len(kept) == 1
    assert "the decoder starts with the padding token '<pad>'" in kept[0]
    loaded = from_folder.load()
    assert special_ids(loaded.tokenizer, loaded.special) == SpecialIds(pad=0, bos=0, eos=1, unk=2)
    copy = PretrainedTokenization(filepath=folder).at(tmp_path / "copy.json")
    assert copy.special == loaded.special
    loaded.at(tmp_path / "copy.json").save()
    assert encode_texts(copy.load().tokenizer, ["ab </s>"]) == encode_texts(loaded.tokenizer, ["ab </s>"])


def test_typed_tokens_and_the_start_of_the_decoder_count_first(folder: Path) -> None:
    (folder / "config.json").write_text('{"decoder_start_token_id": 1}')
    assert PretrainedTokenization(filepath=folder).special.bos == "</s>"
    assert PretrainedTokenization(filepath=folder, bos_token="a").special.bos == "a"


def start_with(folder: Path, *tokens: str, **starts: str) -> PretrainedTokenization:
    """Return the tokenizer of a folder with these added tokens, and the tokens at these keys of its model's config."""
    content = json.loads((folder / "tokenizer.json").read_text())
    first = max(each["id"] for each in content["added_tokens"]) + 100
    added = [{**content["added_tokens"][0], "id": first + at, "content": token} for at, token in enumerate(tokens)]
    added = [*content["added_tokens"], *added]
    (folder / "tokenizer.json").write_text(json.dumps({**content, "added_tokens": added}))
    ids = {each["content"]: each["id"] for each in added}
    (folder / "config.json").write_text(json.dumps({key: ids[token] for key, token in starts.items()}))
    return PretrainedTokenization(filepath=folder)


def test_the_files_of_a_model_say_with_which_token_a_translation_begins(folder: Path) -> None:
    assert PretrainedTokenization(filepath=folder).target_starts == ()
    assert PretrainedTokenization(filepath=folder / "tokenizer.json").target_starts == ()
    first_mbart = start_with(folder, "de_DE", "en_XX", decoder_start_token_id="de_DE")
    assert first_mbart.target_starts == (("de_DE", "decoder_start_token_id"),)
    assert first_mbart.special.bos != "de_DE"
    (folder / "generation_config.json").write_text(
        (folder / "config.json").read_text().replace("decoder_start", "forced_bos")
    )
    (folder / "config.json").write_text(json.dumps({"decoder_start_token_id": 1, "forced_bos_token_id": 2}))
    mbart50 = PretrainedTokenization(filepath=folder)
    assert (mbart50.target_starts, mbart50.special.bos) == ((("de_DE", "forced_bos_token_id"),), "</s>")


def test_both_starts_of_a_model_are_named(folder: Path) -> None:
    found = start_with(folder, "ro_RO", "en_XX", decoder_start_token_id="ro_RO", forced_bos_token_id="</s>")
    assert found.target_starts == (("</s>", "forced_bos_token_id"), ("ro_RO", "decoder_start_token_id"))


@pytest.mark.parametrize("tokens", [("__bos__", "__en__", "__de__"), ("bos", "cls"), ("cls",), ("de",)])
def test_a_start_of_the_decoder_that_names_no_language_of_several_is_bos(folder: Path, tokens: tuple[str, ...]) -> None:
    found = start_with(folder, *tokens, decoder_start_token_id=tokens[0])
    assert (found.target_starts, found.special.bos) == ((), tokens[0])


def test_a_start_of_the_decoder_with_a_role_in_the_folder_is_bos(folder: Path) -> None:
    found = start_with(folder, "de_DE", "en_XX", decoder_start_token_id="de_DE")
    (folder / "special_tokens_map.json").write_text('{"pad_token": "<pad>", "eos_token": "</s>", "cls_token": "de_DE"}')
    assert (found.target_starts, found.special.bos) == ((), "de_DE")


def test_the_start_is_that_of_the_target_tokenizer(folder: Path, t5_like: Path) -> None:
    start_with(folder, "de_DE", "en_XX", decoder_start_token_id="de_DE")
    found = PretrainedTokenization(filepath=t5_like, joint=False, target_filepath=folder)
    assert found.target_starts == (("de_DE", "decoder_start_token_id"),)


def test_a_folder_with_starts_is_parsed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = start_with(folder, "de_DE", "en_XX", decoder_start_token_id="de_DE", forced_bos_token_id="de_DE")
    read: list[str] = []
    parse = tokenizer_folder._object
    monkeypatch.setattr(tokenizer_folder, "_object", lambda path: (read.append(path.name), parse(path))[1])
    for _ in range(2):
        _ = found.special, found.target_starts
    assert read.count("tokenizer.json") == 1


def test_ids_of_a_folder_are_those_of_transformers(folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    texts = ["ab aba", "", "ab  pd", "日本 e\u0301", "a\x00b"]
    ours = encode_texts(PretrainedTokenization(filepath=folder).load().tokenizer, texts)
    assert ours == [
        theirs(text, add_special_tokens=False, truncation=False, padding=False)["input_ids"] for text in texts
    ]


def test_folders_that_are_none_are_told(folder: Path) -> None:
    (folder / "special_tokens_map.json").write_text("[]")
    with pytest.raises(TokenizerError, match=r"special_tokens_map.json must be a JSON object, but is list. Correct"):
        PretrainedTokenization(filepath=folder).load()
    (folder / "special_tokens_map.json").write_text("{")
    with pytest.raises(TokenizerError, match=r"special_tokens_map.json cannot be read as JSON: .* Correct"):
        PretrainedTokenization(filepath=folder).identity()
    (folder / "special_tokens_map.json").write_text('{"pad_token": "</s>", "eos_token": "</s>"}')
    with pytest.raises(ConfigError, match="must differ, but both are '</s>'"):
        PretrainedTokenization(filepath=folder).load()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match=r"has no tokenizer.json, only special_tokens_map.json. A fast tokenizer"):
        PretrainedTokenization(filepath=folder, **T5_LIKE).load()
