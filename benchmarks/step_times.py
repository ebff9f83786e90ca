"""A pytest plugin that times the steps of a session: ``pytest -p benchmarks.step_times``.

What the session spends inside the functions named below is written as JSON into the file that the
environment variable ``EDGE_STEP_TIMES`` names. Nothing inside the package is changed but the
functions' names, which are replaced by wrappers that read a clock before and after.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_edgeai import measurements, stability_measurements, stages, timing
from pytest_edgeai.measure.bench import LoadedRunnable

STEPS = {
    "accuracy evaluation": (LoadedRunnable, "evaluate"),
    "rounds in turns": (timing, "interleave"),
    "turns of the gates of stability": (stability_measurements, "take_turns"),
    "rounds of the stages": (stages, "_stage_rounds"),
    "memory in fresh processes": (measurements, "measure_memory"),
    "asking what the runtime executes": (LoadedRunnable, "execution"),
    "loading models into workers": (LoadedRunnable, "__init__"),
}
"""The steps that measure or evaluate; none of them calls another."""

_seconds: dict[str, float] = {}


def _timed(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            _seconds[step] = _seconds.get(step, 0.0) + time.perf_counter() - begin

    return wrapper


def pytest_configure(config: pytest.Config) -> None:
    """Wrap the functions."""
    for step, (owner, name) in STEPS.items():
        setattr(owner, name, _timed(step, getattr(owner, name)))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Write what was spent."""
    Path(os.environ["EDGE_STEP_TIMES"]).write_text(json.dumps(_seconds), encoding="utf-8")
