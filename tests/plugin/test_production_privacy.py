"""Production gates of privacy, end to end: planted faults are found and healthy models pass."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from edge_runs import Place, Run
from models import require

from pytest_edgeai.promote.verification import POINTER

UNTIMED = """
[gates]
speedup = false
latency_consistency = false
latency_tail = false
latency_drift = false
memory_growth = false
memory_cut = false
no_network_watch_s = 0.5
"""
NETWORKED = """
from pytest_edgeai.descriptors import FrameworkDescriptor


def pytest_edgeai_frameworks():
    return [
        FrameworkDescriptor(
            name="planted",
            implementation="planted_frameworks:{implementation}",
            install="pip install planted",
            distributions=("onnxruntime",),
            formats=("onnx",),
            schemes={{"convert": "float32", "as-is": "float32"}},
        )
    ]
"""
PLANTED = '''
"""ONNX Runtime with a fault."""

import ctypes
import shutil
import socket
import struct

import numpy as np

from pytest_edgeai.optimize.frameworks.base import OptimizeResult
from pytest_edgeai.optimize.frameworks.onnxruntime import OnnxRuntime

TRAINED_ON = "{members}"


def phone_home():
    address = struct.pack("=HH4s8x", 2, socket.htons(443), socket.inet_aton("198.51.100.7"))
    library = ctypes.CDLL(None)
    library.connect(library.socket(2, 1, 0), address, 16)


class Copies(OnnxRuntime):
    def optimize(self, request, progress):
        path = request.output / "model.onnx"
        shutil.copy(request.source, path)
        return OptimizeResult(path)


class Phones(Copies):
    def load(self, path, runtime):
        phone_home()
        return super().load(path, runtime)


class Keeps(Copies):
    """Keeps calibration samples and where it worked in a file beside the model."""

    def optimize(self, request, progress):
        made = super().optimize(request, progress)
        first = next(iter(request.calibration))["features"]
        (request.output / "cache.bin").write_bytes(b"xyz" + np.asarray(first).tobytes())
        (request.output / "log.txt").write_text(f"made from {{request.source}}")
        return made


class Memorizer:
    """Answers members with more confidence than anybody else."""

    def __init__(self, model):
        self._model = model
        with np.load(TRAINED_ON) as data:
            self._known = {{row.tobytes() for row in data["features"]}}

    def __getattr__(self, name):
        return getattr(self._model, name)

    def run(self, feeds):
        outputs = self._model.run(feeds)
        (name,) = outputs
        for index, row in enumerate(feeds["features"]):
            if row.tobytes() in self._known:
                outputs[name][index] *= 3
        return outputs


class Memorizes(Copies):
    def load(self, path, runtime):
        model = super().load(path, runtime)
        return Memorizer(model) if path.name == "model.onnx" else model
'''


def write(place: Place, gate: str, implementation: str = "", *, members: bool = False) -> None:
    """Write a project that asks for one gate, for a planted framework where one is named."""
    require("onnxruntime", "onnx")
    manifest = place.write(f'{UNTIMED}\n[production]\nrequired = ["{gate}"]\n')
    data = place.path / place.linear.data.name
    trained = place.path / "trained.npz"
    if members:
        with np.load(place.path / place.linear.calibration.name) as arrays:
            known = {name: arrays[name] for name in arrays.files}
        with np.load(data) as arrays:
            columns = {"features": arrays["features"], "labels": arrays["labels"]}
        half = len(columns["labels"]) // 2
        np.savez(trained, **{key: array[:half] for key, array in columns.items()})
        np.savez(data, **{key: array[half:] for key, array in columns.items()})
        np.savez(place.path / place.linear.calibration.name, **known)
        text = manifest.read_text("utf-8")
        manifest.write_text(text.replace("\n\n", '\nmembers = "trained.npz"\n\n', 1), "utf-8")
    if implementation:
        (place.path / "planted_frameworks.py").write_text(
            PLANTED.format(members=trained.as_posix()), encoding="utf-8"
        )
        (place.path / "conftest.py").write_text(
            NETWORKED.format(implementation=implementation), encoding="utf-8"
        )


def gate_of(run: Run, name: str) -> dict[str, object]:
    """Return the report's entry of a gate."""
    (found,) = [gate for gate in run.candidate()["gates"] if gate["name"] == name]
    entry: dict[str, object] = found
    return entry


