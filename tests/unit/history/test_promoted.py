"""Which promoted candidate counts as the last, and which as the best."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.history.promoted import (
    Promoted,
    fastest,
    latest,
    promoted_in_report,
    promoted_in_rows,
    unlike,
)
from pytest_edgeai.history.records import Environment, Row

RowOf = Callable[..., Row]
REPORT: dict[str, Any] = {
    "schema": "pytest-edgeai/report/1",
    "created": "2026-11-21T10:00:00+00:00",
    "tool": {"name": "pytest-edgeai", "version": "0.1.0"},
    "hosts": [{"target": "cross", "cpu_model": "CPU A", "memory_bytes": 2**33, "simd": ["avx2"]}],
    "models": [
        {
            "name": "digits",
            "baseline": {"measurements": {"runtime": {"threads": 2}}},
            "candidates": [
                {
                    "id": "onnxruntime-int8-static@cross",
                    "target": "cross",
                    "framework": "onnxruntime",
                    "artifact": {
                        "sha256": "a1" * 32,
                        "path": "/cache/x/model.onnx",
                        "files": ["/cache/x/model.onnx"],
                        "versions": {"onnxruntime": "1.30.0"},
                    },
                    "gates": [{"name": "speedup", "observed": 3.5}],
                    "promoted": True,
                }
            ],
        }
    ],
    "evidence": {"directory": "/e", "sha256": "e1" * 32},
}


def test_only_what_was_promoted_of_that_model_and_target_counts(row_of: RowOf) -> None:
    rows = [
        row_of(0),
        row_of(1, promoted=True, gate="memory_cut", observed=0.7),
        row_of(1, promoted=True, observed=3.0, bundle="/b", candidate="f-s@cross"),
        row_of(2, promoted=True, model="other"),
        row_of(3, promoted=True, target="intel"),
        row_of(4, promoted=True, gate="memory_cut"),
    ]
    found = promoted_in_rows(rows, "digits", "cross")
    assert [(each.session, each.recipe_id, each.speedup) for each in found] == [
        ("run-1", "onnxruntime-int8-static", None),
        ("run-1", "f-s", 3.0),
        ("run-4", "onnxruntime-int8-static", None),
    ]
    assert (found[1].bundle, found[1].sha256, found[1].path) == (
        "/b",
        "a1" * 32,
        "/cache/model.onnx",
    )


def test_the_latest_prefers_the_same_recipe_and_then_the_fastest(row_of: RowOf) -> None:
    rows = [
        row_of(0, promoted=True, candidate="f-s", observed=9.0),
        row_of(1, promoted=True, candidate="f-a", observed=2.0),
        row_of(1, promoted=True, candidate="f-b", observed=3.0),
    ]
    known = promoted_in_rows(rows, "digits", "cross")
    assert [latest(known, name).recipe_id for name in ("f-a", "f-b", "f-s")] == [  # type: ignore[union-attr]
        "f-a",
        "f-b",
        "f-b",
    ]
    assert latest([], "f-a") is None


def test_the_best_is_the_fastest_of_those_that_rank_here(
    row_of: RowOf, environment: Environment
) -> None:
    other = dataclasses.replace(environment, host={**environment.host, "cpu_model": "CPU B"})
    old = dataclasses.replace(environment, versions={"onnxruntime": "1.30.0", "python": "3.11.7"})
    tools = {"openvino": "2026.2", "python": "3.11.7"}
    neighbor = dataclasses.replace(environment, versions=tools)
    rows = [
        row_of(0, promoted=True, observed=9.0, environment=other),
        row_of(1, promoted=True, observed=8.0, environment=old),
        row_of(2, promoted=True, observed=3.0),
        row_of(3, promoted=True, observed=5.0, environment=neighbor),
        row_of(4, promoted=True, observed=4.0),
        row_of(5, promoted=True, observed=None),
    ]
    known = promoted_in_rows(rows, "digits", "cross")

    def here(each: Promoted) -> Environment:
        return neighbor if "openvino" in each.environment.versions else environment

    best, refused = fastest(known, here)
    assert best is not None
    assert (best.session, refused) == ("run-3", ())
    assert fastest(known[:1], here) == (None, ("CPU CPU B instead of CPU A",))
    assert fastest(known[1:2], here) == (None, ("onnxruntime 1.30.0 instead of 1.31.1",))
    assert fastest(known[5:], here) == (None, ("no speed-up was observed",))
    for across, session in ((("host",), "run-0"), (("versions",), "run-1")):
        best, _ = fastest(known, here, across)
        assert best is not None
        assert best.session == session
    assert fastest([], here) == (None, ())


def test_speed_ups_over_baselines_in_different_frameworks_do_not_rank(
    row_of: RowOf, environment: Environment
) -> None:
    """2x over OpenVINO and 3x over ONNX Runtime say nothing about each other."""
    versions = {**environment.versions, "openvino": "2026.4"}
    same_framework = dataclasses.replace(environment, versions={"openvino": "2026.4"})
    native = dataclasses.replace(environment, versions=versions)
    rows = [row_of(0, promoted=True, observed=3.0, environment=native)]
    known = promoted_in_rows(rows, "digits", "cross")
    best, refused = fastest(known, lambda each: same_framework)
    assert best is None
    assert "onnxruntime 1.31.1 instead of absent" in refused


def test_a_report_without_a_measured_baseline_states_its_threads(environment: Environment) -> None:
    report = copy.deepcopy(REPORT)
    report["models"][0]["baseline"]["measurements"] = None
    (found,) = promoted_in_report(report, "digits", "cross")
    assert found.environment.threads == 1
    report["settings"] = {"threads": {"value": "4", "origin": "--edge-threads"}}
    (found,) = promoted_in_report(report, "digits", "cross")
    assert "threads 4 instead of 1" in unlike(environment, found.environment)


def test_a_report_says_the_same_as_the_history(environment: Environment) -> None:
    (found,) = promoted_in_report(REPORT, "digits", "cross")
    assert isinstance(found, Promoted)
    assert (found.recipe_id, found.sha256, found.speedup) == (
        "onnxruntime-int8-static",
        "a1" * 32,
        3.5,
    )
    assert found.files == ("/cache/x/model.onnx",)
    assert found.environment.threads == 2
    assert "threads 2 instead of 1" in unlike(environment, found.environment)
    assert "onnxruntime 1.30.0 instead of 1.31.1" in unlike(environment, found.environment)
    assert promoted_in_report(REPORT, "digits", "intel") == []
    assert promoted_in_report(REPORT, "other", "cross") == []
    blocked = copy.deepcopy(REPORT)
    blocked["models"][0]["candidates"][0]["promoted"] = False
    assert promoted_in_report(blocked, "digits", "cross") == []


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    return [path, *(place for key in keys for place in _places(value[key], (*path, key)))]


@given(st.sampled_from(_places(REPORT)[1:]), JSON_VALUES)
def test_a_damaged_report_is_refused_and_never_a_traceback(
    place: tuple[Any, ...], value: Any
) -> None:
    report = copy.deepcopy(REPORT)
    part = report
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    try:
        found = promoted_in_report(report, "digits", "cross")
    except ValueError:
        return
    assert all(isinstance(each.sha256, str) and isinstance(each.path, str) for each in found)
    assert latest([*found, *found], "f-s") in (*found, None)
    here = Environment({}, {}, 1)
    assert all(
        fastest([each, each], lambda one: one.environment)[0] in (each, None) for each in found
    )
    assert all(isinstance(text, str) for each in found for text in unlike(here, each.environment))


@pytest.mark.parametrize("report", [None, [], {}, {"schema": "pytest-edgeai/report/2"}])
def test_another_file_is_no_report(report: Any) -> None:
    with pytest.raises(ValueError, match="no report of the schema"):
        promoted_in_report(report, "digits", "cross")
