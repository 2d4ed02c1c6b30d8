"""The help page of `mtx --help`: tasks, config groups, common keys, and commands that explain more.

The page is built from the YAML files alone, without an import of Hydra or torch, so that it appears at once.
"""

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from mtx.app.packaged_config_folder import packaged_config_folder

WIDTH = 80  # columns
INDENT = "  "
SHORT_NAMES = 27  # columns; two groups with shorter lists of options share a line
KEYS = (
    ("downloader.path=FILE", "the corpus"),
    ("tokenizer.vocab_size=N", "vocabulary"),
    ("downloader.n=N", "first N pairs"),
    ("datamodule.validation=N", "held out"),
    ("sampler.max_tokens=N", "largest batch"),
    ("trainer.max_steps=N", "updates"),
    ("seed=N", "random choices"),
    ("budget.seconds=N", "training time"),
    ("ckpt=last", "resume training"),
    ("storage.root=FOLDER", "the store"),
)
MORE = "More: mtx task=options only=sampler  every key of a group; values: mtx --cfg job"


def help_text() -> str:
    """Return the help page as one text; no longer than 42 lines of 80 columns."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    root = packaged_config_folder()
    chosen = _default_options(root)
    yield "mtx measures the costs and benefits of choices about training data."
    yield "Tasks: task=NAME (* is the default)"
    for name in _option_names(root / "task"):
        yield f"{INDENT}{_marked_option('task', name, chosen):<10} {_purpose(root / 'task' / f'{name}.yaml')}"
    yield "Groups: GROUP=OPTION (* is the default); mtx -m GROUP=A,B runs a job for each"
    yield from _group_lines(root, chosen)
    yield "Keys that are used most: GROUP.KEY=VALUE"
    cells = [f"{key:<{24 if number % 2 else 21}} {effect}" for number, (key, effect) in enumerate(KEYS)]
    yield from _in_two_columns(cells)
    yield MORE


def _group_lines(root: Path, chosen: dict[str, str]) -> Iterator[str]:
    """Yield the groups with their options: first those that need a whole line, then two groups on each line."""
    short = []
    for group in sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("_")):
        if group == "task":
            continue
        names = ", ".join(_marked_option(group, name, chosen) for name in _option_names(root / group))
        if len(names) <= SHORT_NAMES:
            short.append(f"{group:<10} {names}")
        else:
            first, after = f"{INDENT}{group:<10} ", " " * (len(INDENT) + 11)
            yield from textwrap.wrap(names, WIDTH, initial_indent=first, subsequent_indent=after)
    yield from _in_two_columns(short)


def _in_two_columns(cells: Sequence[str]) -> Iterator[str]:
    half = WIDTH // 2 - len(INDENT)
    for left, right in itertools.zip_longest(cells[::2], cells[1::2], fillvalue=""):
        yield f"{INDENT}{left:<{half}}{INDENT}{right}".rstrip()


def _marked_option(group: str, name: str, chosen: dict[str, str]) -> str:
    return f"{name}*" if name == chosen.get(group) else name


def _option_names(folder: Path) -> list[str]:
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _default_options(root: Path) -> dict[str, str]:
    """Return the name of each group's default option, from the defaults list of `config.yaml`."""
    config = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))
    return {
        group: str(name) for entry in config["defaults"] if isinstance(entry, dict) for group, name in entry.items()
    }


def _purpose(file: Path) -> str:
    """Return the first sentence of the comment at the top of an option's YAML file, without its full stop."""
    lines = file.read_text(encoding="utf-8").splitlines()
    header = " ".join(line[1:].strip() for line in lines if line.startswith("#") and "@package" not in line)
    return header.partition(". ")[0].partition(": ")[0].rstrip(".")
