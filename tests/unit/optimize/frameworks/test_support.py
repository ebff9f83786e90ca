"""Options by type, limited calibration, and what tools report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import OptimizeRequest
from pytest_edgeai.optimize.frameworks.support import Options, Report, calibration_of, listed
from pytest_edgeai.records import Recipe
from pytest_edgeai.worker.arrays import ArrayCalibration


def options(**values: Any) -> Options:
    return Options(Recipe("framework", "scheme", values))


def test_given_values_and_defaults() -> None:
    read = options(flag=True, number=3, count=4, choice="b", names=("x", "y"))
    assert read.flag("flag", False) is True
    assert read.number("number", 1.0, 0, 5) == 3.0
    assert read.count("count", 1) == 4
    assert read.choice("choice", "a", ("a", "b")) == "b"
    assert read.names("names") == ["x", "y"]
    assert read.flag("other flag", True) is True
    assert read.names("other names", ("z",)) == ["z"]
    read.finish()


@pytest.mark.parametrize("value", [0, 1, "true", None, []])
def test_flags_are_booleans(value: object) -> None:
    with pytest.raises(ModelError, match=r'option "flag" is .*; allowed: true or false'):
        options(flag=value).flag("flag", True)


@pytest.mark.parametrize("value", [True, "1", None, -1, 6, float("nan")])
def test_numbers_are_in_range(value: object) -> None:
    with pytest.raises(ModelError, match="a number from 0 to 5"):
        options(number=value).number("number", 1, 0, 5)


@pytest.mark.parametrize("value", [True, 1.5, 0, -3, "2"])
def test_counts_are_positive(value: object) -> None:
    with pytest.raises(ModelError, match="a whole number from 1 on"):
        options(count=value).count("count", 1)


@pytest.mark.parametrize("value", ["name", [1], None])
def test_names_are_strings(value: object) -> None:
    with pytest.raises(ModelError, match="a list of strings"):
        options(names=value).names("names")


def test_unread_option_is_unknown() -> None:
    read = options(colors="red")
    read.choice("color", "red", ("red",))
    with pytest.raises(ModelError) as caught:
        read.finish()
    assert str(caught.value) == (
        'recipe framework-scheme: unknown option "colors"; allowed: color. Did you mean "color"?'
    )


def request(samples: int | None) -> OptimizeRequest:
    calibration = None
    if samples is not None:
        calibration = ArrayCalibration({"x": np.arange(samples, dtype=np.float32)}, 1)
    return OptimizeRequest(
        Path("m.onnx"), Recipe("framework", "scheme"), "other", (), calibration, Path()
    )


def test_calibration_is_limited_and_reports_progress() -> None:
    seen: list[tuple[str, float]] = []
    limited = calibration_of(
        request(9), 4, lambda what, fraction: seen.append((what, fraction)), 0.2, 0.8
    )
    assert len(limited) == 4
    for _ in range(2):
        assert [float(feeds["x"][0]) for feeds in limited] == [0, 1, 2, 3]
    assert [what for what, _ in seen[:4]] == [f"calibrating, {n} of 4" for n in (1, 2, 3, 4)]
    assert [fraction for _, fraction in seen[:4]] == pytest.approx([0.35, 0.5, 0.65, 0.8])
    assert len(calibration_of(request(3), 4, lambda *_: None, 0, 1)) == 3


@pytest.mark.parametrize("samples", [None, 0])
def test_calibration_that_is_not_there(samples: int | None) -> None:
    with pytest.raises(ModelError, match='"scheme" needs calibration data and there is none'):
        calibration_of(request(samples), 4, lambda *_: None, 0, 1)


def test_report_listens_while_it_is_open() -> None:
    logger = logging.getLogger("a tool")
    with Report(("a tool",)) as report:
        logger.warning("first\nsecond")
        logger.warning("first\nsecond")
        report.add("  ours,\n  too ")
    logger.warning("too late")
    assert report.lines == ["warning: first", "ours, too"]


def test_listed_puts_the_most_frequent_first() -> None:
    assert listed({"Relu": 2, "Conv": 3, "Add": 2}) == "Conv (3), Add (2), Relu (2)"
