"""Parts of the page that answer first: answers, copied tables, data of the script, and no sentences if asked."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs_on_disk import profile, trained, write_job
from lxml import html

from mtx.page.answers import answers
from mtx.page.copied_tables import latex_table, markdown_table
from mtx.page.ranking import ranking
from mtx.page.render import render
from mtx.page.scripts import escaped_json
from mtx.records.job_records import read_results

pytestmark = pytest.mark.usefixtures("undrawn")  # these tests read texts of the page, and no plot

HOSTILE = "</script><script>alert(1)</script><!--|&%$#_{}~^\\ \n\u2028"


def write_arms(folder: Path, arms: dict[str, list[float]], **more: Any) -> None:
    for number, (arm, bits) in enumerate(arms.items()):
        for seed, value in enumerate(bits):
            left = profile()
            left["validations"][1]["seconds"] = 5.0 * (number + 1) + 0.1 * seed
            report = trained(value, padding=0.1 * (number + 1), spent={"steps": 10, "seconds": 10.0}, **more)
            config = {"seed": seed, "sampler": {}, "budget": {"seconds": 10}, **more.get("config", {})}
            at = folder / f"{number}-{seed}"
            write_job(at, config, report, choices={"sampler": arm}, objective="bits_per_byte", profile=left)


def test_each_question_has_an_answer_with_difference_interval_and_seeds(tmp_path: Path) -> None:
    write_arms(tmp_path, {"a": [2.0, 2.1, 2.05], "b": [3.0, 3.12, 3.05]})
    page = html.fromstring(render(read_results([tmp_path]), tmp_path).encode())
    best, fastest, padding = (" ".join(text.text_content().split()) for text in page.xpath("//div[@class='answers']/p"))
    assert best.startswith("Which arm is best at equal time? a is best: 1.0")
    assert "95 % interval" in best
    assert "3 seeds" in best
    assert best.endswith("Compared by bits per byte (lower is better).")
    assert fastest.startswith("Which arm is fastest to 3.000 bits per byte? a is best")
    assert fastest.endswith("Compared by seconds of training (lower is better).")
    assert re.search(r"a is best: 5\.0\d+ lower than b", fastest)
    assert "a is best: 10 lower than b with each seed." in padding


def test_one_seed_names_no_winner_in_any_answer(tmp_path: Path) -> None:
    write_arms(tmp_path, {"a": [2.0], "b": [3.0]})
    page = html.fromstring(render(read_results([tmp_path]), tmp_path).encode())
    told = [text.text_content() for text in page.xpath("//div[@class='answers']/p")]
    assert len(told) == 3
    assert all("No winner: each arm has one seed" in text for text in told)


def test_copied_tables_escape_what_their_languages_would_read(tmp_path: Path) -> None:
    write_arms(tmp_path, {HOSTILE: [2.0, 2.1], "b_1": [3.0, 3.2]})
    results = read_results([tmp_path])
    table = ranking(results, results.varied)
    text = markdown_table(table)
    assert len(text.splitlines()) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()} == {text.splitlines()[0].count("|")}
    latex = latex_table(table)
    assert r"b\_1" in latex
    assert r"\textbackslash{}" in latex
    assert r"\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}" in latex
    assert latex.count(r"\\") == 3


def test_the_data_of_the_script_cannot_end_its_element_and_the_policy_names_each_script(tmp_path: Path) -> None:
    write_arms(tmp_path, {HOSTILE: [2.0], "b": [3.0]})
    page = render(read_results([tmp_path]), tmp_path)
    tree = html.fromstring(page.encode())
    data, *code = tree.xpath("//script")
    assert len(code) == 2
    assert any("alert(1)" in arm["label"] for arm in json.loads(data.text)["arms"])
    (policy,) = tree.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert "script-src 'sha256-" in policy
    assert "unsafe-eval" not in policy
    for script in code:
        digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "Permission is hereby granted" in code[0].text
    assert json.loads(escaped_json({"a": [float("nan"), float("inf"), HOSTILE]}))["a"][:2] == [None, None]
    assert "<" not in escaped_json(HOSTILE)


@pytest.mark.parametrize("samples", [True, False])
def test_sentences_of_the_corpus_are_left_out_if_asked(tmp_path: Path, samples: bool) -> None:
    translations = [{"row": 0, "source": "a private source", "reference": "r", "output": "o"}]
    report = trained(2.0, translations=translations)
    left = profile(rejected=("a rejected source", "b"))
    write_job(tmp_path / "0", {"page": {"samples": samples}}, report, objective="bits_per_byte", profile=left)
    page = render(read_results([tmp_path / "0"]), tmp_path / "0")
    assert ("a private source" in page) == samples
    assert ("a rejected source" in page) == samples
    told = "may contain sentences of the corpus" if samples else "contains no sentences of the corpus"
    assert told in page


def test_each_arm_has_its_command_and_links(tmp_path: Path) -> None:
    write_arms(tmp_path, {"a": [2.0], "b": [3.0]})
    tree = html.fromstring(render(read_results([tmp_path]), tmp_path).encode())
    (arm,) = tree.xpath("//details[@id='arm-2']")
    assert arm.xpath("string(.//pre)") == "mtx job=1-0"
    assert arm.xpath(".//a/@href") == ["1-0/report.json", "1-0/config.json"]


def test_answers_are_about_the_arms_with_new_seeds_alone_and_name_no_winner_of_incomparable_losses(
    tmp_path: Path,
) -> None:
    write_arms(tmp_path, {"a": [2.0, 2.1, 2.05], "b": [3.0, 3.12, 3.05]})
    results = read_results([tmp_path])
    added = [replace(job, confirms=True, name=f"new {job.name}") for job in results.jobs]
    confirmed = replace(results, jobs=(*results.jobs, *added))
    *_, padding = answers(confirmed, None, {})
    assert padding.text.endswith("a (new seeds) is best: 10 lower than b (new seeds) with each seed.")
    jobs = [replace(job, objectives={"loss": value}) for value, job in enumerate(results.jobs)]
    first = jobs[0].report.model_copy(update={"ids": jobs[0].report.ids.model_copy(update={"tokenizer": "other"})})
    incomparable = replace(results, jobs=(replace(jobs[0], report=first), *jobs[1:]))
    assert incomparable.verdict.winner is not None
    assert not answers(incomparable, None, {})[0].is_decided


def test_arms_of_several_cohorts_have_different_ids(tmp_path: Path) -> None:
    for digest in ("one", "two"):
        write_arms(tmp_path / digest, {"a": [2.0], "b": [3.0]}, held_out={"digest": digest})
    tree = html.fromstring(render(read_results([tmp_path]), tmp_path).encode())
    assert tree.xpath("//details/@id") == ["arm-1", "arm-2", "arm-2-1", "arm-2-2"]
