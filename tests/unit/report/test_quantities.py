from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.records import Relation
from pytest_edgeai.report.quantities import (
    format_estimate,
    format_quantity,
    format_threshold,
)

FINITE = st.floats(-1e12, 1e12, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "unit", "gate", "expected"),
    [
        (2.746, "ratio", "speedup", "2.75×"),
        (0.9868, "ratio", "accuracy_retained", "98.7%"),
        (0.5, "ratio", "memory_cut", "50.0%"),
        (0.5, "ratio", "energy_cut", "50.0%"),
        (0.5, "share", "anything", "50.0%"),
        (12.34, "ratio", "a_gate_of_a_plugin", "12.3×"),
        (0.26, "ratio", "speedup", "0.26×"),
        (0.0, "ratio", "speedup", "0.00×"),
        (512, "bytes", "", "512 B"),
        (5_900_000, "bytes", "", "5.63 MiB"),
        (2**20 - 1, "bytes", "", "1.00 MiB"),
        (3 * 2**40, "bytes", "", "3.00 TiB"),
        (850, "ns", "", "850 ns"),
        (12_345, "ns", "", "12.3 µs"),
        (4_112_000, "ns", "", "4.11 ms"),
        (999_999, "ns", "", "1.00 ms"),
        (1.5e9, "ns", "", "1.50 s"),
        (0.0042, "s", "", "4.20 ms"),
        (90, "s", "", "90.0 s"),
        (0, "classes", "", "0 classes"),
        (1, "classes", "", "1 class"),
        (1, "boxes", "", "1 box"),
        (1, "samples", "", "1 sample"),
        (2.5, "tokens", "", "2.50 tokens"),
        (7, "", "", "7"),
        (None, "ratio", "speedup", "-"),
        (math.nan, "ratio", "speedup", "-"),
        (math.inf, "ratio", "speedup", "∞×"),
        (-1e-9, "ratio", "memory_cut", "0.0%"),
    ],
)
def test_a_quantity_reads_as_its_unit_says(
    value: float | None, unit: str, gate: str, expected: str
) -> None:
    assert format_quantity(value, unit, gate=gate) == expected


@pytest.mark.parametrize(
    ("threshold", "relation", "unit", "gate", "expected"),
    [
        (2.0, "at_least", "ratio", "speedup", "≥ 2.0×"),
        (1.25, "at_least", "ratio", "speedup", "≥ 1.25×"),
        (0.95, "more_than", "ratio", "accuracy_retained", "> 95%"),
        (0.995, "more_than", "ratio", "accuracy_retained", "> 99.5%"),
        (0.5, "at_least", "ratio", "memory_cut", "≥ 50%"),
        (8 * 2**20, "at_most", "bytes", "artifact_size", "≤ 8 MiB"),
        (2_500_000, "at_most", "ns", "latency", "≤ 2.5 ms"),
        (0, "at_most", "classes", "output_sanity", "≤ 0 classes"),
        (None, "at_most", "ns", "latency", ""),
    ],
)
def test_a_threshold_has_its_relation_and_no_more_decimals_than_it_needs(
    threshold: float | None, relation: Relation, unit: str, gate: str, expected: str
) -> None:
    assert format_threshold(threshold, relation, unit, gate=gate) == expected


def test_an_interval_has_the_unit_and_the_decimals_of_what_was_observed() -> None:
    assert format_estimate(2.746, (2.61, 2.9), "ratio", gate="speedup") == (
        "2.75×",
        "[2.61, 2.90]",
    )
    assert format_estimate(2**20, (2**19, 2**21), "bytes") == ("1.00 MiB", "[0.50, 2.00]")


def test_an_open_side_is_open() -> None:
    assert format_estimate(2.0, (1.5, None), "times")[1] == "[1.50, ∞)"
    assert format_estimate(2.0, (None, 2.5), "times", ascii_only=True)[1] == "(-inf, 2.50]"


def test_rounding_never_hides_why_a_gate_failed() -> None:
    observed, interval = format_estimate(
        1.9961, (1.9922, 1.9999), "ratio", gate="speedup", threshold=2.0
    )
    assert (observed, interval) == ("1.9961×", "[1.9922, 1.9999]")
    assert format_estimate(0.94999, None, "ratio", gate="x_retained", threshold=0.95)[0] == (
        "94.999%"
    )


def test_nothing_observed_shows_nothing() -> None:
    assert format_estimate(None, None, "ratio") == ("-", "")
    assert format_estimate(None, (None, None), "ratio") == ("-", "")


@given(
    value=st.floats(0.01, 100),
    offset=st.floats(-0.5, 0.5).filter(lambda x: abs(x) > 1e-6),
    unit=st.sampled_from(["times", "share", "ns", "bytes", "s", "tokens"]),
)
def test_a_shown_value_stands_to_the_threshold_as_the_value_does(
    value: float, offset: float, unit: str
) -> None:
    threshold = value * (1 + offset)
    text, _ = format_estimate(value, None, unit, threshold=threshold)
    # Read back in the scale of the observed value, which the suffix names.
    factor = {"%": 0.01, "µs": 1e-6, "ms": 1e-3, "ns": 1.0 if unit == "ns" else 1e-9}
    number = "".join(c for c in text if c in "0123456789.-")
    suffix = text[len(number) :].strip()
    shown = float(number) * factor.get(suffix, 1.0)
    assert (shown > threshold) == (value > threshold)


@given(
    value=st.none() | st.floats(),
    interval=st.none() | st.tuples(st.none() | st.floats(), st.none() | st.floats()),
    threshold=st.none() | st.floats(),
    relation=st.sampled_from(["more_than", "at_least", "at_most"]),
    unit=st.sampled_from(["ratio", "times", "share", "bytes", "ns", "s", "classes", ""]),
)
def test_every_number_has_a_form_in_ascii_too(
    value: float | None,
    interval: tuple[float | None, float | None] | None,
    threshold: float | None,
    relation: Relation,
    unit: str,
) -> None:
    for ascii_only in (False, True):
        shown, bounds = format_estimate(
            value, interval, unit, threshold=threshold, ascii_only=ascii_only
        )
        limit = format_threshold(threshold, relation, unit, ascii_only=ascii_only)
        alone = format_quantity(value, unit, ascii_only=ascii_only)
        assert shown
        assert alone
        assert "nan" not in shown + bounds + limit + alone
        if ascii_only:
            assert (shown + bounds + limit + alone).isascii()


@given(value=st.floats(1, 1e15), unit=st.sampled_from(["bytes", "ns"]))
def test_a_stepped_quantity_is_right_to_three_digits(value: float, unit: str) -> None:
    number, suffix = format_quantity(value, unit).split()
    factors = {
        "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
        "ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9,
    }  # fmt: skip
    assert math.isclose(float(number) * factors[suffix], value, rel_tol=0.006, abs_tol=0.5)
