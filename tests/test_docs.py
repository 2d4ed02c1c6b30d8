"""The documentation: every command runs, or is checked and listed here with a reason; every link leads somewhere."""

import re
import shlex
import sqlite3
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from command_line import Mtx
from docs_corpora import pairs, write_corpora
from hydra.types import RunMode
from jobs_on_disk import measured, write_job
from markdown_pages import BLOCK, PAGES, ROOT, anchors_of, blocks_of, commands_of, links_of, name_of

from mtx.app.command import compose, compose_datamodule
from mtx.app.override_errors import CONFIG_NAME, hydra_loader
from mtx.app.sweep_plan import planned
from mtx.app.varied_group_overrides import hydra_arguments
from mtx.components.check_and_build import check_config

# Pages whose commands another test runs.
ELSEWHERE = {"docs/extending.md": "tests/test_extending.py", "docs/options.md": "tests/test_docs_names.py"}
# Commands of mtx that do not run here, with the reason. Their config is composed and checked; for a sweep, that of each
# job of the first and the last value of each list, with one seed.
ONLY_CHECKED = {
    r"downloader=hf\b": "needs a network; tests/infra/dataset/hub reads from a stand-in Hub",
    r"downloader\.package=": "needs an installed package with catalogues; tests/infra/dataset/sources has one",
    r"score=\[given\]": "needs a file or a column that fits the corpus; tests/data/score/test_given.py has some",
    r"folder: LaBSE": "needs a model; tests/data/score/test_embeddings.py has a stand-in",
    r"s3://": "needs a bucket; tests/infra/dal/test_remote_store.py has a stand-in",
    r"storage\.root=/": "writes to a folder of the user's machine",
    r"launcher=(joblib|submitit_local|submitit_slurm|ray)\b": "starts processes; so does tests/sweep/test_launchers.py",
    r"engine=(dask|ray)\b": "needs an extra; scripts/bench_engines runs the engines",
    r"trainer=ddp\b": "starts processes; so does tests/training/test_ranks.py",
    r"sweeper=optuna\b": "40 jobs; tests/sweep/test_optuna.py runs short searches",
    r"-m .*task=fit|=(data_curve|proxy|vocabulary_comparison|worth_of_rules)": "many trainings; tests/test_recipes.py",
    r"tokenizer\.(alpha|dropout)=": "compiles kernels; tests/training/test_sampled_epochs.py trains with both",
    r"ckpt=(outputs/|\S+\.ckpt)": "needs a checkpoint of the reader; tests/experiment/test_translate.py has one",
    r"back_translation": "needs a checkpoint of the reader; tests/training/test_back_translation.py has one",
    r"logger=\S*(wandb|mlflow|tensorboard)": "needs an extra; scripts/try_tools runs them",
    r"tokenizer=(pretrained|sentencepiece|vocabulary_file)\b": "needs a file of the reader; see tests/data/tokenize",
    r"runs=\[outputs/2026": "names runs of the reader",
}
# Arguments that make a sweep of a command.
SWEEPS = {"-m", *(f"experiment={name}" for name in ("data_curve", "proxy", "vocabulary_comparison", "worth_of_rules"))}
# Commands of other programs that do not run here, with the reason. Scripts of mtx have to be there, and to have the
# options that are named.
OTHER_PROGRAMS = {
    r"(scripts|\.ci)/": "installs, runs all tests, or measures for minutes; tests/test_bench*.py run the benchmarks",
    r"python scripts/": "measures for minutes",
    r"python examples/": "tests/test_examples.py runs the examples",
    r"dask (scheduler|worker) |ray start ": "starts servers of other programs",
    r"pip install ": "needs a package index; the extra has to be there",
    r"comet/bin/comet-score|python -m venv comet": "needs a model of COMET, in an environment of its own",
    r"(source|export|eval|git clone|cd|\.venv/bin/\w+) ?": "changes the shell, or is another program",
}
# Python that is a part of a program, with the reason. It has to compile.
FRAGMENTS = {
    "docs/sources.md": "tests/test_sources_guide.py compares it with the example",
    "docs/training.md": "needs the reader's model and trainer",
    "docs/howto/resume.md": "needs the reader's model and trainer",
    "docs/howto/translate.md": "needs a checkpoint of the reader",
    "docs/howto/read_report.md": "reads a sweep of the reader",
    "docs/report.md": "reads a sweep of the reader",
}
# Commands in sentences that have no config of their own.
NO_CONFIG = {
    r"--(help|config-dir)|-m$": "prints help, names the reader's folder, or is the beginning of a command",
}
COMMANDS = {name_of(page): commands_of(page) for page in PAGES}
INLINE = {
    name_of(page): re.findall(r"`(mtx [^`\n]+)`", BLOCK.sub("", page.read_text(encoding="utf-8")))
    for page in PAGES
    if page.name != "CHANGELOG.md"
}
SMALL = {"downloader.n": "300", "datamodule.validation": "10", "datamodule.num_workers": "0"}
SMALL_FIT = {
    "model.d_model": "16",
    "model.dim_feedforward": "16",
    "task.scored_sentences": "0",
    "task.translations": "0",
    "task.contrastive_pairs": "0",
    "model.num_encoder_layers": "1",
    "model.num_decoder_layers": "1",
    "trainer.max_steps": "2",
}
READING = ("show", "verify", "gc", "options", "compare", "export", "import", "check")


