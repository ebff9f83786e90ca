"""A self-check on the terminal and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.records import HostFacts
from pytest_edgeai.report.text import display_width
from pytest_edgeai.selfcheck.noise import Noise
from pytest_edgeai.selfcheck.rates import CaseResult, Tally
from pytest_edgeai.selfcheck.report import (
    SCHEMA,
    SelfCheckReport,
    conclusion,
    render_json,
    render_terminal,
)
from pytest_edgeai.selfcheck.resolution import Resolution

HOST = HostFacts("h", "Linux 6", "x86_64", "AMD", "EPYC", 2, 1 << 33, (), "", {})
NOISE = Noise(0.001, 0.5, 0.99, 0, 3, (2000.0, 2600.0))
RESOLUTION = Resolution(3, 0.03, 105, 120, 0.02, 0.99, 1.02)
GOOD = CaseResult("same-model", "speed", "the same model twice", Tally(2, 2))
BAD = CaseResult(
    "slower-50",
    "speed",
    "50% more work",
    Tally(missed=2, false_passes=1),
    falsehoods=("speedup at least 1 is missed and passed: 1.2x",),
)
UNCOVERED = CaseResult("drift", "uncovered", "gets slower", not_run="no gate watches")
LATE = CaseResult("accuracy", "accuracy", "losses", not_run="the budget was used up before")
BROKEN = CaseResult("memory", "artifacts", "memory", error="the worker crashed")
SIMULATED = CaseResult(
    "accuracy",
    "accuracy",
    "losses",
    Tally(100, 100, 2, 1, 97),
    details={
        "samples": {
            "50": {
                "0.01": vars(Tally(met=100, undecided=57)),
                "0.06": vars(Tally(missed=100, false_passes=3, undecided=40)),
            }
        }
    },
)
VAGUE = CaseResult("slower-5", "speed", "5% more", Tally(met=1, missed=5, undecided=6))


def report(*results: CaseResult, **fields: object) -> SelfCheckReport:
    content: dict[str, object] = {
        "created": "2026-01-01T00:00:00Z",
        "tool_version": "1",
        "host": HOST,
        "budget_s": 120.0,
        "seconds": 90.0,
        "results": results,
        "noise": NOISE,
        "resolution": RESOLUTION,
    }
    return SelfCheckReport(**{**content, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("results", "says", "style"),
    [
        ((GOOD, UNCOVERED), "No false verdict in 4 answers of gates.", "pass"),
        ((GOOD, SIMULATED), "; 3 in 200 simulated ones, no more than the 5%", "pass"),
        ((GOOD, BAD, BROKEN), "Do not trust the gates here: false verdicts in slower-50", "fail"),
        ((GOOD, BROKEN), "memory could not be measured", "fail"),
        ((GOOD, LATE), "Not run: accuracy", "warn"),
        ((VAGUE,), "inconclusive", "warn"),
        ((UNCOVERED,), "no case was run", "warn"),
    ],
)
def test_the_conclusion(results: tuple[CaseResult, ...], says: str, style: str) -> None:
    text, found = conclusion(report(*results))
    assert says in text
    assert found == style


COUNTS = st.tuples(*[st.integers(0, 10**6)] * 5).map(
    lambda n: Tally(n[0] + n[2] + n[4], n[1] + n[3] + n[4], n[3], n[2], n[4])
)
RESULTS = st.builds(
    CaseResult,
    name=st.text(min_size=1, max_size=12, alphabet="abcdef-"),
    group=st.sampled_from(["speed", "contended", "accuracy", "artifacts", "uncovered"]),
    truth=st.text("ab ", min_size=1, max_size=60),
    counts=COUNTS,
    falsehoods=st.lists(st.text(min_size=1, max_size=200), max_size=4).map(tuple),
    not_run=st.text(max_size=40),
    error=st.text(max_size=40),
    seconds=st.floats(0, 1e4),
)


@given(
    st.lists(RESULTS, max_size=6),
    st.sampled_from([RESOLUTION, None, Resolution(1, 0.2, None, None, 1.0, 0.8, 1.2)]),
    st.booleans(),
)
def test_it_fits_into_80_columns(
    results: list[CaseResult], resolution: Resolution | None, ascii_only: bool
) -> None:
    unknown = Noise(None, None, None, 0, 0, None)
    full = report(*results, resolution=resolution, noise=unknown, warnings=("w " * 90,))
    for line in render_terminal(full, 80, ascii_only=ascii_only):
        assert line.text.isprintable()
        assert display_width(line.text) <= 80
        assert line.text.isascii() or not ascii_only
    content = json.loads(render_json(full))
    assert content["schema"] == SCHEMA
    assert len(content["cases"]) == len(results)


def test_what_is_false_not_covered_or_not_run_is_named() -> None:
    full = report(GOOD, BAD, UNCOVERED, LATE, BROKEN, warnings=("speedup = 1.01 is too close",))
    text = " ".join(line.text.strip() for line in render_terminal(full, 80, ascii_only=False))
    for words in (
        "FALSE slower-50: speedup at least 1 is missed and passed",
        "not covered: a model that gets slower (no gate watches)",
        "not run: accuracy",
        "error memory: the worker crashed",
        "WARNING: speedup = 1.01 is too close",
        "105 rounds at the median: 2 s for a call of 500 µs",
        "stolen by the hypervisor 0.1%",
        "25.0% [0.6, 80.6]",
    ):
        assert words in text, words


def test_the_table_of_accuracy_says_what_was_judged_rightly() -> None:
    lines = [line.text for line in render_terminal(report(SIMULATED), 80, ascii_only=False)]
    title = next(i for i, text in enumerate(lines) if "judged rightly" in text)
    assert lines[title].split()[-2:] == ["1%", "6%"]
    assert lines[title + 1].split() == ["50", "samples", "43%", "57%"]


@pytest.mark.parametrize(
    ("most", "says"), [(None, "no practical number of rounds"), (9999, "about 9,999 rounds")]
)
def test_a_measurement_that_took_far_longer_is_pointed_out(most: int | None, says: str) -> None:
    resolution = Resolution(3, 0.05, 105, most, 0.02, 0.99, 1.02)
    lines = render_terminal(report(GOOD, resolution=resolution), 80, ascii_only=False)
    text = " ".join(line.text.strip() for line in lines)
    assert f"The slowest measurement would take {says}: quiet the machine" in text
    assert "--edge-clock=cpu-led" in text


def test_the_json_has_rates_with_their_intervals() -> None:
    content = json.loads(render_json(report(GOOD, UNCOVERED)))
    assert content["rates"]["speed"]["false_pass"]["count"] == 0
    assert 0.8 < content["rates"]["speed"]["false_pass"]["high"] < 0.9
    assert content["cases"][1]["rates"] is None
    assert content["resolution"]["seconds_for_5_percent"]["50 ms"] == pytest.approx(10.5)
    assert Path(content["host"]["hostname"]).name == "h"
