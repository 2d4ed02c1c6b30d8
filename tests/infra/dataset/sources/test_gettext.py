"""gettext catalogues, as text and compiled, and those of installed packages."""

import gzip
import importlib
import logging
import struct
import time
from pathlib import Path
from typing import Any

import polib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.assumption_log import collected_assumptions
from mtx.errors import ConfigError, MalformedPairError, SourceError
from mtx.infra.dataset.sources import installed_catalogue_search, po
from mtx.infra.dataset.sources.local import LocalDownloader

HEADER = 'msgid ""\nmsgstr ""\n"Language: de\\n"\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n'
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\x04"), max_size=8)


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def pairs_of(path: Path, **options: Any) -> tuple[list[tuple[str, str]], dict[str, int]]:
    counts: dict[str, int] = {}
    batches = LocalDownloader(path=path, **options).batches("train", counts)
    return [(row["src"], row["tgt"]) for batch in batches for row in batch.to_pylist()], counts


def message(path: Path, error: type[SourceError] = SourceError, **options: Any) -> str:
    with pytest.raises(error) as raised:
        pairs_of(path, **options)
    return str(raised.value)


def mo(entries: list[tuple[bytes, bytes]], order: str = "<") -> bytes:
    """Write a compiled catalogue: a head, two tables of lengths and places, and the texts, each ended by a zero."""
    place = 28 + 16 * len(entries)
    tables, texts = [b"", b""], b""
    for side in (0, 1):
        for entry in entries:
            tables[side] += struct.pack(f"{order}2I", len(entry[side]), place + len(texts))
            texts += entry[side] + b"\0"
    count = len(entries)
    head = struct.pack(f"{order}7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, place)
    return head + tables[0] + tables[1] + texts


MO_HEADER = (b"", b"Language: de\nContent-Type: text/plain; charset=UTF-8\n")


# Text


def test_entries_of_all_kinds(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.po",
        "# A comment\n"
        + HEADER
        + '#. for translators\n#: file.c:1\nmsgid "one"\nmsgstr "eins"\n\n'
        + 'msgctxt "menu"\nmsgid "Open"\nmsgstr "Öffnen"\n'  # no empty line between these
        + 'msgctxt "door"\nmsgid "Open"\nmsgstr "Offen"\n\n'
        + '#, c-format\nmsgid "%d file\\n"\nmsgid_plural "%d files\\n"\n'
        + 'msgstr[0] "%d Datei\\n"\nmsgstr[1] "%d Dateien\\n"\nmsgstr[2] "%d Dateien!\\n"\n\n'
        + '#, c-format, fuzzy\n#| msgid "old"\nmsgid "new"\nmsgstr "neu"\n\n'
        + '#, fuzzy\nmsgid "empty and fuzzy"\nmsgstr ""\n\n'
        + 'msgid "not yet"\nmsgstr ""\n\n'
        + 'msgid ""\n"long "\n  "text\\"\\\\\\t"\nmsgstr ""\n"lan\u2028ger "\n"Text\\x21\\041"\n\n'
        + '#, fuzzy\n#~ msgid "gone"\n#~ msgid_plural "gones"\n#~ msgstr[0] "weg"\n\n'
        + 'msgid "last"\nmsgstr "letzter"',
    )
    expected = [
        ("one", "eins"),
        ("Open", "Öffnen"),
        ("Open", "Offen"),
        ("%d file\n", "%d Datei\n"),
        ("%d files\n", "%d Dateien\n"),
        ("new", "neu"),
        ('long text"\\\t', "lan\u2028ger Text!!"),
        ("last", "letzter"),
    ]
    counts = {"untranslated": 2, "fuzzy": 1, "obsolete": 1}
    assert pairs_of(path) == ([pair for pair in expected if pair[0] != "new"], counts)
    assert pairs_of(path, keep_fuzzy=True) == (expected, {"untranslated": 2, "obsolete": 1})
    info = LocalDownloader(path=path).info()
    assert (info.name, info.languages) == ("a", ("en", "de"))
    assert LocalDownloader(path=path, keep_fuzzy=True).info().identity != info.identity
    assert "keep_fuzzy" not in info.identity


def test_one_plural_form_goes_with_the_singular(tmp_path: Path) -> None:
    entry = 'msgid "%d file"\nmsgid_plural "%d files"\nmsgstr[0] "%d ファイル"\n'
    assert pairs_of(write(tmp_path / "ja.po", HEADER.replace(": de", ": ja") + entry))[0] == [
        ("%d file", "%d ファイル")
    ]
    entry = 'msgid "%d file"\nmsgid_plural "%d files"\nmsgstr[0] "%d Datei"\nmsgstr[1] ""\n'
    assert pairs_of(write(tmp_path / "de.po", HEADER + entry)) == ([("%d file", "%d Datei")], {"untranslated": 1})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(TEXTS.filter(len), TEXTS, st.none() | TEXTS, st.sampled_from(["", "fuzzy", "obsolete"])), max_size=5
    ),
    st.sampled_from([10, 78]),
)
def test_what_polib_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, str, str | None, str]], width: int
) -> None:
    file = polib.POFile(wrapwidth=width)
    file.metadata = {"Language": "de", "Content-Type": "text/plain; charset=utf-8"}
    file.append(polib.POEntry(msgid="sure", msgstr="sicher"))
    expected, counts = [("sure", "sicher")], {"obsolete": 0, "fuzzy": 0, "untranslated": 0}
    for source, target, context, kind in entries:
        flags = ["fuzzy"] if kind == "fuzzy" else []
        obsolete = kind == "obsolete"
        file.append(polib.POEntry(msgid=source, msgstr=target, msgctxt=context, flags=flags, obsolete=obsolete))
        reason = kind if kind == "obsolete" or (kind and target) else "" if target else "untranslated"
        if reason:
            counts[reason] += 1
        else:
            expected.append((source, target))
    # polib leaves characters that end lines for Python, such as U+0085, as they are; so does a file.
    path = write(tmp_path_factory.mktemp("po") / "a.po", str(file).encode())
    assert pairs_of(path) == (expected, {reason: number for reason, number in counts.items() if number})


