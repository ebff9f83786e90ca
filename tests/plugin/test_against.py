"""``--edge-against``: a candidate is compared with a promoted one, which is measured anew."""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_runs import CANDIDATE, GATES, QUICK, Place, Run

jsonschema = pytest.importorskip("jsonschema")
PROMOTE = "--edge-promote=promoted"
LAST = "--edge-against=last"
EASY = QUICK + "no_slower = 0.01\nno_less_accurate = 0.5\n"
DYNAMIC = """
[[models.linear.recipes]]
framework = "onnxruntime"
scheme = "int8-dynamic"
"""
MODES = ("no_slower", "no_less_accurate")
ONLY_MODES = ("-k", "no_slower or no_less")


@pytest.fixture
def promoted(place: Place) -> Run:
    """A project whose candidate was promoted in an earlier session."""
    place.write(EASY)
    run = place.run(PROMOTE, own_cache=True)
    assert run.code == 0
    assert run.candidate()["promoted"]
    return run


def gate(run: Run, name: str) -> dict[str, Any]:
    """Return a verdict of the first candidate."""
    found: dict[str, Any] = next(g for g in run.candidate()["gates"] if g["name"] == name)
    return found


def bundle_of(place: Place) -> Path:
    """Return what the first session promoted."""
    home = place.path / f"promoted/linear/cross/{CANDIDATE}"
    (bundle,) = [path for path in home.iterdir() if path.is_dir()]
    return bundle


def execute(place: Place, statement: str, *values: str) -> None:
    """Change the history."""
    history = place.path / ".edgeai/history.sqlite3"
    with contextlib.closing(sqlite3.connect(history)) as connection, connection:
        connection.execute(statement, values)


def test_the_promoted_artifact_is_measured_anew_beside_the_candidate(
    place: Place, promoted: Run
) -> None:
    sha256 = promoted.candidate()["artifact"]["sha256"]
    place.write(EASY + DYNAMIC)
    run = place.run(PROMOTE, LAST, own_cache=True)
    assert run.code == 0, run.text
    assert list(run.verdicts()) == [*GATES, *MODES]
    assert {run.verdicts()[name] for name in MODES} == {"pass"}
    assert run.candidate()["required_gates"] == [*GATES, *MODES]
    assert run.candidate()["promoted"] is True
    schema = importlib.resources.files("pytest_edgeai.report").joinpath("schema-1.json")
    jsonschema.validate(run.report, json.loads(schema.read_text("utf-8")))
    (row,) = [line.split() for line in run.text.splitlines() if "no_less_accurate  " in line]
    assert row[-4:] == [">", "50%", "[1]", "pass"]
    for name in MODES:
        verdict = gate(run, name)
        assert verdict["details"]["reference"]["artifact_sha256"] == sha256
        assert verdict["details"]["reference"]["candidate"] == CANDIDATE
        assert f"compared with {CANDIDATE}, promoted" in verdict["reason"]
        assert "measured anew here" in verdict["reason"]
        assert "baseline" not in verdict["reason"]
    evidence = Path(run.report["evidence"]["directory"]) / "linear/onnxruntime-int8-dynamic"
    with np.load(evidence / f"against-{sha256[:12]}/timings.npz") as timings:
        assert len(timings["baseline_wall_ns"]) == gate(run, "no_slower")["samples"] >= 30
        with np.load(evidence / "timings.npz") as usual:
            assert not np.array_equal(usual["baseline_wall_ns"], timings["baseline_wall_ns"])
    with np.load(evidence / f"against-{sha256[:12]}/quality.npz") as scores:
        details = gate(run, "no_less_accurate")["details"]
        assert details["baseline_metric"] == scores["baseline_scores"].mean()
        assert details["candidate_metric"] == scores["candidate_scores"].mean()


def test_the_promoted_artifact_itself_has_nothing_to_be_compared_with(
    place: Place, promoted: Run
) -> None:
    run = place.run(PROMOTE, LAST, own_cache=True)
    assert run.code == 0
    assert {run.verdicts()[name] for name in MODES} == {"not_applicable"}
    assert "byte for byte" in gate(run, "no_slower")["reason"]
    assert run.candidate()["promoted"] is True


def test_a_loss_that_the_baseline_shares_is_found(place: Place, promoted: Run) -> None:
    """A worse model passes every gate against itself; only its predecessor shows the loss."""
    onnx = pytest.importorskip("onnx")
    path = place.path / place.linear.model.name
    model = onnx.load(path)
    head = max(model.graph.initializer, key=lambda each: each.name.startswith("head"))
    weights = onnx.numpy_helper.to_array(head)
    worse = np.roll(weights, 1, axis=-1)
    head.CopyFrom(onnx.numpy_helper.from_array(worse, head.name))
    onnx.save(model, path)
    run = place.run(LAST, "-k", "accuracy_retained or no_less", own_cache=True)
    assert run.code == 1
    assert run.verdicts()["no_less_accurate"] == "fail", run.text
    assert gate(run, "no_less_accurate")["observed"] < 0.5


def test_a_slower_candidate_fails_and_is_not_promoted(place: Place, promoted: Run) -> None:
    pytest.importorskip("xdist", reason="pip install pytest-xdist")
    place.write(EASY + DYNAMIC)
    run = place.run(PROMOTE, LAST, "--edge-threshold=no_slower=1000", "-n2", own_cache=True)
    assert run.code == 1
    assert run.verdicts()["no_slower"] == "fail"
    assert "the promoted artifact's speed" in gate(run, "no_slower")["reason"]
    assert run.candidate()["promoted"] is False
    assert run.candidate()["promotion_blocked_by"] == ["no_slower"]


