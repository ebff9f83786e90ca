"""A candidate is promoted only if every gate of it ran and passed in this very session."""

from __future__ import annotations

import json

import pytest
from edge_runs import CANDIDATE, GATES, PASSING, QUICK, Place, Run

HOME = f"promoted/linear/cross/{CANDIDATE}"
PROMOTE = "--edge-promote=promoted"
FAILING = QUICK.replace("speedup = 0.01", "speedup = 1000")
KNOWN = '\n[[known_failures]]\nmodel = "linear"\ngate = "speedup"\nreason = "tiny model"\n'
PROXY = """
from pytest_edgeai.descriptors import TargetDescriptor

def pytest_edgeai_targets():
    return [TargetDescriptor("cross", "a chip that nobody has", ("onnxruntime",),
                             host_architectures=("none",))]
"""
UNSURE = """
import dataclasses

from pytest_edgeai.shipped import GATES

def pytest_edgeai_gates():
    return [dataclasses.replace(GATES["output_sanity"], decide="unsure:decide")]
"""
UNSURE_GATE = """
from pytest_edgeai.records import Verdict

def decide(bench, candidate, threshold):
    return Verdict("output_sanity", "inconclusive", None, None, None, None, "at_most", "faults", 3,
                   "three samples say nothing")
"""


def promoted(place: Place, run: Run) -> bool:
    """Return whether the run promoted; the report and the directory must agree."""
    said = run.candidate()["promoted"]
    assert said is (place.path / HOME / "current.json").exists()
    assert said is ("was promoted" in run.text)
    return bool(said)


def test_every_gate_passed(place: Place) -> None:
    place.write()
    run = place.run(PROMOTE)
    assert run.code == 0
    assert promoted(place, run)
    current = json.loads((place.path / HOME / "current.json").read_text("utf-8"))
    bundle = place.path / HOME / current["bundle"]
    content = json.loads((bundle / "bundle.json").read_text("utf-8"))
    assert content["artifact"]["sha256"] == run.candidate()["artifact"]["sha256"]
    assert (bundle / "artifact" / content["artifact"]["main"]).is_file()
    reports = {file.name for file in (bundle / "reports" / current["report"]).iterdir()}
    assert reports == {"report.json", "report.md", "junit.xml"}
    again = place.run(PROMOTE)
    assert again.code == 0
    assert promoted(place, again)
    bundles = [path for path in (place.path / HOME).iterdir() if path.is_dir()]
    assert bundles == [bundle], "the same artifact is promoted into the same bundle"
    assert len(list((bundle / "reports").iterdir())) == 2


@pytest.mark.parametrize(
    "selection",
    [["-k", "not precision"], ["--deselect", f"edgeai.toml::linear::{CANDIDATE}::speedup"]],
)
def test_a_gate_that_was_not_selected_blocks(place: Place, selection: list[str]) -> None:
    place.write()
    run = place.run(PROMOTE, *selection)
    assert run.code == 0
    assert not promoted(place, run)


def test_a_failed_gate_blocks_and_so_does_what_was_not_run_again(place: Place) -> None:
    place.write(FAILING)
    run = place.run(PROMOTE)
    assert run.code == 1
    assert not promoted(place, run)
    assert run.candidate()["promotion_blocked_by"] == ["speedup"]
    place.write()
    last_failed = place.run(PROMOTE, "--lf")
    assert (last_failed.code, last_failed.verdicts()) == (0, {"speedup": "pass"})
    assert not promoted(place, last_failed)


def test_stopping_early_blocks(place: Place) -> None:
    place.write(FAILING)
    run = place.run(PROMOTE, "--maxfail=1")
    assert not promoted(place, run)
    assert run.candidate()["promotion_blocked_by"] == [*GATES[GATES.index("speedup") :]]


def test_a_known_failure_is_no_pass(place: Place) -> None:
    place.write(FAILING + KNOWN)
    run = place.run(PROMOTE)
    assert (run.code, run.outcomes) == (0, {"passed": PASSING - 1, "skipped": 2, "xfailed": 1})
    assert not promoted(place, run)