def test_other_charsets_and_compressions(tmp_path: Path) -> None:
    data = (HEADER.replace("UTF-8", "ISO-8859-15") + 'msgid "price"\nmsgstr "5 €, über"\n').encode("iso-8859-15")
    assert pairs_of(write(tmp_path / "a.po", data))[0] == [("price", "5 €, über")]
    assert pairs_of(write(tmp_path / "a.po.gz", gzip.compress(data)))[0] == [("price", "5 €, über")]
    japanese = (HEADER.replace("UTF-8", "SHIFT_JIS") + 'msgid "table"\nmsgstr "表"\n').encode("shift_jis")
    assert pairs_of(write(tmp_path / "b.po", japanese))[0] == [("table", "表")]  # its second byte is a backslash
    template = HEADER.replace("UTF-8", "CHARSET") + 'msgid "a"\nmsgstr "ä"\n'
    assert pairs_of(write(tmp_path / "c.po", b"\xef\xbb\xbf" + template.encode()))[0] == [("a", "ä")]


@pytest.mark.parametrize(
    "charset", ["utf-7", "no-such", "rot13", "punycode", "unicode_escape", "utf-16", "iso-2022-jp"]
)
def test_charsets_that_are_not_read(tmp_path: Path, charset: str) -> None:
    path = write(tmp_path / "a.po", HEADER.replace("UTF-8", charset) + 'msgid "a"\nmsgstr "b"\n')
    assert f"names the charset '{charset}', which mtx does not support" in message(path)


@pytest.mark.parametrize(
    ("entry", "line", "said"),
    [
        ('msgid "a"\nmsgstr "b\n', 7, "the line is not valid in an entry like"),
        ('msgid "a"\nmsgstr "b" c\n', 7, "the line is not valid in an entry like"),
        ('msgid "a"\nno\nmsgstr "b"\n', 7, "the line is not valid in an entry like"),
        ('msgid "a"\nmsgid_plural "b"\nmsgstr[0] "\\q"\n', 8, "the line is not valid in an entry like"),
        ('msgid "a"\nmsgstr "\\xe4"\n', 7, "the line is not valid in an entry like"),
        ('msgid "a"\nmsgstr "b"\nmsgstr "c"\n', 8, "the line is not valid in an entry like"),
        ('"alone"\n', 6, "the line is not valid in an entry like"),
        ('msgid "a"\n', 6, "an entry needs msgid and msgstr, but this one has only msgid"),
        ('msgstr "a"\n', 6, "an entry needs msgid and msgstr, but this one has only msgstr"),
    ],
)
def test_entries_that_are_none_are_refused_or_counted_alone(tmp_path: Path, entry: str, line: int, said: str) -> None:
    path = write(tmp_path / "a.po", HEADER + entry + '\nmsgid "good"\nmsgstr "gut"\n')
    text = message(path, MalformedPairError)
    assert text.startswith(f"{path}, line {line}: {said}")
    assert "downloader.on_error=skip" in text
    assert pairs_of(path, on_error="skip") == ([("good", "gut")], {"malformed_entry": 1})


