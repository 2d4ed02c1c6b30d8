"""`trainer.callbacks` is null, a callback, or a list of callbacks; else one line says so, before any work."""

from typing import Any

import pytest
import pytorch_lightning as pl

from mtx.errors import ConfigError
from mtx.training.callback_options import check_built_callbacks, check_callbacks

ONE = {"_target_": "mtx.training.callbacks.DataCosts"}


@pytest.mark.parametrize("value", [None, [], [ONE], [ONE, ONE], ONE, pl.Callback(), [pl.Callback()], (ONE,)])
def test_callbacks_are_taken(value: Any) -> None:
    check_callbacks(value)


@pytest.mark.parametrize("value", [{"costs": ONE}, {}, "DataCosts", 1, True, 1.5])
def test_what_is_no_list_is_told(value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        check_callbacks(value)
    assert f"trainer.callbacks is a list of callbacks, each with a _target_, or null, but is {value!r}" in str(
        error.value
    )
    assert "trainer.callbacks=[{_target_: mtx.training.callbacks.DataCosts}]" in str(error.value)


@pytest.mark.parametrize("item", [1, None, "DataCosts", [ONE], {}, {"costs": ONE}])
def test_an_item_that_is_no_callback_is_told_with_its_place(item: Any) -> None:
    with pytest.raises(ConfigError, match=r"trainer.callbacks\[1\] is a callback with a _target_, but is "):
        check_callbacks([ONE, item])


def test_an_object_of_another_class_is_told() -> None:
    check_built_callbacks([pl.Callback()])
    with pytest.raises(ConfigError, match=r"trainer\.callbacks has a dict, which is no callback of Lightning"):
        check_built_callbacks([pl.Callback(), {}])
