"""Decorators that make components of a user's own functions.

`@mtx.rule` makes a filter, `@mtx.scorer` a scorer, and `@mtx.normalise_step` a step of `normalise=steps`.

The decorator replaces the function by a class. The fields of the class are the function's keyword-only parameters with
their types and bounds. A config names the class in `_target_`; mtx refuses a function without a decorator.
"""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.checked_options import component
from mtx.data.filter.filter_protocol import PairFilter
from mtx.data.filter.pairwise_rule import PairwiseRule, Reasons, judgement_of
from mtx.data.normalise import NormaliseStep
from mtx.data.score.scorer import Scorer
from mtx.errors import ConfigError

Judge = Callable[..., Any]


def rule(function: Judge) -> type[PairFilter]:
    """Make a filter class from a function that returns which pairs to keep.

    Args:
        function: takes a record batch with the columns `src`, `tgt` and any further columns, and takes its options as
            keyword-only parameters. Returns bool [n], True for each pair to keep; or that and a reason for each pair,
            text or null [n]. Must not change the batch.

    Dropped pairs are counted under the function's name, or under `NAME.REASON` if they have a reason. Raises
    ConfigError if the function has other parameters.

    Example:
        >>> import pyarrow as pa
        >>> import pyarrow.compute as pc
        >>> @rule
        ... def short(pairs: pa.RecordBatch, *, max_chars: int = 3) -> pa.BooleanArray:
        ...     return pc.less_equal(pc.utf8_length(pairs["src"]), max_chars)
        >>> pairs = pa.table({"src": ["ja", "nein"], "tgt": ["yes", "no"]})
        >>> dropped = {}
        >>> [batch["src"].to_pylist() for batch in short(max_chars=3).apply(pairs, dropped)], dropped
        ([['ja']], {'short': 1})
    """

    def judge(self: Any, pairs: pa.RecordBatch) -> tuple[NDArray[np.bool_], Reasons | None]:
        return judgement_of(function.__name__, function(pairs, **vars(self)), pairs.num_rows)

    attributes = {"judge": judge, "rule_name": property(lambda self: function.__name__)}
    return typing.cast(type[PairFilter], _class_of(function, PairwiseRule, "filter", **attributes))


@typing.overload
def scorer(function: Judge) -> type[Scorer]: ...


@typing.overload
def scorer(*, of_texts: bool = True, parallel: bool = False) -> Callable[[Judge], type[Scorer]]: ...


def scorer(
    function: Judge | None = None, *, of_texts: bool = True, parallel: bool = False
) -> type[Scorer] | Callable[[Judge], type[Scorer]]:
    """Make a scorer class from a function that gives each pair a score. A higher score means a better pair.

    Args:
        function: takes a record batch with the columns `src`, `tgt` and any further columns, and takes its options as
            keyword-only parameters. Returns float [n].
        of_texts: False if the function reads further columns of the corpus: `@scorer(of_texts=False)`. Planted noise
            has only texts, so `task=scores` does not measure such a score, and no scorer combines it.
        parallel: whether several processes may call the function at once, for parts of a large corpus. Leave it False
            if the function uses an accelerator or much memory.

    The function's name becomes the name of the score column. Raises ConfigError if the function has other parameters.
    """
    if function is None:
        return functools.partial(_scorer, of_texts=of_texts, parallel=parallel)
    return _scorer(function, of_texts=of_texts, parallel=parallel)


def _scorer(function: Judge, *, of_texts: bool, parallel: bool) -> type[Scorer]:
    def scores(self: Any, pairs: pa.RecordBatch) -> pa.Array:
        return function(pairs, **vars(self))

    attributes = {"scores": scores, "is_of_texts": of_texts, "is_parallel": parallel}
    return typing.cast(type[Scorer], _class_of(function, Scorer, "score", **attributes))


def normalise_step(function: Judge) -> type[NormaliseStep]:
    """Make a step of `normalise=steps` from a function that changes the texts of one side.

    Args:
        function: takes the texts of one side, a large_string array without nulls, and takes its options as keyword-only
            parameters. Returns the new texts, an array or a list of as many texts. It is called for each side in turn.

    Raises ConfigError if the function has other parameters.

    Example:
        >>> import pyarrow as pa
        >>> import pyarrow.compute as pc
        >>> @normalise_step
        ... def without(texts: pa.LargeStringArray, *, text: str = "*") -> pa.LargeStringArray:
        ...     return pc.replace_substring(texts, text, "")
        >>> without(text="#").apply(pa.array(["a#b", "c"], pa.large_string())).to_pylist()
        ['ab', 'c']
    """

    def apply(self: Any, texts: pa.LargeStringArray) -> Any:
        return function(texts, **vars(self))

    return typing.cast(type[NormaliseStep], _class_of(function, NormaliseStep, "normalise.own", apply=apply))


def _check_code(function: Judge) -> None:
    """Raise ConfigError if two functions that differ could have one identity, so that one gets the other's results."""
    if function.__name__ == "<lambda>":
        raise ConfigError(
            "a rule or scorer needs a name, but is a lambda. Write it as a function: def NAME(pairs): ..."
        )
    if function.__closure__:
        raise ConfigError(
            f"{function.__name__} uses {', '.join(function.__code__.co_freevars)} of the function around it, which is "
            f"no part of its identity. Make it an option: def {function.__name__}(pairs, *, "
            f"{function.__code__.co_freevars[0]})"
        )


def _class_of(function: Judge, base: type, group: str, **attributes: Any) -> type:
    _check_code(function)
    first, *options = inspect.signature(function).parameters.values()
    if first.kind is first.KEYWORD_ONLY or any(option.kind is not option.KEYWORD_ONLY for option in options):
        raise ConfigError(
            f"{function.__name__} must take one positional argument, and then only keyword-only options: "
            f"def {function.__name__}({first.name}, *, OPTION=VALUE)"
        )
    hints = typing.get_type_hints(function, include_extras=True)
    made = type(
        function.__name__,
        (base,),
        {
            "__annotations__": {option.name: hints.get(option.name, Any) for option in options},
            **{option.name: option.default for option in options if option.default is not option.empty},
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
            **attributes,
        },
    )
    return component(group)(made)
