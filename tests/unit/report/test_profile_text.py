"""What limits a candidate, as people read it."""

from __future__ import annotations

import math

from profile_parts import PROFILE, candidate_profile, changed

from pytest_edgeai.profile_records import OperatorTime
from pytest_edgeai.report.profile_text import (
    operator_shares,
    operator_text,
    profile_rows,
    profile_sentence,
)


def test_the_limit_comes_first_then_where_the_time_goes() -> None:
    fast = changed(flops_per_call=7e8)
    assert profile_sentence(candidate_profile(fast, fast)) == (
        "compute-bound: 70% of the host's 100 GFLOP/s; 89% of the operators' time in Conv"
    )


def test_a_baseline_with_another_limit_is_named() -> None:
    sentence = profile_sentence(candidate_profile(changed(flops_per_call=7e8)))
    assert sentence.startswith("unknown: nothing limits it by itself: ")
    assert sentence.endswith("; the baseline is compute-bound")


def test_a_runtime_without_a_profiler_is_said_to_have_none() -> None:
    untraced = changed(
        operators=(), operators_source="", operator_ns=None, operators_note="no profiler"
    )
    assert "; no times of operators: no profiler" in profile_sentence(
        candidate_profile(candidate=untraced)
    )


def test_operators_of_one_type_are_added_up() -> None:
    operators = tuple(OperatorTime(f"n{i}", f"T{i % 6}", 1, 100 + i % 6) for i in range(60))
    shares = operator_shares(changed(operators=operators))
    assert list(shares) == ["T5", "T4", "T3", "T2", "T1", "T0"]
    assert sum(shares.values()) == 1.0 or math.isclose(sum(shares.values()), 1.0)
    assert operator_text(changed(operators=operators)) == ""
    assert operator_shares(changed(operators=())) == {}


def test_the_table_has_both_models_side_by_side() -> None:
    other = changed(minor_faults=math.nan, core_shares={}, waiting_ns=None, flops_per_call=None)
    rows = {name: cells for name, *cells in profile_rows(candidate_profile(PROFILE, other))}
    assert rows["wall time"] == ["10.0 ms", "10.0 ms"]
    assert rows["operations"] == ["100,000,000", "-"]
    assert rows["page faults"] == ["0", "-"]
    assert rows["time on each core"] == ["0: 60%, 1: 38%", "-"]
    assert rows["ready and waiting for a core"] == ["50.0 µs", "-"]
    assert rows["longest operators"][0] == "89% of the operators' time in Conv"
