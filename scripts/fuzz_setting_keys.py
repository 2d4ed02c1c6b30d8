"""The keys whose settings are fuzzed: of all options, and of the Trainer, its callbacks and Hydra."""

from dataclasses import dataclass
from functools import cache
from typing import Any

OWN_GROUPS = ("trainer", "logger", "model", "budget")  # groups that task=fit uses, and task=measure does not
ENCODER = "mtx.data.score.text_encoder.SentenceTransformersEncoder"
# What an option needs so that it is valid without the fuzzed override.
COMPANIONS = {
    "downloader/back_translation": ["downloader.text=lines.txt", "downloader.ckpt=model.ckpt"],
    "downloader/hf": ["downloader.dataset=user/set"],
    "downloader/local": ["downloader.path=corpus.tsv"],
    "downloader/mixture": ["downloader.sources={news: news.tsv, web: web.tsv}"],
    "filter/opusfilter": ["filter.path=filters.yaml"],
    "score/embeddings": [
        "score.embeddings.encoder={_target_: mtx.data.score.text_encoder.SentenceTransformersEncoder, folder: LaBSE}"
    ],
    "score/given": ["score.given.column=quality"],
    "tokenizer/pretrained": ["tokenizer.filepath=tokenizer.json"],
    "tokenizer/sentencepiece": ["tokenizer.filepath=sentencepiece.model"],
    "tokenizer/vocabulary_file": ["tokenizer.filepath=dict.txt"],
    "model/own": ["model._target_=mtx.training.reference.transformer.TransformerTranslator"],
}
CALLBACKS = (
    "pytorch_lightning.callbacks.LearningRateMonitor",
    "pytorch_lightning.callbacks.EarlyStopping",
    "pytorch_lightning.callbacks.ModelCheckpoint",
    "pytorch_lightning.callbacks.GradientAccumulationScheduler",
    "pytorch_lightning.callbacks.StochasticWeightAveraging",
    "pytorch_lightning.callbacks.Timer",
    "pytorch_lightning.callbacks.RichProgressBar",
    "pytorch_lightning.callbacks.BatchSizeFinder",
    "mtx.training.callbacks.DataCosts",
    "mtx.training.callbacks.TrainingBudget",
)
HYDRA_KEYS = (
    *("hydra.verbose", "hydra.mode", "hydra.job.name", "hydra.job.chdir", "hydra.job.num", "hydra.job.config_name"),
    *("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir", "hydra.searchpath"),
    *("hydra.sweeper.max_batch_size", "hydra.sweeper.params", "hydra.launcher.n_jobs", "hydra.job.env_set"),
    *("hydra/job_logging", "hydra/launcher", "hydra/sweeper", "hydra/help", "hydra.help.template", "hydra.nope"),
)


@dataclass(frozen=True)
class Key:
    """One key whose settings are fuzzed.

    Attributes:
        option: group and option, such as `sampler/bucket`, as a row of the table.
        name: key on a command line.
        base: overrides without which the key is not there.
        annotation: type of the key's component for it; None if it is unknown.
        shown: names, one of which the refusal of a value has to contain.
        pattern: how a value becomes an override; `{key}` and `{value}` are replaced.
    """

    option: str
    name: str
    base: tuple[str, ...]
    annotation: Any = None
    shown: tuple[str, ...] = ()
    pattern: str = "{key}={value}"


def option_names() -> list[str]:
    """Return the names of all options that have keys, as the table shows them."""
    return list(dict.fromkeys(key.option for key in all_keys()))


@cache
def all_keys() -> tuple[Key, ...]:
    """Return every key of every option, every argument of the Trainer and of callbacks, and settings of Hydra."""
    from mtx.components.check_and_build import parameter_annotations
    from mtx.components.option_reference import all_options

    found: list[Key] = []
    for option in all_options():
        name = f"{option.group}/{option.name}"
        base = [*([f"{option.group}={option.name}"] if option.group else []), *COMPANIONS.get(name, [])]
        base[:1] = [f"score=[{option.name}]"] if option.group == "score" else base[:1]
        base += ["task=fit"] if option.group in OWN_GROUPS else []
        found += [Key(name, field.key, tuple(base), shown=(field.key, *base[:1])) for field in option.fields]
    import pytorch_lightning as pl
    from hydra.utils import get_class

    known = {key.name for key in found}
    for argument, annotation in parameter_annotations(pl.Trainer)[0].items():
        if (key := f"trainer.{argument}") not in known and argument not in ("self", "default_root_dir"):
            found.append(Key("trainer/arguments", key, ("task=fit",), annotation, (key,), "+{key}={value}"))
    for target in CALLBACKS:
        for argument, annotation in parameter_annotations(get_class(target))[0].items():
            pattern = "trainer.callbacks=[{{_target_: TARGET, {key}: {value}}}]".replace("TARGET", target)
            found.append(Key("trainer/callbacks", argument, ("task=fit",), annotation, ("trainer.callbacks",), pattern))
    found += [Key("hydra", key, (), shown=(key,)) for key in HYDRA_KEYS]
    return tuple(found)
