"""The help page of `mtx --help`: tasks, config groups, common keys, and commands that explain more.

The page is built from the YAML files alone, without an import of Hydra or torch, so that it appears at once.
"""

import textwrap
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

import yaml

CONFIGS = "mtx.conf"
WIDTH = 80  # columns
INDENT = "  "
KEYS = (
    ("downloader.path=FILE", "the corpus, with downloader=local"),
    ("downloader.n=COUNT", "read only the first COUNT pairs"),
    ("tokenizer.vocab_size=COUNT", "vocabulary size in tokens"),
    ("sampler.max_tokens=COUNT", "largest number of padded tokens in a batch"),
    ("datamodule.validation=COUNT", "number of pairs held out for validation"),
    ("trainer.max_steps=COUNT", "number of updates in task=fit"),
    ("budget.seconds=SECONDS", "training time of task=fit"),
    ("ckpt=last", "resume the last run of task=fit"),
    ("seed=NUMBER", "seed of all random choices"),
    ("storage.root=FOLDER", "the store: folder of all datasets"),
)
MORE = (
    ("mtx task=options", "every option of every group"),
    ("mtx task=options only=sampler", "every key of a group or option"),
    ("mtx task=options only=padding", "every key with a word in its description"),
    ("mtx --cfg job", "the complete config, without running it"),
    ("mtx --hydra-help", "Hydra's own options, such as -m for a sweep"),
)


def help_text() -> str:
    """Return the help page as one text; no line is longer than 80 columns."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    root = files(CONFIGS)
    chosen = _default_options(root)
    yield "mtx measures the costs and benefits of choices about training data."
    yield "One job for each listed value: mtx -m sampler=random,bucket seed=1,2,3"
    yield ""
    yield "Tasks: task=NAME (* is the default)"
    for name in _option_names(root / "task"):
        yield f"{INDENT}{_marked_option('task', name, chosen):<10} {_purpose(root / 'task' / f'{name}.yaml')}"
    yield ""
    yield "Groups: GROUP=OPTION (* is the default)"
    for group in sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("_")):
        if group != "task":
            names = ", ".join(_marked_option(group, name, chosen) for name in _option_names(root / group))
            first, after = f"{INDENT}{group:<11} ", " " * (len(INDENT) + 12)
            yield from textwrap.wrap(names, WIDTH, initial_indent=first, subsequent_indent=after)
    for title, rows in (("Keys that are used most: GROUP.KEY=VALUE", KEYS), ("More:", MORE)):
        yield ""
        yield title
        width = max(len(left) for left, _ in rows)
        yield from (f"{INDENT}{left:<{width}}  {right}" for left, right in rows)


def _marked_option(group: str, name: str, chosen: dict[str, str]) -> str:
    return f"{name}*" if name == chosen.get(group) else name


def _option_names(folder: Traversable) -> list[str]:
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _default_options(root: Traversable) -> dict[str, str]:
    """Return the name of each group's default option, from the defaults list of `config.yaml`."""
    config = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))
    return {
        group: str(name) for entry in config["defaults"] if isinstance(entry, dict) for group, name in entry.items()
    }


def _purpose(file: Traversable) -> str:
    """Return the first sentence of the comment at the top of an option's YAML file, without its full stop."""
    lines = file.read_text(encoding="utf-8").splitlines()
    header = " ".join(line[1:].strip() for line in lines if line.startswith("#") and "@package" not in line)
    return header.partition(". ")[0].partition(": ")[0].rstrip(".")
