"""Each hook of the extension contract, used from a conftest.py as its documentation shows."""

from __future__ import annotations

import json
from pathlib import Path

from edge_runs import CANDIDATE, GATES, PASSING, Place

OWN = """
import json
import pathlib

from pytest_edgeai.descriptors import GateDescriptor, MetricDescriptor, TargetDescriptor
from pytest_edgeai.records import Recipe

HERE = pathlib.Path(__file__).parent


def pytest_edgeai_targets():
    return [TargetDescriptor("kiosk", "our kiosk", ("onnxruntime",))]


def pytest_edgeai_metrics():
    return [MetricDescriptor("top2", "own:top2", "proportion")]


def pytest_edgeai_gates():
    return [GateDescriptor("cold_start", "own:test_cold_start", "own:decide_cold_start",
                           "at_most", 60e9, "ns", "the first answer comes within a minute")]


def pytest_edgeai_recipes(model, facts, framework, target):
    if target == "kiosk":
        return [Recipe(framework, "int8-dynamic", reason=f"{facts.architecture} on a kiosk")]


def pytest_edgeai_verdict(model, candidate, target, verdict):
    with (HERE / "verdicts.txt").open("a") as file:
        print(model, candidate, target, verdict.gate, verdict.outcome, file=file)


def pytest_edgeai_promote(model, candidate, bundle):
    said = {"model": model, "candidate": candidate.id, "whole": (bundle / "bundle.json").is_file()}
    (HERE / "promotion.json").write_text(json.dumps(said))
"""
OWN_CODE = """
import time

import numpy as np
from pytest_edgeai.records import Verdict


def top2(outputs, labels):
    best = np.argsort(next(iter(outputs.values())), axis=1)[:, -2:]
    return (best == labels[:, None]).any(axis=1).astype(float)


def decide_cold_start(bench, candidate, threshold):
    started = time.perf_counter_ns()
    bench.loaded_candidate(candidate)
    spent_ns = float(time.perf_counter_ns() - started)
    outcome = "pass" if spent_ns <= threshold.value else "fail"
    return Verdict("cold_start", outcome, spent_ns, None, None, threshold.value,
                   threshold.relation, "ns", 1, "loaded")


def test_cold_start(edge_compare):
    edge_compare("cold_start")
"""


def test_targets_recipes_metrics_gates_verdicts_and_promotions(place: Place) -> None:
    manifest = place.write()
    manifest.write_text(
        manifest.read_text("utf-8").replace("[gates]", 'metric = "top2"\n[gates]', 1), "utf-8"
    )
    place.pytester.makeconftest(OWN)
    place.pytester.makepyfile(own=OWN_CODE)
    run = place.run("--edge-promote=promoted", "-W", "error", target="kiosk")
    assert (run.code, run.outcomes) == (0, {"passed": PASSING + 1, "skipped": 2})
    assert list(run.verdicts()) == [*GATES, "cold_start"]
    assert run.candidate()["id"] == "onnxruntime-int8-dynamic"
    assert run.candidate()["target"] == "kiosk"
    evidence = Path(run.report["evidence"]["directory"]) / "linear" / "onnxruntime-int8-dynamic"
    assert json.loads((evidence / "quality.json").read_text())["metric"] == "top2"
    told = (place.path / "verdicts.txt").read_text().splitlines()
    assert told[0] == "linear onnxruntime-int8-dynamic kiosk accuracy_retained pass"
    assert len(told) == len(GATES) + 1
    promotion = json.loads((place.path / "promotion.json").read_text())
    assert promotion == {
        "model": "linear",
        "candidate": "onnxruntime-int8-dynamic",
        "whole": True,
    }


def test_the_hooks_are_known_without_a_target(place: Place) -> None:
    place.write()
    place.pytester.makeconftest(OWN)
    place.pytester.makepyfile(test_one="def test_one(): pass")
    run = place.run("-W", "error", target="")
    assert (run.code, run.outcomes) == (0, {"passed": 1})


def test_a_gate_that_asks_for_an_unknown_fixture_is_one_line(place: Place) -> None:
    place.write()
    place.pytester.makeconftest(OWN)
    place.pytester.makepyfile(own=OWN_CODE.replace("(edge_compare)", "(tmp_path)"))
    run = place.run("-k", "cold_start")
    assert (run.code, run.outcomes["failed"]) == (1, 1)
    assert f'linear {CANDIDATE}: gate cold_start: asks for "tmp_path"; allowed: ' in run.text
    assert "Traceback" not in run.text
