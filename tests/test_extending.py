"""Every example of docs/extending.md runs, copied into a folder of its own."""

import re
import shlex
from pathlib import Path

import pytest
import warm_process

GUIDE = (Path(__file__).parents[1] / "docs/extending.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in GUIDE.split("\n## ")[1:]}
FILES = re.compile(r"```\w+\n# ([\w/.]+)\n(.*?)```", re.DOTALL)
COMMANDS = re.compile(r"^```bash\n((?:mtx|python) .*)\n```$", re.MULTILINE)
SMALL = {"downloader.n": "300", "tokenizer.vocab_size": "300"}
# What shows that each did its work.
SHOWN = {
    "A filter": "dropped: question",
    "A source": "skipped while reading: no_arrow",
    "A sampler": "epoch 0 of the training batches",
    "A tokenizer": "vocabulary",
    "A rule": "few_digits",
    "A scorer": "scored",
    "An engine": "engine=threads",
    "A logger": "held-out",
    "A metric": "held-out",
}


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS)
def test_an_example_runs_from_a_folder_of_its_own(section: str, tmp_path: Path) -> None:
    text = SECTIONS[section]
    files = FILES.findall(text)
    assert len(files) == {"one function": 1, "one file": 1, "two files": 2}.get(section.partition(": ")[2], 0) + (
        "pairs.txt" in text and 1
    )
    for name, content in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    commands = COMMANDS.findall(text)
    assert commands
    for command in commands:
        run(command, tmp_path, SHOWN[section.partition(":")[0]])
    if section.startswith("A metric"):
        (record,) = tmp_path.glob("outputs/*/*/training.json")
        assert "val/tokens" in record.read_text()


def run(command: str, folder: Path, shown: str) -> None:
    """Run a command of the guide on a small corpus, and check that its output shows what it did."""
    program, *arguments = shlex.split(command)
    said = {argument.partition("=")[0] for argument in arguments}
    if program == "mtx":
        own = "arrow_text" in command
        arguments += [f"{key}={value}" for key, value in SMALL.items() if key not in said and not own]
        arguments = [
            one for one in arguments if not one.startswith("tokenizer.vocab_size") or "character" not in command
        ]
    done = warm_process.run(*(["-m", "mtx"] if program == "mtx" else []), *arguments, cwd=folder, undrawn=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert shown in done.stdout + done.stderr