@pytest.fixture(scope="module")
def docs_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("docs-store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTX_STORE", str(root))
        yield root


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docs_store: Path) -> Iterator[Path]:
    """A working directory with the corpora and modules that the documentation names."""
    write_corpora(tmp_path)
    with closing(sqlite3.connect(tmp_path / "corpus.sqlite")) as database, database:
        database.execute("CREATE TABLE pairs (source TEXT, target TEXT)")
        database.executemany("INSERT INTO pairs VALUES (?, ?)", pairs())
    for folder in ("multirun", "outputs", "by"):
        write_job(tmp_path / folder / "day/time/0", {"seed": 0}, measured())
    monkeypatch.setattr("mtx.page.render.render", lambda *_, **__: "")  # tests/page writes pages
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("my_module", "my_package", "own_model"):
        sys.modules.pop(name, None)


def reason(command: str, reasons: dict[str, str]) -> str | None:
    return next((why for pattern, why in reasons.items() if re.search(pattern, command)), None)


def shorter(arguments: list[str]) -> list[str]:
    """Return the arguments of a sweep with the first and the last value of each list, and with one seed."""
    if not SWEEPS & set(arguments):
        return arguments
    one_seed = [re.sub(r"^(seed=\d+)(,\d+)+$", r"\1", argument) for argument in arguments]
    if "-m" not in arguments and not any(argument.startswith("seed=") for argument in arguments):
        one_seed.append("seed=0")  # the experiment's own seeds
    return [re.sub(r"^([\w.]+=\w+),.*,(\w+)$", r"\1,\2", argument) for argument in one_seed]