def test_a_known_failure_that_passes_is_a_failure(place: Place) -> None:
    place.write(QUICK + KNOWN)
    run = place.run(PROMOTE)
    assert (run.code, run.outcomes["failed"]) == (1, 1)
    assert "tiny model" in run.text


@pytest.mark.parametrize(("choice", "code"), [("fail", 1), ("skip", 0)])
def test_an_inconclusive_gate_blocks_whatever_its_test_does(
    place: Place, choice: str, code: int
) -> None:
    place.write()
    place.pytester.makeconftest(UNSURE)
    place.pytester.makepyfile(unsure=UNSURE_GATE)
    run = place.run(PROMOTE, f"--edge-inconclusive={choice}")
    assert run.code == code
    assert run.verdicts()["output_sanity"] == "inconclusive"
    assert not promoted(place, run)
    assert run.candidate()["promotion_blocked_by"] == ["output_sanity"]


def test_a_proxy_needs_to_be_accepted(place: Place) -> None:
    place.write()
    place.pytester.makeconftest(PROXY)
    run = place.run(PROMOTE)
    assert run.code == 0
    assert {run.verdicts()[gate] for gate in ("speedup", "latency_consistency")} == {"proxy"}
    assert run.verdicts()["output_sanity"] == "pass"
    assert run.text.count("this host is a proxy for cross: its architecture is") == 1
    assert "this host is no" not in run.text
    assert not promoted(place, run)
    accepted = place.run(PROMOTE, "--edge-allow-proxy")
    assert accepted.code == 0
    assert promoted(place, accepted)
    assert accepted.report["host"]["proxy"] is True


def test_a_failure_on_an_accepted_proxy_fails(place: Place) -> None:
    place.write(FAILING)
    place.pytester.makeconftest(PROXY)
    assert place.run("-k", "speedup").outcomes == {"skipped": 1, "deselected": len(GATES) - 1}
    accepted = place.run(PROMOTE, "--edge-allow-proxy", "-k", "speedup")
    assert (accepted.code, accepted.verdicts()) == (1, {"speedup": "fail"})
    assert "measured on a proxy" in accepted.candidate()["gates"][0]["reason"]


def test_an_artifact_that_changed_since_it_was_measured_is_refused(place: Place) -> None:
    place.write()
    place.pytester.makepyfile(
        test_last="""
        def test_change(edge_candidate):
            path = edge_candidate.artifact.path
            path.write_bytes(path.read_bytes() + b"\\0")
        """
    )
    run = place.run(PROMOTE, "edgeai.toml", "test_last.py", own_cache=True)
    assert run.code == pytest.ExitCode.USAGE_ERROR
    assert run.outcomes["passed"] == PASSING + 1
    assert not promoted(place, run)
    assert "changed after it was measured" in run.text
    assert list((place.path / HOME).glob("[!.]*")) == []


def test_a_limit_that_a_test_sets_for_itself_decides_no_promotion(place: Place) -> None:
    place.write(FAILING)
    place.pytester.makepyfile(
        test_own="""
        def test_own(edge_compare):
            edge_compare("speedup", at_least=0.001)
        """
    )
    run = place.run(PROMOTE, "test_own.py", "edgeai.toml")
    assert run.outcomes == {"passed": PASSING, "failed": 1, "skipped": 2}
    assert run.verdicts()["speedup"] == "fail"
    assert not promoted(place, run)


def test_a_place_that_is_taken_is_told(place: Place) -> None:
    place.write()
    (place.path / "promoted").mkdir()
    (place.path / "promoted" / "linear").write_text("a file")
    run = place.run(PROMOTE)
    assert run.code == pytest.ExitCode.USAGE_ERROR
    assert run.candidate()["promoted"] is False
    assert f"ERROR: linear {CANDIDATE} was not promoted: " in run.text
    assert "Traceback" not in run.text
