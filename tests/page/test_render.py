"""The page as a file: complete, escaped, the same bytes for the same results, small, and never in the way."""

import errno
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nasties
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs_on_disk import measured, profile, trained, write_job
from lxml import html
from rich.console import Console

from mtx.page.render import render, write_results_page, write_run_page
from mtx.page.scripts import packaged_text, script_sources
from mtx.records.job_records import read_results
from mtx.sweep.terminal_summary import end_sweep

HOSTILE = (
    "</bdi><script>alert(1)</script><img src=x onerror=alert(1)>{{ 999*999 }}{% raw %}\x1b[31m\u202e\"'&amp; $x^2$"
)


UNUSUAL = (
    st.none()
    | st.integers()
    | st.text(max_size=4)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.none() | st.integers(), max_size=2)
)


def sweep(folder: Path) -> None:
    """Write a sweep of four trained jobs and a failed one."""
    for number, (sampler, seed, bits) in enumerate([("a", 1, 2.0), ("a", 2, 2.1), ("b", 1, 3.0), ("b", 2, 3.3)]):
        write_job(
            folder / str(number),
            {"seed": seed, "sampler": {"batch_size": 8}},
            trained(bits, fit_s=10.0 + number),
            choices={"sampler": sampler},
            objective="bits_per_byte",
            profile=profile(),
        )
    write_job(folder / "4", {"seed": 3, "sampler": {}}, choices={"sampler": "c"}, error="DataError: no", traceback="at")


def text_of(page: str) -> str:
    """The words that a page shows, white space folded."""
    body = html.fromstring(page.encode()).find("body")
    for script in body.xpath(".//script"):
        script.drop_tree()
    return " ".join(" ".join(body.itertext()).split())


def test_each_section_of_the_page_has_a_question_as_its_heading() -> None:
    headings = re.findall(r"<h2\b.*?>(.*?)</h2>", packaged_text("page.html.j2"))
    without_tags = [re.sub(r"\{%.*?%\}|<.*?>", "\n", heading) for heading in headings]
    assert len(without_tags) > 15
    assert [text for text in without_tags if not re.match(r"\s*[A-Z][^?]+\?", text)] == []


def test_the_page_of_a_sweep_says_what_varied_what_is_best_and_what_failed(tmp_path: Path) -> None:
    sweep(tmp_path)
    page = render(read_results([tmp_path]), tmp_path)
    words = text_of(page)
    assert "5 jobs by sampler: corpus en–ja" in words
    assert "a is best: 1.10 lower than b" in words
    assert "Compared by bits per byte (lower is better)." in words
    assert "★ best" in words
    assert "3 c failed" in words
    assert "1 job failed DataError: no job 4: c" in words
    for heading in ("the best trade-offs?", "bits per byte fall?", "Which data", "What do the batches look"):
        assert heading in words
    assert "Time and tokens to reach 3.000 bits per byte The lowest bits per byte that every job reached." in words
    assert "1 a 5.0 10,000 2 b 5.0 10,000" in words
    assert "dropped: length ratio 30 3.0 %" in words
    tree = html.fromstring(page.encode())
    assert all(figure.get("aria-label") for figure in tree.iter("figure"))
    # 2 fronts, 2 curves, lengths, and shapes and tokens of 2 rows; no effect, as one choice varied
    assert len(list(tree.iter("figure"))) == 2 + 2 + 1 + 2 * 2
    assert "What each choice does" not in words
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert {link.get("href")[1:] for link in tree.iter("a") if link.get("href").startswith("#")} <= set(ids)


def test_the_page_lists_what_was_assumed_and_by_which_jobs(tmp_path: Path) -> None:
    for number, told in enumerate((["a <b> is c"], ["a <b> is c", "d is e"])):
        write_job(tmp_path / str(number), {"seed": number}, trained(2.0, assumptions=told), objective="bits_per_byte")
    page = render(read_results([tmp_path]), tmp_path)
    (section,) = html.fromstring(page.encode()).xpath("//section[@aria-labelledby='assumptions']")
    assert [" ".join(item.text_content().split()) for item in section.iter("li")] == ["a <b> is c", "d is e (jobs 1)"]
    write_job(tmp_path / "own" / "0", {"seed": 0}, trained(2.0), objective="bits_per_byte")
    assert 'id="assumptions"' not in render(read_results([tmp_path / "own"]), tmp_path)


def test_the_page_names_no_winner_if_seeds_differ_as_much_as_arms(tmp_path: Path) -> None:
    for number, (sampler, seed, bits) in enumerate([("a", 1, 2.0), ("a", 2, 2.4), ("b", 1, 2.1), ("b", 2, 2.6)]):
        config = {"seed": seed, "sampler": {}}
        write_job(
            tmp_path / str(number), config, trained(bits), choices={"sampler": sampler}, objective="bits_per_byte"
        )
    words = text_of(render(read_results([tmp_path]), tmp_path))
    assert "Can't tell yet: a is 0.15 lower than b" in words
    assert "★" not in words.replace("★ best", "")