def test_bytes_that_do_not_fit_the_charset(tmp_path: Path) -> None:
    path = write(tmp_path / "a.po", HEADER.encode() + b'msgid "a"\nmsgstr "\xe4"\n\nmsgid "b"\nmsgstr "c"\n')
    assert f"{path}, line 6: the entry has bytes that are not valid in the header's charset" in message(
        path, MalformedPairError
    )
    assert pairs_of(path, on_error="skip") == ([("b", "c")], {"invalid_utf8": 1})


def test_languages_are_told_by_the_header_the_path_or_the_config(tmp_path: Path) -> None:
    entry = 'msgid "a"\nmsgstr "b"\n'
    bare = write(tmp_path / "fr" / "LC_MESSAGES" / "app.po", entry)
    assert LocalDownloader(path=bare).info().languages == ("en", "fr")
    named = write(tmp_path / "pt_BR.po", HEADER.replace("Language: de", "Language: ") + entry)
    assert LocalDownloader(path=named).info().languages == ("en", "pt_BR")
    unknown = write(tmp_path / "catalogue.po", entry)
    assert LocalDownloader(path=unknown, target_language="de").info().languages == ("en", "de")
    for options in ({}, {"source_language": "fr"}):
        assert "Set the language of its translations with downloader.target_language=" in message(unknown, **options)
    german = write(tmp_path / "a.po", HEADER + entry)
    assert LocalDownloader(path=german, source_language="fr").info().languages == ("fr", "de")
    assert LocalDownloader(path=german, target_language="de_AT").info().languages == ("en", "de_AT")
    assert LocalDownloader(path=german, source_language="de").info().languages == ("de", "en")
    assert pairs_of(german, source_language="de", target_language="en")[0] == [("b", "a")]
    text = message(german, target_language="fr")
    assert "the languages of the file are en and de, but requested are any and fr" in text


def test_catalogues_without_pairs(tmp_path: Path) -> None:
    assert "a.po has no entry" in message(write(tmp_path / "a.po", "# nothing\n"))
    template = HEADER + 'msgid "a"\nmsgstr ""\n'
    assert "has no pair of texts (left out: untranslated 1)" in message(write(tmp_path / "a.po", template))
    assert "a.mo has no entry" in message(write(tmp_path / "a.mo", mo([])))


def test_an_entry_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(po, "MAX_ENTRY_CHARS", 1000)
    path = write(tmp_path / "a.po", HEADER + 'msgid "a"\nmsgstr ""\n' + '"0123456789"\n' * 101)
    assert "line 107: an entry has more than 1,000 characters" in message(path, on_error="skip")


@pytest.mark.parametrize("line", ['"' + "\\" * 100_001, '"' + "a" * 100_000, "#" * 100_000, "#," + "fuzz" * 25_000])
def test_long_lines_take_no_longer_than_their_length(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "a.po", HEADER + f'msgid "a"\n{line}\n\nmsgid "b"\nmsgstr "c"\n')
    started = time.perf_counter()
    assert pairs_of(path, on_error="skip")[0] == [("b", "c")]
    assert time.perf_counter() - started < 1


# Compiled


