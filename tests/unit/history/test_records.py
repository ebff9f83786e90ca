"""What is comparable, and which rows a report leaves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pytest_edgeai.history.records import (
    Environment,
    candidate_key,
    differences,
    host_identity,
    rows_of,
)
from pytest_edgeai.records import Accelerator, Artifact, HostFacts, Recipe, Verdict, to_json
from pytest_edgeai.report.content import CandidateReport, ModelReport, Report

HOST = HostFacts("box", "Linux 6.1", "x86_64", "V", "CPU A", 2, 8 * 2**30, ("avx2",), "", {})


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"cpu_model": "CPU B"}, "CPU CPU B instead of CPU A"),
        ({"logical_cores": 4}, "cores 4 instead of 2"),
        ({"system": "Linux 6.2"}, "system Linux 6.2 instead of Linux 6.1"),
        ({"simd": ()}, "SIMD features none instead of avx2"),
        ({"memory_bytes": None}, "memory in GiB unknown instead of 8"),
        ({"power_source": "battery"}, "power source battery instead of unknown"),
        (
            {"accelerators": (Accelerator("gpu", "V", "GPU 7", None, "here"),)},
            "accelerators GPU 7 instead of none",
        ),
    ],
)
def test_another_host_is_not_comparable_and_the_difference_is_named(
    changes: dict[str, Any], phrase: str
) -> None:
    here = Environment(host_identity(to_json(HOST)), {}, 1)
    there = Environment(host_identity(to_json(dataclasses.replace(HOST, **changes))), {}, 1)
    assert differences(here, there) == (phrase,)
    assert here.key() != there.key()


def test_a_new_name_and_a_few_pages_of_memory_make_no_other_host() -> None:
    other = dataclasses.replace(
        HOST, hostname="container-7", memory_bytes=8 * 2**30 - 2**20, battery_percent=3
    )
    here, there = (Environment(host_identity(to_json(host)), {}, 1) for host in (HOST, other))
    assert differences(here, there) == ()
    assert here.key() == there.key()


def test_tools_and_threads_count(environment: Environment) -> None:
    there = Environment(environment.host, {"onnxruntime": "1.30.0", "nncf": "2"}, 2)
    assert differences(environment, there) == (
        "nncf 2 instead of absent",
        "onnxruntime 1.30.0 instead of 1.31.1",
        "python absent instead of 3.11.7",
        "threads 2 instead of 1",
    )
    keys = {
        each.key() for each in (environment, there, dataclasses.replace(environment, threads=2))
    }
    assert len(keys) == 3


def test_a_report_leaves_one_row_per_decided_gate(environment: Environment) -> None:
    verdict = Verdict(
        "speedup", "pass", 3.0, (2.5, None), 0.95, 2.0, "at_least", "ratio", 40, "fast"
    )
    unseen = Verdict("memory_cut", "error", None, None, None, 0.5, "at_least", "ratio", 0, "no")
    path = Path("/cache/x/model.onnx")
    artifact = Artifact(path, (path,), "f", "int8", "aa" * 32, 9, "key", False, 1.0, {})
    gates = ("speedup", "memory_cut", "precision_proof")
    made = CandidateReport(
        "f-s", "cross", Recipe("f", "s"), artifact, (), (verdict, unseen), gates, True, ()
    )
    failed = CandidateReport(
        "g-s", "cross", Recipe("g", "s"), None, (), (unseen,), gates, False, ()
    )
    idle = dataclasses.replace(failed, id="h-s", verdicts=())
    model = ModelReport("digits", "d1" * 32, "t", "f", Path("m"), None, (made, failed, idle))
    report = Report(
        "2026-11-21T10:00:00+00:00", "1", (), (), {}, (model,), Path("/cache/evidence/r1"), "e"
    )
    bundle = Path("/promoted/digits")
    rows = rows_of(
        report,
        "r1",
        {candidate_key(model, each): environment for each in (made, failed, idle)},
        report_path=Path("/out/report.json"),
        bundles={candidate_key(model, made): bundle},
    )
    assert [(row.candidate, row.gate) for row in rows] == [
        ("f-s", "speedup"),
        ("f-s", "memory_cut"),
        ("g-s", "memory_cut"),
    ]
    first, second, third = rows
    assert (first.observed, first.interval, first.threshold) == (3.0, (2.5, None), 2.0)
    assert (first.promoted, first.bundle) == (True, "/promoted/digits")
    assert (first.artifact_sha256, first.artifact_path) == ("aa" * 32, "/cache/x/model.onnx")
    assert (first.report, first.evidence) == ("/out/report.json", "/cache/evidence/r1")
    assert (second.outcome, second.observed, second.interval) == ("error", None, (None, None))
    assert (third.promoted, third.bundle, third.artifact_sha256) == (False, "", "")