def test_the_effects_of_two_choices_have_intervals(tmp_path: Path) -> None:
    bits = iter((2.0, 2.2, 1.0, 1.2, 2.1, 2.3, 1.3, 1.5))
    for sampler in ("bucket", "random"):
        for size in (100, 200):
            for seed in (1, 2):
                config = {"seed": seed, "sampler": {}, "tokenizer": {"vocab_size": size}}
                job, report = tmp_path / f"{sampler}{size}{seed}", trained(next(bits))
                write_job(job, config, report, choices={"sampler": sampler}, objective="bits_per_byte")
    words = text_of(render(read_results([tmp_path]), tmp_path))
    assert "What does each setting change in bits per byte?" in words
    assert "value difference to best [95 %] jobs bucket ★ best best mean 4 random +0.20 [+0.02, +0.38] 4" in words


def test_the_page_does_not_rank_across_different_held_out_pairs(tmp_path: Path) -> None:
    for number, (digest, bits) in enumerate([("one", 2.0), ("two", 1.0), ("one", 3.0), ("two", 4.0)]):
        report = trained(bits, held_out={"digest": digest})
        write_job(tmp_path / str(number), {"seed": 0, "a": number}, report, objective="bits_per_byte")
    page = render(read_results([tmp_path]), tmp_path)
    words = text_of(page)
    cards = [
        card.text_content()
        for card in html.fromstring(page.encode()).xpath("//h3")
        if "(held-out" in card.text_content()
    ]
    assert cards == [
        "1. a=0 (held-out pairs one)",
        "2. a=2 (held-out pairs one)",
        "1. a=1 (held-out pairs two)",
        "2. a=3 (held-out pairs two)",
    ]
    assert (
        "Not compared with each other: bits per byte of jobs that were measured on different held-out pairs." in words
    )
    assert (
        "No winner: each arm has one seed, and one seed does not show how much seeds vary. a=0 has the lowest" in words
    )
    assert "one seed does not show how much seeds vary. a=1 has the lowest number, 3 lower than a=3." in words


def test_the_page_of_a_run_has_its_numbers_and_its_translations(tmp_path: Path) -> None:
    translations = [{"row": 0, "source": "one", "reference": "eins", "output": ""}]
    write_job(tmp_path / "run", {"seed": 0}, trained(2.5, translations=translations), objective="bits_per_byte")
    out: list[str] = []
    write_run_page(tmp_path / "run", Console(file=Writes(out), width=200))
    words = text_of((tmp_path / "run" / "report.html").read_text())
    assert "bits per byte 2.5000" in words
    assert "source one reference eins output (empty)" in words
    assert "What did the sweep vary?" not in words
    assert "page: " in "".join(out)


def test_a_run_without_a_report_gets_no_page(tmp_path: Path) -> None:
    write_job(tmp_path / "run", {"seed": 0})
    write_run_page(tmp_path / "run", Console())
    assert not (tmp_path / "run" / "report.html").exists()


def test_whatever_others_wrote_is_text_on_the_page(tmp_path: Path) -> None:
    report = trained(
        2.0,
        name=HOSTILE,
        languages=[HOSTILE, '"><script>'],
        dropped={"length_ratio": 3, HOSTILE: 2},
        versions={HOSTILE: HOSTILE},
        built=[HOSTILE],
        assumptions=[HOSTILE, "the columns are en and fr"],
        ids={HOSTILE: HOSTILE},
        translations=[{"row": 1, "source": HOSTILE, "reference": HOSTILE, "output": HOSTILE}],
    )
    left = {**profile(rejected=(HOSTILE, HOSTILE))}
    for number in range(2):
        config = {"a": f"{HOSTILE}{number}", "b": HOSTILE}
        write_job(tmp_path / str(number), config, report, objective="bits_per_byte", profile=left)
    write_job(tmp_path / "2", {"a": HOSTILE}, error=HOSTILE, traceback=HOSTILE)
    for folder in (tmp_path, tmp_path / "0"):
        results = read_results([folder])
        assert not any(job.report_problem for job in results.jobs)
        page = render(results, tmp_path)
        tree = html.fromstring(page.encode())
        assert [script.get("id") for script in tree.iter("script")] == ["page-data", None, None]  # mtx's own
        assert HOSTILE.split("</bdi>")[1][:25] not in page
        assert not list(tree.iter("img", "iframe", "object", "embed", "form", "base"))
        assert not [name for element in tree.iter() for name in element.attrib if name.lower().startswith("on")]
        assert "{{ 999*999 }}" in page
        assert str(999 * 999) not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "\\u202e" in page


def test_nasty_texts_of_corpora_leave_the_page_well_formed(tmp_path: Path, undrawn: None) -> None:
    samples = [{"source": text, "target": text[::-1]} for text in nasties.EVERY.values()]
    for number in range(0, len(samples), 5):
        left = {**profile(), "rejects": {"train": {"duplicate": {"count": 5, "samples": samples[number : number + 5]}}}}
        write_job(tmp_path / str(number), {"a": number}, measured(source_vocab_size=number), profile=left)
        page = render(read_results([tmp_path / str(number)]), tmp_path)
        assert page.encode("utf-8", "backslashreplace")
        tree = html.fromstring(page.encode("utf-8", "backslashreplace"))
        assert len(tree.xpath("//bdi[@class='text']")) == 2 * len(samples[number : number + 5])
        assert all(text.get("dir") == "auto" for text in tree.xpath("//bdi[@class='text']"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(sorted(trained(1.0))), UNUSUAL))
