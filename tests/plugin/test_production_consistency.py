"""The gates ``consistency`` and ``framework_agreement``, as a user runs them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import venv
from pathlib import Path
from typing import Any

import numpy as np
import planted_answers
import pytest
from edge_runs import Place, Run
from models import require, string_output, tiny_transformer

with_openvino = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("openvino", "nncf")),
    reason="openvino is not installed; run: pip install 'pytest-edgeai[intel]'",
)
ONLY = "consistency and not latency_consistency"
FAULTS = ("convert", "healthy", "by-call", "by-threads", "by-process", "by-position", "nan-later")
CONSISTENCY = '[production]\nrequired = ["consistency"]\n'
AGREEMENT = '[production]\nrequired = ["framework_agreement"]\n'


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require("onnxruntime", "onnx")


def recipe(scheme: str, framework: str = "planted", model: str = "linear") -> str:
    return f'[[models.{model}.recipes]]\nframework = "{framework}"\nscheme = "{scheme}"\n'


@pytest.fixture
def planted(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A project whose conftest adds the framework with the planted faults."""
    shutil.copy(planted_answers.__file__, place.path / "planted_answers.py")
    (place.path / "conftest.py").write_text(planted_answers.HOOK % (FAULTS,), "utf-8")
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(place.path), *([inherited] if inherited else [])])
    monkeypatch.setenv("PYTHONPATH", path)
    return place


def verdict(run: Run, name: str, index: int = 0) -> dict[str, Any]:
    gates = run.candidate(index)["gates"]
    found: dict[str, Any] = next(gate for gate in gates if gate["name"] == name)
    return found


def test_every_planted_fault_is_found_and_its_condition_named(planted: Place) -> None:
    words = {
        "by-call": "in another order",
        "by-threads": "with 2 threads",
        "by-process": "in a fresh process",
        "by-position": "batches of 3",
        "nan-later": "is not a number",
    }
    planted.write(CONSISTENCY + "".join(recipe(fault) for fault in words))
    run = planted.run("--edge-framework=planted", "-k", ONLY)
    assert run.code == 1, run.text
    for index, (fault, condition) in enumerate(words.items()):
        found = verdict(run, "consistency", index)
        assert run.candidate(index)["id"] == f"planted-{fault}"
        assert found["outcome"] == "fail", fault
        assert condition in found["reason"]
    assert "Traceback" not in run.text


def test_healthy_candidates_pass_and_the_evidence_is_kept(planted: Place) -> None:
    recipes = recipe("healthy") + recipe("int8-static", "onnxruntime")
    recipes += recipe("int8-dynamic", "onnxruntime")
    planted.write(CONSISTENCY + recipes)
    run = planted.run("--edge-framework=planted,onnxruntime", "-k", ONLY)
    assert run.code == 0, run.text
    assert [run.verdicts(index)["consistency"] for index in range(3)] == ["pass"] * 3
    reasons = [verdict(run, "consistency", index)["reason"] for index in range(3)]
    assert all("repeats, batch sizes, a reload, thread counts" in reason for reason in reasons)
    assert "rounding explains" in " ".join(reasons)
    folder = Path(run.report["evidence"]["directory"]) / "linear" / "onnxruntime-int8-dynamic"
    with np.load(folder / "consistency.npz") as arrays:
        assert {name.partition(".")[0] for name in arrays.files} == {"candidate", "baseline"}
        assert all(array.shape == (64,) for array in arrays.values())
    record = json.loads((folder / "consistency.json").read_text("utf-8"))
    assert record["computes_scales"]
    assert {each["kind"] for each in record["candidate"]} == {
        "repeat",
        "reload",
        "batch",
        "threads",
    }


@with_openvino
def test_openvino_gives_the_same_answers(place: Place, tmp_path: Path) -> None:
    place.write(CONSISTENCY, models=(tiny_transformer(tmp_path),))
    run = place.run("--edge-framework=openvino", "-k", ONLY)
    assert (run.code, run.verdicts()) == (0, {"consistency": "pass"}), run.text


def test_without_a_table_of_production_the_gates_are_not_collected(place: Place) -> None:
    place.write("")
    run = place.run("--collect-only", "-q")
    assert "::consistency" not in run.text
    assert "::framework_agreement" not in run.text
    assert "::shadow" not in run.text


def test_a_limit_below_zero_is_one_line(place: Place) -> None:
    place.write(CONSISTENCY + "[gates]\nconsistency = -1\n")
    run = place.run("-k", ONLY)
    text = " ".join((run.text + run.result.stderr.str()).split())
    assert run.code == 4
    assert "[gates] consistency" in text
    assert "Traceback" not in text


INDEPENDENT = planted_answers.HOOK.replace('("onnxruntime",)', '("numpy",)')
"""The planted framework as one with a runtime of its own."""


@with_openvino
def test_openvino_agrees_with_onnx_runtime_on_the_unoptimized_model(place: Place) -> None:
    place.write(AGREEMENT)
    run = place.run("--edge-framework=onnxruntime", "-k", "framework_agreement")
    found = verdict(run, "framework_agreement")
    assert (run.code, found["outcome"], found["observed"]) == (0, "pass", 1.0), run.text
    assert "onnxruntime and openvino answer 100.0% of 300 samples alike" in found["reason"]
    folder = Path(run.report["evidence"]["directory"]) / "linear" / "onnxruntime-int8-static"
    with np.load(folder / "framework_agreement.npz") as arrays:
        assert arrays["openvino.agrees"].all()
        assert arrays["openvino.logits"].max() < 1e-4
        assert len(arrays["sample"]) == 300


def test_a_framework_that_answers_otherwise_is_found(planted: Place) -> None:
    hook = INDEPENDENT % (("convert", "by-position", "healthy"),)
    hook = hook.replace("planted_answers:Planted", "planted_answers:PlantedEverywhere")
    (planted.path / "conftest.py").write_text(hook, "utf-8")
    planted.write(AGREEMENT + recipe("healthy"))
    run = planted.run("--edge-framework=planted", "-k", "framework_agreement")
    found = verdict(run, "framework_agreement")
    assert (run.code, found["outcome"]) == (1, "fail"), run.text
    assert "onnxruntime and planted answer" in found["reason"]


def test_a_model_that_one_framework_alone_can_run_is_not_judged(
    place: Place, tmp_path: Path
) -> None:
    place.write(AGREEMENT, models=(string_output(tmp_path),))
    run = place.run("--edge-framework=onnxruntime", "-k", "framework_agreement")
    found = verdict(run, "framework_agreement")
    assert found["outcome"] == "not_applicable"
    assert "does not know the operator LabelEncoder" in found["reason"]


def test_frameworks_that_are_not_installed_are_named_with_their_command(
    place: Place, tmp_path: Path
) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name != "nt")
    folder, name = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    bare = json.dumps(str(tmp_path / "bare" / folder / name))
    place.write(f"{AGREEMENT}[frameworks.openvino]\npython = {bare}\n")
    run = place.run("--edge-framework=onnxruntime", "-k", "framework_agreement")
    found = verdict(run, "framework_agreement")
    assert found["outcome"] == "inconclusive", run.text
    assert "not certified: of the frameworks that can run this model only" in found["reason"]
    assert 'openvino: run pip install "pytest-edgeai[intel]"' in found["advice"]
