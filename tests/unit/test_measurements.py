"""What the workers' answers on memory become."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.measurements import memory_from_json, memory_samples
from pytest_edgeai.records import to_json


def answer(peak: int, steady: int | None = 5, **changes: Any) -> dict[str, Any]:
    return {
        "definition": "peak",
        "model_bytes": peak,
        "footprint_bytes": peak + 100,
        "steady_definition": None if steady is None else "steady",
        "steady_bytes": steady,
        "untouched_bytes": 0,
        **changes,
    }


def test_both_figures_of_every_repeat_are_kept_on_both_sides() -> None:
    baseline = [answer(40, 20), answer(41, 21), answer(42, 22, untouched_bytes=3)]
    candidate = [answer(10, 6, kv_cache_bytes=2) for _ in range(3)]
    found = memory_samples((baseline, candidate), (30, None))
    assert (found.baseline_bytes, found.candidate_bytes) == ((40, 41, 42), (10, 10, 10))
    assert (found.baseline_steady_bytes, found.candidate_steady_bytes) == ((20, 21, 22), (6, 6, 6))
    assert found.baseline_footprint_bytes == (140, 141, 142)
    assert (found.definition, found.steady_definition) == ("peak", "steady")
    assert (found.baseline_mapped_bytes, found.candidate_mapped_bytes) == (30, None)
    assert (found.baseline_untouched_bytes, found.candidate_untouched_bytes) == (3, 0)
    assert (found.baseline_kv_cache_bytes, found.candidate_kv_cache_bytes) == (None, 2)
    assert memory_from_json(to_json(found)) == found


def test_without_a_counter_there_is_no_steady_state() -> None:
    found = memory_samples(([answer(40, None)], [answer(10, None)]), (None, None))
    assert (found.baseline_steady_bytes, found.steady_definition) == ((), None)


@pytest.mark.parametrize("changes", [{"definition": "other"}, {"steady_definition": "other"}])
def test_figures_of_two_definitions_are_never_compared(changes: dict[str, Any]) -> None:
    with pytest.raises(
        MeasurementError, match=r"different ways, .* not compared: .*other"
    ) as error:
        memory_samples(([answer(40)], [answer(10, **changes)]), (None, None))
    assert "\n" not in str(error.value)
