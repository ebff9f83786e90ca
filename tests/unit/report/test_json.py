from __future__ import annotations

import dataclasses
import json
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_edgeai.report.content import Report
from pytest_edgeai.report.json import render_json, report_to_json


@pytest.fixture(name="validator", scope="module")
def validator_fixture() -> Any:
    text = resources.files("pytest_edgeai.report").joinpath("schema-1.json").read_text("utf-8")
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@settings(max_examples=60)
@given(data=st.data())
def test_every_report_is_strict_json_of_the_schema(
    any_report: Any, validator: Any, data: st.DataObject
) -> None:
    text = render_json(any_report.draw(data))
    assert text.isascii()
    validator.validate(json.loads(text, parse_constant=refuse_constant))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("models", 0, "candidates", 0, "gates", 0, "outcome"), "passed"),
        (("models", 0, "candidates", 0, "gates", 0, "interval"), [1.0]),
        (("models", 0, "candidates", 0, "promoted"), "yes"),
        (("host", "proxy"), None),
        (("schema",), "pytest-edgeai/report/2"),
    ],
)
def test_the_schema_refuses_what_is_wrong(
    typical: Report, validator: Any, path: tuple[str | int, ...], value: Any
) -> None:
    report = report_to_json(typical)
    validator.validate(report)
    place: Any = report
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(report)


def test_the_keys_are_those_of_the_design(typical: Report) -> None:
    report = report_to_json(typical)
    assert {"schema", "created", "tool", "host", "command", "models", "evidence"} <= set(report)
    assert report["tool"] == {"name": "pytest-edgeai", "version": "0.1.0"}
    assert report["host"]["target"] == "intel"
    assert report["host"]["proxy"] is True
    model = report["models"][0]
    assert {"name", "sha256", "task", "baseline", "candidates", "pareto", "recommended"} <= set(
        model
    )
    assert {"framework", "artifact", "measurements"} <= set(model["baseline"])
    candidate = model["candidates"][0]
    assert {
        "id", "target", "framework", "recipe", "artifact", "stages", "gates", "promoted",
        "promotion_blocked_by",
    } <= set(candidate)  # fmt: skip
    assert {"path", "sha256", "size_bytes", "precision", "from_cache"} <= set(candidate["artifact"])
    speedup = candidate["gates"][1]
    assert speedup["name"] == "speedup"
    assert speedup["interval"] == [2.61, 2.90]
    assert speedup["threshold"] == 1.5
    assert candidate["stages"][0]["measurements"]["latency"]["p50_ns"] == 3.71e6


def test_what_is_not_finite_is_null(typical: Report) -> None:
    model = typical.models[0]
    candidate = model.candidates[0]
    odd = dataclasses.replace(
        candidate.verdicts[0], observed=float("nan"), interval=(None, float("inf"))
    )
    report = dataclasses.replace(
        typical,
        models=(
            dataclasses.replace(
                model, candidates=(dataclasses.replace(candidate, verdicts=(odd,)),)
            ),
        ),
    )
    gate = report_to_json(report)["models"][0]["candidates"][0]["gates"][0]
    assert gate["observed"] is None
    assert gate["interval"] == [None, None]


def test_the_recommendation_is_in_the_report(typical: Report) -> None:
    first, second, third = report_to_json(typical)["models"]
    assert first["recommended"] == "openvino-int8-static"
    assert first["pareto"] == ["openvino-int8-static"]
    assert second["recommended"] is None
    assert third["problem"] == "models/scan.onnx: truncated file"