@pytest.mark.parametrize("order", ["<", ">"])
def test_compiled_catalogues(tmp_path: Path, order: str) -> None:
    entries = [
        MO_HEADER,
        (b"%d file\0%d files", b"%d Datei\0%d Dateien\0%d Dateien!"),
        (b"menu\x04Open", "Öffnen".encode()),
        (b"none", b""),
        (b"one", b"eins"),
    ]
    path = write(tmp_path / "a.mo", mo(entries, order))
    assert pairs_of(path) == (
        [("%d file", "%d Datei"), ("%d files", "%d Dateien"), ("Open", "Öffnen"), ("one", "eins")],
        {"untranslated": 1},
    )
    assert LocalDownloader(path=path).info().languages == ("en", "de")
    assert pairs_of(write(tmp_path / "b.mo.gz", gzip.compress(path.read_bytes()))) == pairs_of(path)
    assert len(pairs_of(path, n=2)[0]) == 2


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(TEXTS.filter(len), TEXTS.filter(len), min_size=1, max_size=5))
def test_what_polib_compiles_is_read(tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str]) -> None:
    file = polib.MOFile()
    file.metadata = {"Language": "de", "Content-Type": "text/plain; charset=utf-8"}
    for source, target in texts.items():
        file.append(polib.POEntry(msgid=source, msgstr=target))
    path = write(tmp_path_factory.mktemp("mo") / "a.mo", file.to_binary())
    assert dict(pairs_of(path)[0]) == texts


def test_compiled_entries_that_are_none(tmp_path: Path) -> None:
    entries = [MO_HEADER, (b"a", b"b\0c"), (b"a\0b\0c", b"d"), (b"e", b"\xe4"), (b"f", b"g")]
    path = write(tmp_path / "a.mo", mo(entries))
    text = message(path, MalformedPairError)
    assert (
        f"{path}, entry 2: an entry must have one text, or a singular and a plural, but this entry has 1 with 2" in text
    )
    assert pairs_of(path, on_error="skip") == ([("f", "g")], {"malformed_entry": 2, "invalid_utf8": 1})


GOOD = mo([MO_HEADER, (b"one", b"eins"), (b"two", b"zwei")])


def changed(position: int, number: int) -> bytes:
    data = bytearray(GOOD)
    struct.pack_into("<I", data, position, number)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"text", "its first bytes are wrong"),
        (GOOD[:19], "its first bytes are wrong"),
        (changed(4, 2 << 16), "it has version 2, but mtx reads only versions 0 and 1"),
        (changed(8, 0xFFFFFFFF), "its tables of 4,294,967,295 texts extend beyond its end"),
        (changed(12, 0xFFFFFFF0), "its tables of 3 texts extend beyond its end"),
        (GOOD[:-30], "a text extends beyond its end"),
        (changed(28 + 8, 0x7FFFFFFF), "a text extends beyond its end"),
        (changed(28 + 12, 0xFFFFFFFF), "a text extends beyond its end"),
    ],
)
def test_compiled_catalogues_that_are_damaged(tmp_path: Path, data: bytes, said: str) -> None:
    path = write(tmp_path / "a.mo", data)
    assert f"{path} is not a valid gettext catalogue (.mo): {said}" in message(path, on_error="skip")


def test_many_entries_for_one_long_text_are_refused(tmp_path: Path) -> None:
    count, text = 10_000, b"x" * 100_000
    table = struct.pack("<2I", len(text), 28 + 8 * count) * count
    data = struct.pack("<7I", 0x950412DE, 0, count, 28, 28, 0, 0) + table + text + b"\0"
    started = time.perf_counter()
    path = write(tmp_path / "a.mo", data)
    assert "its texts overlap, and are longer than the file" in message(path)
    assert time.perf_counter() - started < 1


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(GOOD)))
def test_damage_anywhere_gives_pairs_or_a_message(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], keep: int
) -> None:
    data = bytearray(GOOD)
    for position, value in changes:
        data[position] = value
    path = write(tmp_path_factory.mktemp("mo") / "a.mo", bytes(data[:keep]))
    try:
        pairs, _ = pairs_of(path, on_error="skip")
    except SourceError as error:
        pairs, said = [], str(error)
    else:
        said = str(path)
    assert str(path) in said
    assert len(pairs) <= 6


def test_how_plurals_are_chosen_is_never_evaluated(tmp_path: Path) -> None:
    plural = b"Plural-Forms: nplurals=2; plural=" + b"(" * 50_000 + b"__import__('os').abort()" + b")" * 50_000 + b";\n"
    path = write(tmp_path / "a.mo", mo([(b"", MO_HEADER[1] + plural), (b"one", b"eins")]))
    assert pairs_of(path)[0] == [("one", "eins")]


