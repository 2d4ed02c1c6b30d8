"""`trainer.callbacks` is null, a callback, or a list of callbacks; else one line says so, before any work."""

from typing import Any

import pytest

from mtx.errors import ConfigError
from mtx.training.callback_options import build_callbacks
from mtx.training.callbacks import DataCosts

ONE = {"_target_": "mtx.training.callbacks.DataCosts"}


@pytest.mark.parametrize(("value", "number"), [(None, 0), ([], 0), ([ONE], 1), ([ONE, ONE], 2), (ONE, 1), ((ONE,), 1)])
def test_callbacks_are_built(value: Any, number: int) -> None:
    built = build_callbacks(value)
    assert len(built) == number
    assert all(isinstance(callback, DataCosts) for callback in built)


@pytest.mark.parametrize("value", [{"costs": ONE}, {}, "DataCosts", 1, True, 1.5])
def test_what_is_no_list_is_told(value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        build_callbacks(value)
    assert f"trainer.callbacks is a list of callbacks, each with a _target_, or null, but is {value!r}" in str(
        error.value
    )
    assert "trainer.callbacks=[{_target_: mtx.training.callbacks.DataCosts}]" in str(error.value)


@pytest.mark.parametrize("item", [1, None, "DataCosts", [ONE], {}, {"costs": ONE}])
def test_an_item_that_is_no_callback_is_told_with_its_place(item: Any) -> None:
    with pytest.raises(ConfigError, match=r"trainer.callbacks\[1\] is a callback with a _target_, but is "):
        build_callbacks([ONE, item])


def test_an_object_of_another_class_is_told() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.callbacks\[0\] is a CSVLogger, which is no callback of Lightning"):
        build_callbacks([{"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": "."}])
