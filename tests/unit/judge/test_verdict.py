from __future__ import annotations

import pytest

from pytest_edgeai.judge.verdict import (
    bytes_text,
    count_text,
    duration_text,
    list_text,
    make_verdict,
    percent_text,
    ratio_text,
    worst,
)
from pytest_edgeai.records import Outcome, Threshold


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


def test_a_pass_carries_no_advice() -> None:
    limit = Threshold(2.0, "at_least", "marker")
    verdict = make_verdict("speedup", "pass", limit, unit="ratio", reason="r", advice="a")
    assert (verdict.advice, verdict.threshold_origin, verdict.relation) == (
        "",
        "marker",
        "at_least",
    )
