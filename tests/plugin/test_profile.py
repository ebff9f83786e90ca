"""Profiles as users ask for them: when they are taken, where they are read, and that they decide
nothing."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from edge_runs import CANDIDATE, Place, Run, running_workers

from pytest_edgeai.profile_records import BottleneckName

NAMES = get_args(BottleneckName)


def evidence(run: Run) -> Path:
    """Return where the candidate's evidence lies."""
    return Path(run.report["evidence"]["directory"]) / "linear" / CANDIDATE


def test_a_diagnosis_profiles_both_models(place: Place) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="run: pip install jsonschema")
    place.write()
    run = place.run("-k", "output_sanity", "--edge-diagnose", "--edge-markdown=report.md")
    assert run.code == 0
    profile: dict[str, Any] = run.candidate()["profile"]
    assert profile["candidate_bottleneck"]["name"] in NAMES
    assert profile["candidate_bottleneck"]["reason"]
    for side in ("baseline", "candidate"):
        calls = profile[side]
        assert calls["framework"] == "onnxruntime"
        assert calls["operators_source"] == "ONNX Runtime's session profiler"
        assert calls["flops_per_call"] > 0
        assert calls["bytes_per_call"] > 0
    kinds = {each["operator"] for each in profile["candidate"]["operators"]}
    assert "QuantizeLinear" in kinds
    assert profile["candidate"]["integer_share"] > 0
    assert profile["baseline"]["integer_share"] == 0
    assert profile["peaks"]["int8_operations_per_s"] > 0
    with np.load(evidence(run) / "profile.npz", allow_pickle=False) as archive:
        assert len(archive["candidate_wall_ns"]) == profile["candidate"]["calls"]
    assert (evidence(run).parents[1] / "peaks" / "threads-1.json").is_file()
    name = profile["candidate_bottleneck"]["name"]
    assert f"profile: {name}: " in run.text
    markdown = (place.path / "report.md").read_text("utf-8")
    assert f"- **profile**, {name}: " in markdown
    assert "what a call does with its time" in markdown
    assert not running_workers(place.path)
    schema = resources.files("pytest_edgeai.report").joinpath("schema-1.json")
    jsonschema.validate(run.report, json.loads(schema.read_text("utf-8")))


def test_without_being_asked_nothing_is_profiled(place: Place) -> None:
    place.write()
    run = place.run("-k", "output_sanity")
    assert run.candidate()["profile"] is None
    assert not (evidence(run) / "profile.json").exists()
    assert "profile: " not in run.text


def test_a_profile_that_fails_is_a_note_and_decides_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write()
    (place.path / "broken.py").write_text(
        "from pytest_edgeai.optimize.frameworks.onnxruntime import OnnxRuntime\n"
        "class Broken(OnnxRuntime):\n"
        "    def profile(self, path, runtime, feeds, calls):\n"
        "        raise OSError('the disk is full')\n",
        encoding="utf-8",
    )
    (place.path / "conftest.py").write_text(
        "from dataclasses import replace\n"
        "from pytest_edgeai.optimize.frameworks.catalogue import ONNXRUNTIME\n"
        "def pytest_edgeai_frameworks():\n"
        "    return [replace(ONNXRUNTIME, implementation='broken:Broken')]\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(place.path)
    run = place.run("-k", "output_sanity or precision_proof", "--edge-diagnose", own_cache=True)
    assert run.code == 0
    assert run.candidate()["profile"] is None
    notes = [note for note in run.report["notes"] if "was not profiled" in note]
    assert len(notes) == 1
    assert "the disk is full" in notes[0]
