"""What the error about an empty training split says."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mtx.data.empty_datasets import check_filtered
from mtx.errors import EmptyDatasetError


def test_the_reason_that_dropped_most_comes_first() -> None:
    dropped = {"copy": 9, "digits": 17, "length_z": 1927, "too_long": 9}
    train = SimpleNamespace(n=0, name="corpus", metrics={"dropped": dropped})
    told = "corpus has no training pair left; dropped: 1,927 length_z, 17 digits, 9 copy, 9 too_long. "
    with pytest.raises(EmptyDatasetError, match=told):
        check_filtered(cast(Any, {"train": train}), cast(Any, None))
