"""The gates of a long and a rough life as a user runs them: endurance and recovery."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_runs import CANDIDATE, Place, Run
from models import require

from pytest_edgeai.digests import digest_files

BOTH = '[production]\nrequired = ["endurance", "recovery"]\n'
NAMES = ("endurance", "recovery")
SHORT = "--edge-budget=4"

FRAMEWORK = '''
"""ONNX Runtime whose candidates leave something behind, or believe any file."""

import shutil

import numpy as np

from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.optimize.frameworks.base import OptimizeResult
from pytest_edgeai.optimize.frameworks.onnxruntime import OnnxRuntime


class Garbage:
    """Answers whatever the file holds."""

    def __init__(self, model, content):
        self.inputs, self.outputs = model.inputs, model.outputs
        self.run_whole, self.bind, self.close = model.run, model.bind, model.close
        self.seed = len(content)

    def run(self, feeds):
        answers = self.run_whole(feeds)
        drawn = np.random.default_rng(self.seed)
        return {k: drawn.normal(size=v.shape).astype(v.dtype) for k, v in answers.items()}


class Rough(OnnxRuntime):
    def optimize(self, request, progress):
        path = request.output / "model.onnx"
        shutil.copy(request.source, path)
        shutil.copy(request.source, request.output / "spare.bin")
        return OptimizeResult(path)

    def load(self, path, runtime):
        try:
            model = super().load(path, runtime)
        except EdgeAIError:
            spare = path.with_name("spare.bin")
            return Garbage(super().load(spare, runtime), path.read_bytes())
        bind, held = model.bind, []

        def bind_and_keep(feeds):
            call = bind(feeds)

            def calls():
                held.append(bytes(120))
                return call()

            return calls

        model.bind = bind_and_keep
        return model
'''
CONFTEST = """
from dataclasses import replace

from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS


def pytest_edgeai_frameworks():
    return [
        replace(
            FRAMEWORKS["onnxruntime"],
            name="rough",
            implementation="rough:Rough",
            schemes={"convert": "float32", "copy": "float32"},
            options={},
        )
    ]
"""
RECIPE = '\n[[models.linear.recipes]]\nframework = "rough"\nscheme = "copy"\n'


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require("onnxruntime", "onnx")


def verdict(run: Run, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(g for g in run.candidate()["gates"] if g["name"] == name)
    return found


def evidence(run: Run) -> Path:
    return Path(run.report["evidence"]["directory"]) / "linear" / CANDIDATE


def test_a_healthy_model_passes_both(place: Place) -> None:
    place.write(BOTH)
    run = place.run("-k", "endurance or recovery", SHORT)
    endurance, recovery = (verdict(run, name) for name in NAMES)
    # A machine that is too busy to tell how fast a model is may leave that undecided.
    assert endurance["outcome"] in ("pass", "inconclusive"), endurance["reason"]
    assert endurance["details"]["parts"]["memory"]["outcome"] == "pass"
    assert recovery["outcome"] == "pass", recovery["reason"]
    assert (endurance["unit"], recovery["unit"]) == ("bytes", "s")
    assert "thermal" in json.dumps(endurance["details"]["parts"])
    with np.load(evidence(run) / "endurance.npz") as arrays:
        assert len(arrays["candidate_memory_bytes"]) == len(arrays["candidate_wall_ns"]) + 1
        assert arrays["candidate_descriptors"].shape == arrays["candidate_memory_bytes"].shape
    with np.load(evidence(run) / "endurance-spike.npz") as arrays:
        assert len(arrays["candidate_wall_ns"]) == len(arrays["ended_s"])
    staged = json.loads((evidence(run) / "recovery.json").read_text("utf-8"))
    assert staged["scenarios"][0]["name"] == "killed under load"
    made = json.loads((evidence(run) / "artifact.json").read_text("utf-8"))
    files = [Path(file) for file in made["files"]]
    assert digest_files(files, Path(made["path"]).parent) == made["sha256"]


def test_a_leak_and_garbage_from_a_damaged_file_are_found(place: Place) -> None:
    manifest = place.write(BOTH)
    manifest.write_text(manifest.read_text("utf-8") + RECIPE, "utf-8")
    (place.path / "rough.py").write_text(FRAMEWORK, "utf-8")
    (place.path / "conftest.py").write_text(CONFTEST, "utf-8")
    options = ("--edge-framework=rough", "-k", "endurance or recovery", SHORT)
    run = place.run(*options, own_cache=True)
    endurance, recovery = (verdict(run, name) for name in NAMES)
    assert endurance["outcome"] == "fail", endurance["reason"]
    assert endurance["details"]["parts"]["memory"]["outcome"] == "fail"
    assert endurance["observed"] > 100_000
    assert recovery["outcome"] == "fail", recovery["reason"]
    assert "a wrong answer was served; cut in half" in recovery["reason"]
    assert run.outcomes["failed"] == 2


def test_switched_off_they_do_not_exist(place: Place) -> None:
    place.write("")
    run = place.run("--collect-only", "-q")
    assert not [name for name in NAMES if f"::{name}" in run.text]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("endurance = 0", "[gates] endurance"),
        ('endurance_recovery_s = "10"', "endurance_recovery_s"),
    ],
)
def test_bad_input_is_one_line(place: Place, text: str, said: str) -> None:
    place.write(f"[gates]\n{text}\n{BOTH}")
    run = place.run()
    whole = run.text + run.result.stderr.str()
    assert run.code == 4, whole
    assert said in whole
    assert "Traceback" not in whole