@pytest.mark.parametrize("choice", ["last", "best"])
def test_nothing_was_promoted_before(place: Place, choice: str) -> None:
    place.write(EASY)
    run = place.run(f"--edge-against={choice}", *ONLY_MODES, own_cache=True)
    assert (run.code, run.verdicts()) == (1, dict.fromkeys(MODES, "error"))
    assert "no promoted candidate of linear for cross" in gate(run, "no_slower")["reason"]
    assert "without --edge-against" in gate(run, "no_slower")["reason"]


def test_an_artifact_that_is_gone_or_changed_is_an_error(place: Place, promoted: Run) -> None:
    place.write(EASY + DYNAMIC)
    for file in (bundle_of(place) / "artifact").iterdir():
        file.write_bytes(file.read_bytes() + b"\0")
    found = place.run(LAST, *ONLY_MODES, own_cache=True)
    assert (found.code, found.verdicts()) == (0, dict.fromkeys(MODES, "pass")), "in the cache"
    shutil.rmtree(place.path / ".edgeai/artifacts")
    changed = place.run(LAST, *ONLY_MODES, own_cache=True)
    assert (changed.code, changed.verdicts()) == (1, dict.fromkeys(MODES, "error"))
    assert "is not what was promoted: its digest is" in gate(changed, "no_slower")["reason"]
    shutil.rmtree(place.path / "promoted")
    gone = place.run(LAST, *ONLY_MODES, own_cache=True)
    assert gone.verdicts() == dict.fromkeys(MODES, "error")
    [note] = [note for note in gone.report["notes"] if "--edge-against cannot be judged" in note]
    assert "is gone: looked for" in note
    before, told, _ = gone.text.partition("cannot be judged: ")
    assert told
    assert "looking for the artifact" not in before
    assert "is gone: looked for" in gate(gone, "no_slower")["reason"]


def test_a_report_names_its_candidate_wherever_the_cache_is(place: Place, promoted: Run) -> None:
    place.write(EASY + DYNAMIC)
    shutil.rmtree(place.path / ".edgeai")
    (report,) = bundle_of(place).glob("reports/*/report.json")
    run = place.run(f"--edge-against={report}", *ONLY_MODES, own_cache=True)
    assert (run.code, run.verdicts()) == (0, dict.fromkeys(MODES, "pass"))
    content = json.loads(report.read_text("utf-8"))
    content["models"][0]["candidates"][0]["promoted"] = False
    other = place.path / "other.json"
    other.write_text(json.dumps(content), "utf-8")
    none = place.run(f"--edge-against={other}", *ONLY_MODES, own_cache=True)
    assert none.verdicts() == dict.fromkeys(MODES, "error")
    assert "promotes no candidate of linear for cross" in gate(none, "no_slower")["reason"]


def test_figures_of_another_host_choose_nothing_and_are_named(place: Place, promoted: Run) -> None:
    place.write(EASY + DYNAMIC)
    best = place.run("--edge-against=best", *ONLY_MODES, own_cache=True)
    assert (best.code, best.verdicts()) == (0, dict.fromkeys(MODES, "pass"))
    execute(place, "UPDATE hosts SET facts = json_set(facts, '$.cpu_model', 'Another CPU')")
    refused = place.run("--edge-against=best", *ONLY_MODES, own_cache=True)
    assert refused.verdicts() == dict.fromkeys(MODES, "error")
    assert "CPU Another CPU instead of" in gate(refused, "no_slower")["reason"]
    across = place.run("--edge-against=best", "--edge-across=host", *ONLY_MODES, own_cache=True)
    assert across.verdicts() == dict.fromkeys(MODES, "pass")
    last = place.run(LAST, *ONLY_MODES, own_cache=True)
    assert (last.code, last.verdicts()) == (0, dict.fromkeys(MODES, "pass"))
    assert "its own figures do not count: CPU Another CPU" in gate(last, "no_slower")["reason"]
    execute(place, "UPDATE gates SET framework = 'forgotten' WHERE promoted")
    lost = place.run(LAST, *ONLY_MODES, own_cache=True)
    assert lost.verdicts() == dict.fromkeys(MODES, "error")
    assert "forgotten is not part of this installation" in gate(lost, "no_slower")["reason"]


def test_another_thread_count_is_measured_anew_and_named(place: Place, promoted: Run) -> None:
    place.write(EASY + DYNAMIC)
    wide = "--edge-threads=2", *ONLY_MODES
    refused = place.run("--edge-against=best", *wide, own_cache=True)
    assert refused.verdicts() == dict.fromkeys(MODES, "error")
    assert "threads 1 instead of 2" in gate(refused, "no_slower")["reason"]
    last = place.run(LAST, *wide, own_cache=True)
    assert last.verdicts()["no_less_accurate"] == "pass"
    assert "do not count: threads 1 instead of 2" in gate(last, "no_less_accurate")["reason"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "No such file"), ("{", "cannot be used"), ('{"schema": "x"}', "is no report of")],
)
def test_a_report_that_cannot_be_used_is_one_line(
    place: Place, content: str | None, problem: str
) -> None:
    place.write(EASY)
    if content is not None:
        (place.path / "old.json").write_text(content, "utf-8")
    run = place.run("--edge-against=old.json", own_cache=True)
    assert run.code == pytest.ExitCode.USAGE_ERROR
    error = run.result.stderr.str()
    assert problem in error
    assert "--edge-against" in error
    assert "Traceback" not in error


def test_without_the_option_the_gates_are_not_there(place: Place) -> None:
    place.write(EASY)
    run = place.run("--pyargs", "pytest_edgeai.gates", *ONLY_MODES, "-rs")
    assert (run.code, run.outcomes["skipped"]) == (0, 2)
    assert "which --edge-against names" in " ".join(run.text.split())
    listed = place.run("edgeai.toml", "--collect-only", "-q")
    assert "no_slower" not in listed.text
