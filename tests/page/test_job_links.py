"""What the page says of each arm: its command, its settings, its files; and the shares of a mixture."""

from pathlib import Path

import pytest
from jobs_on_disk import measured, profile, trained, write_job
from lxml import html

from mtx.page.mixture_section import mixture_shares
from mtx.page.render import render
from mtx.records.job_records import read_results


def test_an_arm_has_its_differences_and_the_files_that_exist(tmp_path: Path) -> None:
    for number, size in enumerate((8, 16)):
        config = {"seed": number, "sampler": {"batch_size": size, "note": "<b>" * number}, "same": 1}
        write_job(tmp_path / str(number), config, trained(2.0 + number), objective="bits_per_byte")
    (tmp_path / "1" / "mtx.log").write_text("log")
    (tmp_path / "1" / "report.html").write_text("page")
    page = html.fromstring(render(read_results([tmp_path]), tmp_path).encode())
    first, second = (page.get_element_by_id(f"arm-{number}") for number in (1, 2))
    assert "Differs from" not in first.text_content()
    told = [" ".join(item.text_content().split()) for item in second.xpath(".//p")]
    assert told[0] == "Differs from arm 1: sampler.batch_size: 16 instead of 8; sampler.note: <b> instead of"
    links = {link.text: link.get("href") for link in second.xpath(".//a")}
    assert links == {"1": "1/report.html", "settings": "1/config.json", "log": "1/mtx.log"}
    assert [link.text for link in first.xpath(".//a")] == ["0", "settings"], "a job without a log has no link to one"
    assert [row.get("href") for row in page.xpath("//table[@data-sort='ranking1']//th/a")] == ["#arm-1", "#arm-2"]


def test_the_shares_of_a_mixture_are_those_of_pairs_and_of_draws(tmp_path: Path) -> None:
    counts = {"dropped_length": 0, "dropped_remainder": 0}
    for number, draws in enumerate(((300, 100), (200, 200))):
        ledger = {
            name: {"num_pairs": pairs, "batched": pairs, "drawn": drawn, **counts}
            for name, pairs, drawn in zip(("web", "<i>news"), (300, 100), draws, strict=True)
        }
        config = {"seed": 1, "downloader": {"temperature": number + 1}}
        write_job(tmp_path / str(number), config, measured(ledger_by_source=ledger), profile=profile())
    results = read_results([tmp_path])
    plain, lifted = mixture_shares(results.jobs, results.varied)
    assert [(part.share, part.drawn_share) for part in plain.parts] == [(0.75, 0.75), (0.25, 0.25)]
    assert [(part.name, part.drawn, part.drawn_share) for part in lifted.parts] == [
        ("web", 200, 0.5),
        ("<i>news", 200, 0.5),
    ]
    assert lifted.label == "temperature=2"
    page = render(results, tmp_path)
    assert page.count("Shares of the mixture") == 2
    assert "&lt;i&gt;news" in page
    assert "<i>news" not in page


def test_a_single_source_has_no_shares(tmp_path: Path) -> None:
    write_job(tmp_path / "0", {"seed": 1}, measured())
    assert mixture_shares(read_results([tmp_path]).jobs, ()) == ()


def test_a_page_of_many_jobs_is_laid_out_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        write_job(tmp_path / str(number), {"seed": 1, "a": number}, measured(0.1 + number / 10))
    assert '<body class="large">' not in render(read_results([tmp_path]), tmp_path)
    monkeypatch.setattr("mtx.page.content.LARGE_JOBS", 1)
    assert '<body class="large">' in render(read_results([tmp_path]), tmp_path)


def test_only_the_first_ranking_hides_rows_and_only_on_the_screen(tmp_path: Path) -> None:
    for number in range(2):
        report = trained(2.0 + number, held_out={"digest": str(number)})
        write_job(tmp_path / str(number), {"seed": number}, report, objective="bits_per_byte")
    page = render(read_results([tmp_path]), tmp_path)
    tables = html.fromstring(page.encode()).xpath("//h2[@id='ranking']/../div[@class='scroll']/table/@data-sort")
    assert tables == ["ranking1", "ranking2"], "a selector of siblings would reach both"
    (rule,) = [line.strip() for line in page.splitlines() if ":nth-child(n+301)" in line]
    assert rule.startswith("@media screen {")
    assert '#all-rows:not(:checked) ~ .scroll table[data-sort="ranking1"] tbody tr:nth-child(n+301)' in rule


def test_a_command_that_is_too_long_is_not_cut_in_its_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtx.page.job_links.MAX_COMMAND_CHARS", 9)
    for number, name in enumerate(("0", "a-longer-name")):
        write_job(tmp_path / name, {"seed": 1, "a": number}, measured(0.1 + number / 10))
    page = html.fromstring(render(read_results([tmp_path]), tmp_path).encode())
    first, second = (page.get_element_by_id(f"arm-{number}") for number in (1, 2))
    assert [pre.text for pre in first.xpath(".//pre")] == ["mtx job=0"]
    assert second.xpath(".//pre") == []
    assert "The command is too long for the page. config.json" in second.text_content()


def test_the_page_says_how_bleu_chrf_and_the_contrastive_accuracy_were_computed(tmp_path: Path) -> None:
    scores = {
        "num_sentences": 30,
        "bleu": 3.0,
        "chrf": 20.0,
        "bleu_signature": "nrefs:1|tok:13a",
        "chrf_signature": "nc:6",
    }
    choice = {"num_pairs": 1500, "num_candidates": 10, "accuracy": 0.625, "low": 0.6, "high": 0.65}
    for number in range(2):
        report = measured(0.1, scores={**scores, "bleu": 3.0 + number}, contrastive=choice)
        write_job(tmp_path / str(number), {"seed": 1, "a": number}, report)
    page = render(read_results([tmp_path]), tmp_path)
    assert "<code>nrefs:1|tok:13a</code>, <code>nc:6</code>" in page
    assert (
        "share of right choices of one of 10 targets of similar length, for 1,500 held-out pairs (guessing gives 10 %)."
        in page
    )
    assert "contrastive accuracy (%) 62.5" in page, "62.5 % in all rows"
