"""How many layers are restored, and what the recipe with them is called."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.records import Recipe
from pytest_edgeai.restoring import least_number, with_restored


@given(needed=st.integers(1, 300), limit=st.integers(1, 300))
def test_the_least_number_takes_few_attempts(needed: int, limit: int) -> None:
    tried: list[int] = []

    def attempt(number: int) -> bool:
        tried.append(number)
        return number >= needed

    ended = least_number(attempt, limit, lambda: True)
    assert len(tried) == len(set(tried))
    assert max(tried) <= limit
    if needed > limit:
        assert ended == "most layers"
        assert tried[-1] == limit
        assert len(tried) <= math.log2(limit) + 2
    else:
        assert ended == "retention holds"
        assert needed in tried
        assert len(tried) <= 2 * math.ceil(math.log2(needed)) + 1


def test_time_ends_it() -> None:
    tried: list[int] = []

    def attempt(number: int) -> bool:
        tried.append(number)
        return number >= 8

    assert least_number(attempt, 100, lambda: len(tried) < 3) == "time box"
    assert tried == [1, 2, 4]
    tried.clear()
    assert least_number(attempt, 100, lambda: len(tried) < 4) == "retention holds"
    assert tried == [1, 2, 4, 8]


def test_without_layers_there_is_nothing_to_try() -> None:
    assert least_number(lambda number: True, 0, lambda: True) == "most layers"


def test_recipes_are_told_apart_by_what_they_keep() -> None:
    plain = Recipe("onnxruntime", "int8-static", {"per_channel": False}, label="b")
    assert with_restored(plain, "nodes_to_exclude", ()) is plain
    one = with_restored(plain, "nodes_to_exclude", ["conv1"])
    assert one.options == {"per_channel": False, "nodes_to_exclude": ["conv1"]}
    assert one.id.startswith("onnxruntime-int8-static-b-kept1-")
    other = with_restored(plain, "nodes_to_exclude", ["conv2"])
    assert other.id != one.id
    both = with_restored(one, "nodes_to_exclude", ["conv2", "conv1"])
    assert both.options["nodes_to_exclude"] == ["conv1", "conv2"]
    assert "conv2, conv1" in both.reason