def smaller(arguments: list[str], most_steps: list[int]) -> list[str]:
    """Return the arguments of a command with little data and few steps. Its choices and keys stay."""
    given = {argument.lstrip("+~").partition("=")[0] for argument in arguments}
    values = dict(argument.partition("=")[::2] for argument in arguments)
    task, experiment = values.get("task", "measure"), values.get("experiment", "")
    if task in READING or {"--help", "--cfg"} & set(arguments):
        return arguments
    added = dict(SMALL)
    if "tokenizer" not in given:
        learns = experiment == "quick_look" or any(key.startswith("tokenizer.") for key in given)
        added |= {"tokenizer.vocab_size": "1000"} if learns else {"tokenizer": "byte"}
    elif values["tokenizer"] in ("bpe", "unigram", "wordpiece"):
        added |= {"tokenizer.vocab_size": "1000"}
    if experiment == "sampler_comparison":
        added |= {"sampler": "random,token_budget"}
    if task == "fit" or experiment in ("quick_fit", "budget_of_one_minute"):
        added |= SMALL_FIT
        if experiment == "budget_of_one_minute" or any(key.startswith("budget.") for key in given):
            del added["trainer.max_steps"]
        if any("my_module" in argument for argument in arguments):
            added = {key: value for key, value in added.items() if not key.startswith("model.")}
    short = {
        "tokenizer.vocab_size": lambda value: ",".join(str(1000 + 20 * k) for k in range(len(value.split(",")))),
        "trainer.max_steps": lambda value: str(2 + most_steps.index(int(value))),
        "trainer.val_check_interval": lambda _: "2",
        "budget.seconds": lambda _: "0.1",
        "budget.source_bytes": lambda _: "2000",
        "downloader.n": lambda _: "300",
        "seed": lambda value: value.partition(",")[0],
    }
    own = [
        f"{key}={short[key](value)}" if key in short and value else argument
        for argument in arguments
        for key, _, value in [argument.partition("=")]
    ]
    return shorter(own) + [f"{key}={value}" for key, value in added.items() if key not in given]


def run_arguments(page: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of mtx on a page, with the arguments by which it runs here."""
    steps = sorted({int(found) for found in re.findall(r"trainer\.max_steps=(\d+)", "\n".join(COMMANDS[page]))})
    for command in COMMANDS[page]:
        program, *arguments = shlex.split(command)
        if program == "mtx":
            yield command, arguments if reason(command, ONLY_CHECKED) else smaller(arguments, steps)


def kind_of(arguments: list[str]) -> frozenset[str]:
    """Return the choices and the keys of a command: of two pages whose commands differ by values alone, one runs it."""
    whole = ("task=", "experiment=", "-", "ckpt=")
    return frozenset(one if one.startswith(whole) else one.partition("=")[0] for one in arguments)


def with_stored_ids(arguments: list[str], stored: list[str]) -> list[str]:
    """Return the arguments with ids of this store in place of those of the reader's."""
    return [
        re.sub(r"(\w+-train)-[0-9a-f]{16}", lambda id_: next(one for one in stored if one.startswith(id_[1])), argument)
        for argument in arguments
    ]


def check(arguments: list[str]) -> None:
    """Compose the config of a run, or those of all jobs of a sweep, and check them."""
    if "launcher=ray" in arguments:  # its plug-in does not go into the environment of the tests
        arguments = [argument for argument in arguments if "launcher" not in argument]
    if SWEEPS & set(arguments):
        overrides = [argument for argument in hydra_arguments(shorter(arguments)) if argument != "-m"]
        with hydra_loader() as loader:
            planned(overrides, loader.load_configuration(CONFIG_NAME, overrides, RunMode.MULTIRUN), loader)
    else:
        check_config(compose(arguments))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, commands in COMMANDS.items() if commands and page not in ELSEWHERE])
def test_the_commands_of_a_page_run_in_order(page: str, folder: Path, mtx: Mtx) -> None:
    for block in blocks_of(ROOT / page):
        if block.file_name:
            path = folder / block.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    earlier = {
        kind_of(arguments)
        for other in list(COMMANDS)[: list(COMMANDS).index(page)]
        if other not in ELSEWHERE
        for command, arguments in run_arguments(other)
        if not reason(command, ONLY_CHECKED)
    }
    stored: list[str] = []
    if any("dataset=" in command for command in COMMANDS[page]):
        ids = mtx("task=prepare", *smaller([], [])).report["ids"]
        stored = re.findall(r"[\w-]+-[0-9a-f]{16}", str(ids))
    for command, arguments in run_arguments(page):
        if reason(command, ONLY_CHECKED) or (kind_of(arguments) in earlier and "experiment=" not in command):
            check(arguments)
            continue
        result = mtx(*with_stored_ids(arguments, stored))
        assert result.code == 0, f"{page}: {command}\n{result.err[-2000:]}"


