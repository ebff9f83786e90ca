from __future__ import annotations

import pytest

from pytest_edgeai.judge.verdict import (
    bytes_text,
    chance_of_a_wrong_verdict,
    count_text,
    duration_text,
    list_text,
    make_verdict,
    percent_text,
    ratio_text,
    worst,
    worst_by_gate,
)
from pytest_edgeai.records import Outcome, Threshold, Verdict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (duration_text(850), "850 ns"),
        (duration_text(12_345), "12.3 µs"),
        (duration_text(2_860_000), "2.86 ms"),
        (duration_text(1.5e9), "1.5 s"),
        (bytes_text(17), "17 B"),
        (bytes_text(2048), "2 KiB"),
        (bytes_text(43_515_904), "41.5 MiB"),
        (bytes_text(-1_048_576), "-1.0 MiB"),
        (bytes_text(3 * 2**30), "3.00 GiB"),
        (ratio_text(2.749), "2.75x"),
        (ratio_text(1234.5), "1,234x"),
        (percent_text(0.98765), "98.8%"),
        (count_text(1, "sample"), "1 sample"),
        (count_text(1200, "sample"), "1,200 samples"),
        (list_text("abc", 2), "a, b and 1 more"),
        (list_text("ab", 2), "a, b"),
    ],
)
def test_figures_are_readable(text: str, expected: str) -> None:
    assert text == expected


def test_an_open_side_of_an_interval_is_unbounded() -> None:
    assert percent_text(None) == ratio_text(None) == "unbounded"


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["pass", "fail", "error"], "fail"),
        (["pass", "inconclusive"], "inconclusive"),
        (["not_applicable", "pass"], "pass"),
        (["error", "inconclusive"], "error"),
    ],
)
def test_worst(outcomes: list[Outcome], expected: str) -> None:
    assert worst(outcomes) == expected


def verdict_of(gate: str, outcome: Outcome, samples: int = 1) -> Verdict:
    return Verdict(gate, outcome, None, None, None, None, "at_least", "ratio", samples, "")


@pytest.mark.parametrize("outcome", ["fail", "error", "inconclusive", "proxy"])
def test_of_several_verdicts_of_a_gate_the_worst_counts(outcome: Outcome) -> None:
    other, passed = verdict_of("memory_cut", "pass"), verdict_of("speedup", "pass")
    worse = verdict_of("speedup", outcome)
    for order in ((other, passed, worse, passed), (other, worse, passed)):
        assert worst_by_gate(order) == {"memory_cut": other, "speedup": worse}
        assert list(worst_by_gate(order)) == ["memory_cut", "speedup"]


def test_of_equal_verdicts_of_a_gate_the_first_counts() -> None:
    first, second = verdict_of("speedup", "fail", 1), verdict_of("speedup", "fail", 2)
    assert worst_by_gate((first, second)) == {"speedup": first}


def test_a_pass_carries_no_advice() -> None:
    limit = Threshold(2.0, "at_least", "marker")
    verdict = make_verdict("speedup", "pass", limit, unit="ratio", reason="r", advice="a")
    assert (verdict.advice, verdict.threshold_origin, verdict.relation) == (
        "",
        "marker",
        "at_least",
    )


def reached(outcome: Outcome, rate: float | None) -> Verdict:
    return make_verdict(
        "speedup",
        outcome,
        Threshold(2.0, "at_least"),
        unit="ratio",
        reason="Fine.",
        details={} if rate is None else {"error_rate": rate},
    )


def test_the_chance_of_a_wrong_verdict_is_the_sum_of_the_rates() -> None:
    verdicts = [reached("pass", 0.05), reached("fail", 0.01), reached("pass", None)]
    verdicts += [reached("inconclusive", 0.5), reached("proxy", 0.5)]
    chance, count = chance_of_a_wrong_verdict(verdicts)
    assert chance == pytest.approx(0.06)
    assert count == 2
    assert chance_of_a_wrong_verdict([]) == (0.0, 0)
    assert chance_of_a_wrong_verdict([reached("pass", 0.7)] * 2) == (1.0, 2)
