"""Values and forms of overrides for the fuzzer of settings, from the type and the bounds of a key."""

import typing
from types import UnionType
from typing import Annotated, Any, Literal, Union

# Values that no type chooses: each is text as it is typed behind the `=` of an override.
ANY = [
    *("null", "true", "false", "0", "1", "-1", "2", "7", "1.5", "-0.5", "0.0", "-0.0", "1e3", "1e400", "inf", "-inf"),
    *("nan", "1_000", "0x10", "007", "2147483647", "2147483648", "9223372036854775808", "18446744073709551616"),
    *("9" * 400, "-" + "9" * 400, "1" + "0" * 5000, "''", '""', "abc", "ABC", "a b", "x" * 5000, "???", "''''"),
    *("ü", "日本語", "'日本 語'", "مرحبا", "e\u0301", "'\u202eabc'", "'\x1b[31m'", "'a\\nb'", "'a\nb'", "'a\tb'"),
    *("\udcff", "'\udcff.tsv'", "'\x00'", "'\U0001f600'", "~", "~user", "~nosuchuser/x", "/", "../..", "/etc/passwd"),
    *("[]", "[1,2]", "[null]", "[[[]]]", "[a,1,{b: c}]", "{}", "{a: 1}", "{a: null}", "{a: {b: {c: [1]}}}", "{1: 2}"),
    *("{a: [b, {c: null}]}", "{'': ''}", "{_target_: os.system}", "[{_target_: os.system}]", "{_target_: null}"),
    *("{_target_: 3}", "{_target_: nope.Nope}", "{_target_: builtins.print}", "{_partial_: true}", "{_args_: [1]}"),
    *("${seed}", "${nope}", "${trainer}", "${oc.env:MTX_NOPE}", "${oc.env:MTX_NOPE,null}", "${hydra:job.num}", "${"),
    *("$", "${}", "${a", "'${seed}'", "'${'", "\\${seed}", "${oc.decode:x}", "${nope:1}", "${.seed}", "${..seed}"),
    *("1,2", "a,b", "choice(1,2)", "range(1,3)", "glob(*)", "interval(0,1)", "shuffle(1,2)", "sort(2,1)", "choice()"),
    *("int(abc)", "float('x')", "str(1)", "json_str([1])", "extend_list(1)", "nope(1)", "(", ")", "{", "}", "[", "]"),
    *("'", '"', "'abc", "a=b", "a:b", ":", "=", "==", "%", "\\", "\\\\", "#", "a #b", "!x", "*", "&x", "a;b", "`x`"),
    *("http://user:password@host/x", "https://example.invalid/x", "s3://bucket/x", "00:01:00:00", "2020-01-01"),
]


def values_of(annotation: Any) -> list[str]:
    """Return values at and beyond the bounds of a type, its choices, and values that are nearly of the type."""
    if annotation is None:
        return []
    found: list[str] = []
    for bare, bounds in _parts(annotation):
        if typing.get_origin(bare) is Literal:
            for choice in map(str, typing.get_args(bare)):
                found += [choice, choice.upper(), choice[:-1], f"[{choice}]", f"'{choice} '"]
        elif bare is bool:
            found += ["true", "false", "True", "yes", "on", "1", "0", "'true'"]
        elif bare in (int, float):
            found += ["1", "3", "0.5", "'1'", "1.0", "[1]", "true"]
            for limit in bounds:
                found += [f"{limit}", f"{limit + 1}", f"{limit - 1}", f"{limit}.5", f"'{limit}'"]
        elif bare is str:
            found += ["abc", "'abc'", "''", "3", "[abc]"]
        elif bare is type(None):
            found += ["null", "none", "'null'"]
        elif isinstance(origin := typing.get_origin(bare), type) and issubclass(origin, typing.Mapping):
            found += ["{a: 1}", "{a: 0}", "{a: x}", "{a: -1, b: 2}", "{a: null}", "[a]", "{}"]
        else:
            found += ["[1]", "[a,b]", "[3,2,1]", "[[1],[2]]", "abc"]
    return list(dict.fromkeys(found))


def override_forms(key: str) -> list[str]:
    """Return overrides that change, add or delete a key in other forms than KEY=VALUE, or that mistype the key."""
    group, _, name = key.rpartition(".")
    near = f"{key[:-1]}" if len(name or key) > 2 else f"{key}x"
    forms = [
        *(f"+{key}=1", f"++{key}=null", f"~{key}", f"~{key}=1", f"{key}", f"{key}=", f"--{key}=1", f"{key}: 1"),
        *(f"{near}=1", f"+{key}x=1", f"+{key}.inner=1", f"{key}.inner=1", f"{key}[0]=1", f" {key}=1", f"{key} =1"),
        *(f"{key.upper()}=1", f"{key}==1", f"{key}@x=1"),
    ]
    return forms + ([f"{group}.{name}.{name}=1", f"{group}={{{name}: 1}}", f"~{group}"] if group else [])


def _parts(annotation: Any) -> list[tuple[Any, list[float]]]:
    """Return the alternatives of a type, each with the numbers of its bounds."""
    bounds: list[float] = []
    while typing.get_origin(annotation) is Annotated:
        annotation, *metadata = typing.get_args(annotation)
        for each in metadata:
            for bound in getattr(each, "metadata", [each]):
                bounds += [getattr(bound, name) for name in ("ge", "gt", "le", "lt") if hasattr(bound, name)]
    if typing.get_origin(annotation) in (Union, UnionType):
        return [part for one in typing.get_args(annotation) for part in _parts(one)]
    return [(annotation, bounds)]
