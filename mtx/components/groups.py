"""Table of the config groups: the class of each group's options, and the parameters that mtx fills in."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Group:
    """One config group.

    Attributes:
        base: class of which the group's options are subclasses; None: options are functions only.
        functions: module of mtx whose functions may be options; None: functions are not allowed.
        noun: name of an option in messages, with its article.
        filled_in: parameters that mtx passes itself, and that a config may not set.
        is_completed: whether mtx fills in parameters that the config leaves out or null, from the data and the run.
        is_multiple: whether several options can be chosen together. `config[GROUP]` then maps names to components, and
            each option has the package `GROUP.NAME`, so that two options never merge.
    """

    base: str | None
    functions: str | None = None
    noun: str
    filled_in: frozenset[str] = frozenset()
    is_completed: bool = False
    is_multiple: bool = False


PARTS = ("storage", "downloader", "normalise", "filter", "tokenizer", "sampler")  # groups passed to a data module

GROUPS = {
    "storage": Group(base="mtx.data.store.Store", noun="a Store"),
    "downloader": Group(base="mtx.infra.dataset.download.Downloader", noun="a Downloader"),
    "normalise": Group(base="mtx.data.normalise.Normaliser", noun="a Normaliser"),
    "score": Group(base="mtx.data.score.scorer.Scorer", noun="a Scorer", is_multiple=True),
    "filter": Group(base="mtx.data.filter.filter_protocol.PairFilter", noun="a PairFilter"),
    "tokenizer": Group(base="mtx.data.tokenize.tokenization.Tokenization", noun="a Tokenization"),
    "sampler": Group(base="mtx.batches.plan.planner.Planner", noun="a Planner"),
    "engine": Group(base="mtx.data.engine_protocol.Engine", noun="an Engine"),
    "datamodule": Group(
        base="mtx.training.translation_data.TranslationData",
        noun="a TranslationData",
        filled_in=frozenset({*PARTS, "engine", "score", "seed"}),
    ),
    "model": Group(base="pytorch_lightning.LightningModule", noun="a LightningModule", is_completed=True),
    "trainer": Group(base="pytorch_lightning.Trainer", functions="mtx.training", noun="a Trainer"),
    "logger": Group(
        base="pytorch_lightning.loggers.Logger",
        functions="mtx.training.loggers",
        noun="a Logger",
        is_completed=True,
        is_multiple=True,
    ),
    "task": Group(base=None, functions="mtx.experiment", noun="a task of mtx", filled_in=frozenset({"run"})),
}


# Keys that a config may have besides groups.
KEYS = frozenset({"experiment", "seed", "ckpt", "sweep", "page", "stage", "split"}) | {
    *("dataset", "row", "format"),  # keys of task=show
    *("full", "repair"),  # keys of task=verify
    *("yes", "orphans"),  # keys of task=gc
    *("only", "to"),  # keys of task=options
    *("runs", "to"),  # keys of task=compare
    *("input", "output"),  # keys of task=translate
    *("dataset", "to", "from", "format", "overwrite", "card"),  # keys of task=export and task=import
}

# Keys that set an option of a task of another name. The others set the option of their own name.
SHORT_KEYS = {"path": "from"}


def group_of(key: str) -> Group | None:
    """Return the group of the component at `key`: the key of a group, or NAME in a group with several components."""
    name, _, component = key.partition(".")
    group = GROUPS.get(name)
    if group is None or not component:
        return group
    return group if group.is_multiple and "." not in component else None