# Packages


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python package with catalogues in a folder that is searched."""
    locale = tmp_path / "site" / "shop" / "locale"
    write(locale / "de" / "LC_MESSAGES" / "shop.mo", GOOD)
    write(locale / "de" / "LC_MESSAGES" / "shop.po", HEADER + 'msgid "x"\nmsgstr "y"\n')
    write(locale / "de" / "LC_MESSAGES" / "admin.po", HEADER + 'msgid "three"\nmsgstr "drei"\n')
    write(locale / "de_AT" / "LC_MESSAGES" / "shop.po", HEADER + 'msgid "January"\nmsgstr "Jänner"\n')
    write(locale / "fr" / "LC_MESSAGES" / "shop.mo", GOOD)
    write(tmp_path / "site" / "shop-1.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: shop\nVersion: 1\n")
    write(tmp_path / "site" / "empty-1.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: empty\nVersion: 1\n")
    files = [path.relative_to(tmp_path / "site").as_posix() for path in sorted((tmp_path / "site").rglob("*.?o"))]
    write(tmp_path / "site" / "shop-1.dist-info" / "RECORD", "".join(f"{name},,\n" for name in [*files, "gone/de.mo"]))
    write(tmp_path / "site" / "empty-1.dist-info" / "RECORD", "empty-1.dist-info/METADATA,,\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    monkeypatch.setattr(installed_catalogue_search, "DPKG_FOLDER", tmp_path / "dpkg")
    monkeypatch.setattr(installed_catalogue_search, "LOCALE_FOLDER", tmp_path / "usr")
    return tmp_path


def package_pairs(**options: Any) -> list[tuple[str, str]]:
    return [(row["src"], row["tgt"]) for row in LocalDownloader(**options).download()]


def test_catalogues_of_a_python_package(installed: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    german = LocalDownloader(package="shop", target_language="de")
    assert package_pairs(package="shop", target_language="de") == [("three", "drei"), ("one", "eins"), ("two", "zwei")]
    assert (german.info().name, german.info().languages) == ("shop", ("en", "de"))
    assert package_pairs(package="shop", target_language="de-AT") == [("January", "Jänner")]
    assert package_pairs(package="shop", target_language="de_CH") == package_pairs(package="shop", target_language="de")
    assert all("are in 'en', because catalogues do not state it" in message for message in caplog.messages)


def test_catalogues_of_a_system_package_and_of_a_text_domain(installed: Path) -> None:
    path = write(installed / "usr" / "de" / "LC_MESSAGES" / "editor.mo", GOOD)
    write(installed / "dpkg" / "vi:amd64.list", f"/.\n{path}\n{path}.gone\n")
    expected = [("one", "eins"), ("two", "zwei")]
    assert package_pairs(package="vi", target_language="de") == expected
    assert package_pairs(package="editor", target_language="de") == expected


def test_packages_that_cannot_be_read_say_why(installed: Path) -> None:
    def said(**options: Any) -> str:
        with pytest.raises(SourceError) as raised:
            LocalDownloader(**options).info()
        return str(raised.value)

    text = said(package="shop", target_language="nl")
    assert "the package shop has no gettext catalogue in the language 'nl'; present: de, de_AT, fr" in text
    assert "it has no catalogues in any language" in said(package="empty", target_language="de")
    text = said(package="no-such-package", target_language="de")
    assert "the package 'no-such-package' is installed neither in this Python nor in the system (dpkg)" in text
    assert "must be the name of an installed package, but is '../etc'" in said(package="../etc", target_language="de")
    with pytest.raises(ConfigError, match=r"Set downloader.target_language=NAME"):
        LocalDownloader(package="shop")
    with pytest.raises(ConfigError, match=r"downloader.package=NAME, and nothing else of these; set: path, package"):
        LocalDownloader(package="shop", path="a.po", target_language="de")


# Plural rules and names of languages

SLOVENIAN = "nplurals=4; plural=(n%100==1 ? 0 : n%100==2 ? 1 : n%100==3 || n%100==4 ? 2 : 3);"
POLISH = "nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<12 || n%100>14) ? 1 : 2);"
ARABIC = (
    "nplurals=6; plural=n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : n%100>=11 && n%100<=99 ? 4 : 5;"
)


@pytest.mark.parametrize(
    ("language", "rule", "forms", "singular", "plural"),
    [
        ("sl", SLOVENIAN, 4, 0, 3),
        ("pl", POLISH, 3, 0, 2),
        ("ar", ARABIC, 6, 1, 4),
        ("fr", "nplurals=2; plural=(n > 1);", 2, 0, 1),
        ("sl", None, 4, 0, 3),  # Babel's rule of the language
        ("pl_PL", None, 3, 0, 2),
        ("xx", None, 2, 0, 1),  # of no known language: as the catalogue of a Germanic one
        ("sl", "nplurals=4; plural=__import__('os').abort();", 4, 0, 3),  # no rule
        ("sl", "nplurals=4; plural=n/0;", 4, 0, 3),
        ("de", "nplurals=2; plural=(n != 1)", 2, 0, 1),  # without the semicolon at the end
        ("pl", "nplurals=9; plural=8;", 3, 2, 2),  # forms that the entry has not: the last
    ],
)
@pytest.mark.parametrize("ending", ["po", "mo"])
def test_the_plural_goes_with_the_form_of_most_numbers(
    tmp_path: Path, language: str, rule: str | None, forms: int, singular: int, plural: int, ending: str
) -> None:
    head = f"Language: {language}\nContent-Type: text/plain; charset=UTF-8\n"
    head += f"Plural-Forms: {rule}\n" if rule else ""
    targets = [f"form {number}" for number in range(forms)]
    if ending == "po":
        lines = "".join(f'"{line}\\n"\n' for line in head.splitlines())
        entry = "".join(f'msgstr[{number}] "{text}"\n' for number, text in enumerate(targets))
        data: str | bytes = f'msgid ""\nmsgstr ""\n{lines}\nmsgid "lamp"\nmsgid_plural "lamps"\n{entry}'
    else:
        data = mo([(b"", head.encode()), (b"lamp\0lamps", "\0".join(targets).encode())])
    path = write(tmp_path / f"a.{ending}", data)
    assert pairs_of(path)[0] == [("lamp", f"form {singular}"), ("lamps", f"form {plural}")]


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("acf-de_DE.po", "de_DE"),
        ("app.pt_BR.po", "pt_BR"),
        ("app-sr@latin.po", "sr@latin"),
        ("zh_Hant_TW.po", "zh_Hant_TW"),
        ("locale/de/app.po", "de"),
        ("locale/pt-BR/messages.po", "pt-BR"),
        ("ja/LC_MESSAGES/de.po", "ja"),
        ("app-is.po", "is"),
        ("django_zh-Hans.po", "zh-Hans"),
        ("po/eng.po", "eng"),
    ],
)
def test_the_language_is_that_of_the_name_or_the_folder(tmp_path: Path, name: str, language: str) -> None:
    path = write(tmp_path / "x1" / name, 'msgid "a"\nmsgstr "b"\n')
    with collected_assumptions() as assumed:
        assert LocalDownloader(path=path).info().languages == ("en", language)
    assert any(f"is in {language!r}, by its name or folder" in what for what in assumed)
    assert LocalDownloader(path=path, target_language=language).info().languages == ("en", language)


FOUR = 'msgid "lamp"\nmsgid_plural "lamps"\n' + "".join(f'msgstr[{i}] "form {i}"\n' for i in range(4))


@pytest.mark.parametrize(
    ("name", "rule", "options"),
    [
        ("a.po", SLOVENIAN, {"target_language": "sl"}),
        ("a.po", SLOVENIAN, {"target_language": "tlh"}),  # no language that Babel knows
        ("sl.po", "", {}),  # by the language of the name
        ("a.po", "", {"target_language": "sl"}),  # by the config's language
        ("a.po", "", {"source_language": "sl", "target_language": "en"}),
        ("sl.po", "nplurals=2; plural=n != 1;", {}),  # copied from another catalogue
        ("a.po", "nplurals=2; plural=n != 1;", {"target_language": "tlh"}),  # copied, and nothing else is known
        ("a.po", "nplurals=4; plural=n !=;", {"target_language": "tlh"}),  # invalid
        ("a.po", "", {"target_language": "tlh"}),  # none: the last form
    ],
)
def test_the_plural_never_gets_a_form_for_two_or_few(
    tmp_path: Path, name: str, rule: str, options: dict[str, str]
) -> None:
    head = f'msgid ""\nmsgstr "Plural-Forms: {rule}\\n"\n\n' if rule else ""
    pairs = pairs_of(write(tmp_path / name, head + FOUR), **options)[0]
    assert {tuple(sorted(pair)) for pair in pairs} == {("form 0", "lamp"), ("form 3", "lamps")}
