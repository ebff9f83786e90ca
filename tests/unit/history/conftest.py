"""Rows of a history as tests need them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from pytest_edgeai.history.records import Environment, Row

RowOf = Callable[..., Row]


@pytest.fixture
def environment() -> Environment:
    """Where the rows of :func:`row_of` were measured."""
    host = {"system": "Linux 6.1", "cpu_model": "CPU A", "logical_cores": 2, "simd": ["avx2"]}
    return Environment(host, {"onnxruntime": "1.31.1", "python": "3.11.7"}, 1)


@pytest.fixture
def row_of(environment: Environment) -> RowOf:
    """Return a row of the session with a number, one session an hour."""
    first = Row(
        created="",
        run_id="",
        environment=environment,
        model="digits",
        model_sha256="d1" * 32,
        target="cross",
        candidate="onnxruntime-int8-static",
        framework="onnxruntime",
        artifact_sha256="a1" * 32,
        artifact_path="/cache/model.onnx",
        gate="speedup",
        outcome="pass",
        observed=2.0,
        interval=(1.9, None),
        threshold=1.5,
        relation="at_least",
        unit="ratio",
        promoted=False,
        bundle="",
        report="",
        evidence="/evidence",
    )

    def make(number: int = 0, **changes: Any) -> Row:
        created = f"2026-{1 + number // 480:02}-{1 + number // 24 % 20:02}T{number % 24:02}:00:00"
        session = {"created": f"{created}+00:00", "run_id": f"run-{number}"}
        return dataclasses.replace(first, **{**session, **changes})

    return make