def test_no_report_stops_a_page(
    tmp_path_factory: pytest.TempPathFactory, undrawn: None, unusual: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("unusual")
    for number in range(2):
        write_job(folder / str(number), {"a": number}, {**measured(), **unusual}, objective="num_batches")
    assert "<h1>" in render(read_results([folder]), folder)


def test_the_page_asks_for_nothing_and_allows_nothing(tmp_path: Path) -> None:
    sweep(tmp_path)
    page = render(read_results([tmp_path]), tmp_path)
    hashes = str(script_sources())
    assert re.fullmatch(r"'sha256-[^']{44}' 'sha256-[^']{44}'", hashes)
    rest = "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    policy = f"default-src 'none'; script-src {hashes}; {rest}"
    tree = html.fromstring(page.encode())
    assert [meta.get("content") for meta in tree.xpath("//meta[@http-equiv='Content-Security-Policy']")] == [policy]
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # a browser test sees what scripts ask for
    without_names = outside.replace('"http://www.w3.org/1999/xlink"', "").replace('"http://www.w3.org/2000/svg"', "")
    assert "//" not in re.sub(r"<!--.*?-->", "", without_names).replace(str(tmp_path), "")
    assert "@import" not in page


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    sweep(tmp_path)
    first = render(read_results([tmp_path]), tmp_path)
    assert render(read_results([tmp_path]), tmp_path) == first
    lines = (
        "import pathlib, sys",
        "from mtx.page.render import render",
        "from mtx.records.job_records import read_results",
        "folder = pathlib.Path(sys.argv[1])",
        "print(render(read_results([folder]), folder), end='')",
    )
    again = [sys.executable, "-X", "utf8", "-c", "\n".join(lines), str(tmp_path)]
    done = subprocess.run(again, capture_output=True, check=True)
    assert done.stdout.decode() == first


def test_the_page_of_sixty_jobs_stays_under_three_megabytes(tmp_path: Path) -> None:
    many = [{"step": n, "seconds": n, "real_tokens": n, "bits_per_byte": 4 - n / 300} for n in range(500)]
    shapes = [[n % 97 + 1, n % 113, n % 89, n] for n in range(1, 301)]
    steps = {"positions": list(range(500)), "real": [n % 71 + 900 for n in range(500)], "padded": [1000] * 500}
    long = "word " * 1000
    for number in range(60):
        rejects = {f"rule_{n}": {"count": 9, "samples": [{"source": long, "target": long}] * 8} for n in range(10)}
        left = {**profile(buckets=list(range(number, 40 + number))), "validations": many, "shapes": shapes}
        left |= {"tokens_per_step": steps, "rejects": {"train": rejects}}
        dropped = {f"rule_{n}": n + number for n in range(10)}
        report = trained(2 + number / 100, dropped=dropped, source_vocab_size=number)
        config = {"a": number % 6, "b": number // 6, **{f"setting_{n}": n for n in range(150)}}
        write_job(tmp_path / str(number), config, report, objective="bits_per_byte", profile=left)
    for number in range(60, 70):
        trace = f"{number}" * 20_000
        write_job(tmp_path / str(number), {"a": 0, "b": number}, error=f"DataError: {number}", traceback=trace)
    assert len(render(read_results([tmp_path]), tmp_path).encode()) < 3_000_000


def test_a_disk_that_refuses_costs_the_page_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(tmp_path)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out: list[str] = []
    results = read_results([tmp_path])
    monkeypatch.setattr("os.fsync", full)
    write_results_page(results, tmp_path, Console(file=Writes(out), width=400))
    assert "the page was not written: " in "".join(out)
    assert "No space left on device" in "".join(out)
    assert not list(tmp_path.glob("*.html"))
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_page_that_fails_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(tmp_path)

    def broken(*args: object) -> None:
        raise ZeroDivisionError("of no use")

    monkeypatch.setattr("mtx.page.render.page_content", broken)
    out: list[str] = []
    results = end_sweep(tmp_path, console=Console(file=Writes(out), width=400))
    assert results.count("completed") == 4
    assert "the page was not written: ZeroDivisionError: of no use. The results are complete" in "".join(out)
    assert (tmp_path / "results.csv").exists()


def test_nothing_of_matplotlib_is_imported_before_a_page_is_written() -> None:
    code = "import sys, mtx.app.command, mtx.sweep.terminal_summary, mtx.sweep.job; print([name for name in sys.modules if name.startswith('matplotlib')])"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class Writes:
    """A file that keeps what is written."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def write(self, text: str) -> int:
        self._texts.append(text)
        return len(text)

    def flush(self) -> None:
        pass
