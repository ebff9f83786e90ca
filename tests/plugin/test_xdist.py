"""Under pytest-xdist: each gate once, work shared, measuring exclusive, one set of reports."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from edge_runs import GATES, NODE, PASSING, QUICK, Place

pytest.importorskip("xdist")
CRASH = """
import os
import time

def test_crash(edge_candidate):
    os._exit(3)

def test_fine():
    pass
"""
EXCLUSIVE = """
from pytest_edgeai.descriptors import GateDescriptor

def pytest_edgeai_gates():
    return [
        GateDescriptor(
            name, f"alone:test_{name}", f"alone:decide_{name}", "at_least", None, "ratio", name
        )
        for name in ("one", "two", "three")
    ]
"""
EXCLUSIVE_GATES = """
import json
import os
import time
from pathlib import Path

import pytest
from pytest_edgeai.records import Verdict

def deciding(name):
    def decide(bench, candidate, threshold):
        with bench.heavy(name):
            started = time.time()
            time.sleep(0.7)
            held = [started, time.time(), os.getpid()]
        Path(__file__).with_name(f"{name}.json").write_text(json.dumps(held))
        return Verdict(name, "pass", 1.0, None, None, None, "at_least", "ratio", 1, "held it")
    return decide

def testing(name):
    def test(edge_compare):
        edge_compare(name)
    return test

decide_one, decide_two, decide_three = map(deciding, ("one", "two", "three"))
test_one, test_two, test_three = map(testing, ("one", "two", "three"))
"""


def test_two_processes_share_the_work_and_the_controller_reports(place: Place) -> None:
    place.write()
    run = place.run(
        *("-n2", "-v", "--junitxml=junit.xml", "--edge-promote=promoted", "-W", "error"),
        own_cache=True,
    )
    assert (run.code, run.outcomes) == (0, {"passed": PASSING, "skipped": 2})
    for gate in GATES:
        done = [line for line in run.text.splitlines() if line.endswith(f"{NODE}::{gate} ")]
        assert sum(" PASSED " in line or " SKIPPED " in line for line in done) == 1
    assert list(run.verdicts()) == [*GATES]
    assert run.candidate()["promoted"] is True
    assert run.candidate()["artifact"]["from_cache"] is False
    made = [path for path in (place.path / ".edgeai/artifacts").iterdir() if path.is_dir()]
    assert len(made) == 2, "the candidate and the converted model, each made once"
    assert len(list((place.path / ".edgeai/evidence").glob("[!.]*"))) == 1
    cases = list(ElementTree.parse(place.path / "junit.xml").iter("testcase"))
    assert sorted(str(case.get("name")) for case in cases) == sorted(GATES)
    assert all(
        any(p.get("name") == "edge_outcome" for p in case.iter("property")) for case in cases
    )
    pointer = json.loads(
        (place.path / "promoted/linear/cross/onnxruntime-int8-static/current.json").read_text()
    )
    assert pointer["sha256"] == run.candidate()["artifact"]["sha256"]


def test_measuring_is_exclusive_between_processes(place: Place) -> None:
    off = "\n".join(f"{gate} = false" for gate in GATES)
    place.write(f"[gates]\n{off}\n")
    place.pytester.makeconftest(EXCLUSIVE)
    place.pytester.makepyfile(alone=EXCLUSIVE_GATES)
    run = place.run("-n2", "-k", "one or two or three")
    assert (run.code, run.outcomes) == (0, {"passed": 3})
    held = sorted(
        json.loads(Path(place.path / f"{name}.json").read_text())
        for name in ("one", "two", "three")
    )
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(held))
    assert len({process for _, _, process in held}) == 2, "both processes measured"


@pytest.mark.parametrize("mode", ["loadfile", "loadscope", "no", "worksteal"])
def test_ways_of_distribution(place: Place, mode: str) -> None:
    place.write()
    run = place.run("-n2", f"--dist={mode}", "-k", "sanity or precision")
    assert run.code == 0
    assert run.verdicts() == {"output_sanity": "pass", "precision_proof": "pass"}


def test_a_process_that_crashes_fails_its_test_and_blocks_nothing_else(place: Place) -> None:
    place.write()
    place.pytester.makepyfile(test_crash=CRASH)
    run = place.run(
        *("-n2", "test_crash.py", "edgeai.toml", "-k", "crash or fine or sanity", "-v"),
        "--edge-promote=promoted",
    )
    assert run.code == 1
    assert run.verdicts() == {"output_sanity": "pass"}
    assert "crashed while running" in run.text
    assert run.candidate()["promoted"] is False


def test_known_failures_are_expected_and_never_promoted(place: Place) -> None:
    known = '\n[[known_failures]]\nmodel = "linear"\ngate = "speedup"\nreason = "tiny model"\n'
    place.write(QUICK.replace("speedup = 0.01", "speedup = 1000") + known)
    run = place.run("-n2", "-k", "speedup or sanity")
    assert (run.code, run.outcomes) == (0, {"passed": 1, "xfailed": 1})
    assert run.verdicts() == {"speedup": "fail", "output_sanity": "pass"}
    assert "speedup" in run.candidate()["promotion_blocked_by"]
