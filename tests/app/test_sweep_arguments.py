"""Command lines as Hydra takes them, and back."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from mtx.app.varied_group_overrides import as_typed, hydra_arguments

VARIED = ["-m", "sampler=random,bucket"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["sampler=bucket", "sampler.batch_size=8"],
        ["-m", "sampler=bucket", "sampler.batch_size=8,16", "seed=1"],
        [*VARIED, "tokenizer.vocab_size=400", "hydra.sweep.dir=x"],
        [*VARIED, "sampler.batch_size=8,16"],
        ["--cfg", "job", "experiment=sampler_comparison", "sampler.batch_size=8"],
        ["experiment=quick_look", "sampler.max_tokens=8"],
    ],
)
def test_other_arguments_are_left(arguments: list[str]) -> None:
    assert hydra_arguments(arguments) == arguments


@pytest.mark.parametrize(
    "arguments",
    [
        [*VARIED, "sampler.batch_size=8"],
        [*VARIED, "+sampler.mine='a b, c=(d)'"],
        [*VARIED, "+sampler.mine=[1, 2]"],
        [*VARIED, "+sampler.mine=null"],
        [*VARIED, "+sampler.mine=${seed}"],
        [*VARIED, "sampler.batch_size="],
        [*VARIED, "~sampler.batch_size"],
        ["-m", "experiment=none,original", "sampler.batch_size=8"],
        ["experiment=sampler_comparison", "sampler.batch_size=8"],
    ],
)
def test_a_key_of_a_group_whose_options_vary_is_for_the_jobs_alone(arguments: list[str]) -> None:
    *others, last = hydra_arguments(arguments)
    assert others == arguments[:-1]
    (override,) = OverridesParser.create().parse_overrides([last])
    assert override.is_sweep_override()
    assert as_typed(last) == arguments[-1]
    assert [*map(as_typed, others)] == others