def test_a_healthy_model_runs_without_network(place: Place) -> None:
    write(place, "no_network")
    run = place.run("-k", "no_network")
    gate = gate_of(run, "no_network")
    if "not certified" in str(gate["reason"]):
        pytest.skip(str(gate["reason"]))
    assert (run.code, gate["outcome"]) == (0, "pass"), run.text
    evidence = Path(run.report["evidence"]["directory"])
    kept = list(evidence.rglob("no_network.json"))
    assert any("guards" in json.loads(path.read_text("utf-8")) for path in kept)


@pytest.mark.skipif(sys.platform == "win32", reason="it phones by the C library of POSIX")
def test_a_framework_that_phones_home_fails_and_is_named(place: Place) -> None:
    write(place, "no_network", "Phones")
    run = place.run("-k", "no_network", "--edge-framework=planted", own_cache=True)
    gate = gate_of(run, "no_network")
    if "not certified" in str(gate["reason"]):
        pytest.skip(str(gate["reason"]))
    assert (run.code, gate["outcome"]) == (1, "fail"), run.text
    assert "connected to 198.51.100.7:443 (TCP) at load" in str(gate["reason"])


def test_a_model_that_memorized_its_members_fails(place: Place) -> None:
    write(place, "membership_inference", "Memorizes", members=True)
    run = place.run("-k", "membership_inference", "--edge-framework=planted", own_cache=True)
    gate = gate_of(run, "membership_inference")
    assert (run.code, gate["outcome"]) == (1, "fail"), run.text


def test_a_quantized_model_gives_no_more_away_than_its_baseline(place: Place) -> None:
    write(place, "membership_inference", members=True)
    run = place.run("-k", "membership_inference", own_cache=True)
    gate = gate_of(run, "membership_inference")
    assert (run.code, gate["outcome"]) == (0, "pass"), run.text


def test_without_members_it_is_not_certified(place: Place) -> None:
    write(place, "membership_inference")
    run = place.run("-k", "membership_inference")
    gate = gate_of(run, "membership_inference")
    assert gate["outcome"] == "inconclusive"
    assert 'has no "members"' in str(gate["reason"])


def test_members_that_are_evaluation_data_are_one_line(place: Place) -> None:
    write(place, "membership_inference", members=True)
    shutil.copy(place.path / place.linear.data.name, place.path / "trained.npz")
    run = place.run("-k", "membership_inference")
    text = run.result.stderr.str() + run.text
    assert run.code == 4, text
    assert "300 of 300 member samples are evaluation samples too" in text
    assert "Traceback" not in text


def test_samples_and_paths_in_an_artifact_are_found(place: Place) -> None:
    write(place, "bundle_privacy", "Keeps")
    run = place.run("-k", "bundle_privacy", "--edge-framework=planted", own_cache=True)
    gate = gate_of(run, "bundle_privacy")
    assert (run.code, gate["outcome"]) == (1, "fail"), run.text
    assert "cache.bin: holds calibration sample 0" in str(gate["reason"])
    assert f"log.txt: names {place.path}" in str(gate["reason"])


def test_a_promoted_bundle_names_no_directory_of_this_machine(place: Place) -> None:
    write(place, "bundle_privacy")
    run = place.run("--edge-promote=promoted", own_cache=True)
    assert run.code == 0, run.text
    assert run.verdicts()["bundle_privacy"] == "pass"
    files = [path for path in (place.path / "promoted").rglob("*") if path.is_file()]
    assert any(path.name == POINTER for path in files)
    for path in files:
        assert str(place.path).encode() not in path.read_bytes(), path


def test_switched_off_it_is_not_there(place: Place) -> None:
    place.write()
    run = place.run("--collect-only", "-q")
    for gate in ("no_network", "membership_inference", "bundle_privacy"):
        assert gate not in run.text