@pytest.mark.parametrize("page", [page for page, commands in COMMANDS.items() if commands])
def test_commands_of_other_programs_name_what_is_there(page: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "scripts").iterdir() if path.is_file())
    for command in COMMANDS[page]:
        if command.split()[0] == "mtx" or page in ELSEWHERE:
            continue
        assert reason(command, OTHER_PROGRAMS), f"{page}: {command}"
        if script := re.match(r"(?:python )?((?:scripts|examples|\.ci)/\S+)", command):
            path = ROOT / script[1]
            assert path.is_file(), command
            assert path.suffix or path.stat().st_mode & 0o111, f"{path} is not executable"
            options = set(re.findall(r"--[\w-]+", command)) if script[1].startswith("scripts/") else set()
            assert {option for option in options if option not in sources} == set(), command
        for extra in re.findall(r"mtx\[(\w+)\]", command):
            assert extra in extras, command


def test_every_reason_is_needed() -> None:
    """A command that is no longer in the documentation leaves no exception behind."""
    typed = [command for commands in COMMANDS.values() for command in commands]
    patterns = [*ONLY_CHECKED, *OTHER_PROGRAMS]
    assert [pattern for pattern in patterns if not any(re.search(pattern, command) for command in typed)] == []
    assert [page for page in [*ELSEWHERE, *FRAGMENTS] if not (ROOT / page).exists()] == []


def test_no_command_hides_in_an_indented_block() -> None:
    hidden = [
        f"{name_of(page)}: {line.strip()}"
        for page in PAGES
        if name_of(page) not in (*ELSEWHERE, "CHANGELOG.md")
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.match(r"    (mtx|scripts/\w+|python|pip)\b", line)
    ]
    assert hidden == []


@pytest.mark.parametrize("page", [page for page, commands in INLINE.items() if commands])
def test_commands_in_sentences_have_a_valid_config(page: str) -> None:
    for command in INLINE[page]:
        if not reason(command, NO_CONFIG):
            check(shlex.split(command)[1:])


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [name_of(page) for page in PAGES if any(block.language == "python" for block in blocks_of(page))]
)
@pytest.mark.filterwarnings("ignore:Starting from v1.9.0, `tensorboardX`")
def test_python_of_a_page_runs_or_compiles(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, object] = {}
    small = ["tokenizer=byte", *(f"{key}={value}" for key, value in SMALL.items())]
    monkeypatch.setattr("mtx.compose_datamodule", lambda overrides=(): compose_datamodule([*overrides, *small]))
    for block in blocks_of(ROOT / page):
        if block.language != "python" or block.file_name:
            continue
        text = re.sub(r"\n    ", "\n", block.text.removeprefix("    ")) if block.text.startswith("    ") else block.text
        code = compile(text, page, "exec")
        if page not in FRAGMENTS:
            exec(code, names)


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_every_link_leads_somewhere(page: str) -> None:
    """Links to other sites are checked for their form alone: there may be no network."""
    for link in links_of(ROOT / page):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", link
            assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link
            continue
        target = (ROOT / page).parent / parts.path if parts.path else ROOT / page
        assert target.exists(), f"{page} links to {link}, which is not there"
        assert target.resolve().is_relative_to(ROOT), link
        assert not parts.fragment or parts.fragment in anchors_of(target), f"{page} links to {link}: no such heading"


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs/images").iterdir())
    assert pictures
    assert {path.suffix for path in pictures} <= {".png", ".webp"}
    assert [path.name for path in pictures if path.stat().st_size > 150_000] == []


def test_the_commands_of_scripts_run_have_a_valid_config(folder: Path) -> None:
    text = (
        (Path(__file__).parents[1] / "scripts/run").read_text(encoding="utf-8").replace("\\\n", " ").replace('"$@"', "")
    )
    found = [shlex.split(line.partition("   ")[0]) for line in re.findall(r"(?:/bin/mtx|\$mtx) (.*)", text)]
    assert len(found) == 4
    for arguments in found:
        check([argument.replace("FILE", "corpus.jsonl") for argument in arguments])
