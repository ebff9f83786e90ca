from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_edgeai.report.content import Report
from pytest_edgeai.report.junit import render_junit


def case(root: ET.Element, suite: str, name: str) -> ET.Element:
    found = root.find(f"testsuite[@name='{suite}']/testcase[@name='{name}']")
    assert found is not None
    return found


@settings(max_examples=60)
@given(data=st.data())
def test_any_report_is_xml_with_a_suite_per_candidate_and_unique_cases(
    any_report: Any, data: st.DataObject
) -> None:
    report = any_report.draw(data)
    root = ET.fromstring(render_junit(report).encode())
    candidates = [c for model in report.models for c in model.candidates]
    problems = [m for m in report.models if m.problem or not m.candidates]
    assert len(root.findall("testsuite")) == len(candidates) + len(problems)
    for suite in root.findall("testsuite"):
        names = [element.get("name") for element in suite.findall("testcase")]
        assert len(names) == len(set(names)) == int(suite.get("tests", "-1"))


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x7f", "\x9f", "\ud800", "\ufffe", "\ufdd0"])
def test_what_xml_cannot_carry_is_escaped_and_not_lost(typical: Report, char: str) -> None:
    model = typical.models[0]
    candidate = model.candidates[1]
    odd = dataclasses.replace(candidate.verdicts[1], reason=f"before{char}after")
    odd_candidate = dataclasses.replace(candidate, verdicts=(odd,), known_failures={})
    report = dataclasses.replace(
        typical, models=(dataclasses.replace(model, candidates=(odd_candidate,)),)
    )
    root = ET.fromstring(render_junit(report).encode())
    failure = case(root, "digits.intel.onnxruntime-int8-dynamic", "speedup").find("failure")
    assert failure is not None
    escaped = char.encode("unicode_escape", "backslashreplace").decode()
    assert f"before{escaped}after" in str(failure.text)


def test_outcomes_are_what_the_tests_are(typical: Report) -> None:
    root = ET.fromstring(render_junit(typical).encode())
    dynamic = "digits.intel.onnxruntime-int8-dynamic"
    long = "digits.intel.openvino-int8-static-mixed-per-channel-bias-corrected-with-sq"
    kinds = {
        (dynamic, "accuracy_retained"): {"system-out"},
        (dynamic, "speedup"): {"skipped", "system-out"},  # a known failure
        (dynamic, "memory_cut"): {"failure", "system-out"},
        (dynamic, "latency_consistency"): {"skipped", "system-out"},
        (dynamic, "artifact_size"): {"skipped"},
        (long, "speedup"): {"error", "system-out"},
        ("reader.intel.openvino-int8-static", "speedup"): {"skipped", "system-out"},
        ("scan", "candidates"): {"error"},
    }
    for (suite, name), expected in kinds.items():
        assert {child.tag for child in case(root, suite, name)} == expected
    pending = case(root, dynamic, "artifact_size").find("skipped")
    assert pending is not None
    assert pending.get("message") == "did not run"


@pytest.mark.parametrize(("setting", "tag"), [("fail", "failure"), ("skip", "skipped")])
def test_inconclusive_is_what_the_option_says(
    typical: Report, setting: Literal["fail", "skip"], tag: str
) -> None:
    root = ET.fromstring(render_junit(typical, inconclusive=setting).encode())
    element = case(root, "digits.intel.onnxruntime-int8-dynamic", "memory_cut").find(tag)
    assert element is not None
    assert "The interval contains the limit" in element.get("message", "")
    assert "raise --edge-budget to 90" in str(element.text)


def test_a_known_failure_that_passes_is_a_failure(typical: Report) -> None:
    model = typical.models[0]
    known = dataclasses.replace(model.candidates[0], known_failures={"speedup": "issue 41"})
    report = dataclasses.replace(typical, models=(dataclasses.replace(model, candidates=(known,)),))
    root = ET.fromstring(render_junit(report).encode())
    failure = case(root, "digits.intel.openvino-int8-static", "speedup").find("failure")
    assert failure is not None
    assert "issue 41" in failure.get("message", "")


def test_properties_figures_and_times_are_carried(typical: Report) -> None:
    model = typical.models[0]
    timed = dataclasses.replace(model.candidates[0], gate_seconds={"speedup": 12.5})
    report = dataclasses.replace(typical, models=(dataclasses.replace(model, candidates=(timed,)),))
    root = ET.fromstring(render_junit(report).encode())
    suite = root.find("testsuite")
    assert suite is not None
    assert suite.get("hostname") == "ci-runner-7"
    assert suite.get("timestamp") == "2026-11-21T12:00:00"
    properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert properties["artifact.sha256"] == "3f" * 32
    assert properties["evidence.sha256"] == "9a" * 32
    assert properties["host.proxy"] == "true"
    assert properties["version.openvino"] == "2025.3.0"
    speedup = case(root, "digits.intel.openvino-int8-static", "speedup")
    assert float(speedup.get("time", "0")) == 12.5
    assert str(speedup.findtext("system-out")).splitlines() == [
        "observed: 2.75×",
        "interval (95%): [2.61, 2.90]",
        "threshold: ≥ 1.5× (edgeai.toml)",
        "samples: 212",
    ]


def test_a_rerun_gate_keeps_every_run_under_its_own_name(typical: Report) -> None:
    model = typical.models[0]
    candidate = model.candidates[0]
    rerun = dataclasses.replace(candidate, verdicts=(candidate.verdicts[0], *candidate.verdicts))
    report = dataclasses.replace(typical, models=(dataclasses.replace(model, candidates=(rerun,)),))
    root = ET.fromstring(render_junit(report).encode())
    assert case(root, "digits.intel.openvino-int8-static", "accuracy_retained (run 2)") is not None
