"""The order in which several processes run the tests."""

from slow_first import slow_first


def test_each_part_begins_with_slow_modules_and_keeps_modules_together() -> None:
    tests = ["a::quick1", "a::quick2", "b::slow[1]", "b::quick", "c::quick", "d::slow", "d::quick", "e::quick"]
    ordered = slow_first(tests, {"b::slow", "d::slow"}, 2)
    assert ordered[:4] == ["b::slow[1]", "b::quick", "a::quick1", "a::quick2"]
    assert ordered[4:] == ["d::slow", "d::quick", "c::quick", "e::quick"]
    assert slow_first(tests, set(), 1) == tests
