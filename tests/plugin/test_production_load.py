"""The gate of load, as a user runs it: LoadGen drives real candidates."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import language_models as llama
import numpy as np
import planted_load
import pytest
from edge_runs import CANDIDATE, Place, Run
from models import require

PRODUCTION = '\n[production]\nrequired = ["load"]\n'
PROFILE = """
[gates]
load_queries_per_second = {rate}
load_latency_limit_ms = {limit}
load_percentile = 90
load_streams = {streams}
load_seconds = 25
"""
needs_loadgen = pytest.mark.skipif(
    importlib.util.find_spec("mlperf_loadgen") is None,
    reason="LoadGen is not installed; run: pip install mlcommons-loadgen",
)


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require("onnxruntime", "onnx")


def recipe(scheme: str) -> str:
    return f'[[models.linear.recipes]]\nframework = "planted"\nscheme = "{scheme}"\n'


def profile(rate: float, limit: float = 200.0, streams: int = 1) -> str:
    return PROFILE.format(rate=rate, limit=limit, streams=streams) + PRODUCTION


@pytest.fixture
def planted(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A project whose conftest adds the framework with the planted faults."""
    shutil.copy(planted_load.__file__, place.path / "planted_load.py")
    (place.path / "conftest.py").write_text(planted_load.HOOK, "utf-8")
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(place.path), *([inherited] if inherited else [])])
    monkeypatch.setenv("PYTHONPATH", path)
    return place


def verdict(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = next(g for g in run.candidate()["gates"] if g["name"] == "load")
    return found


@needs_loadgen
def test_a_healthy_candidate_sustains_what_its_baseline_does(place: Place) -> None:
    place.write("\n[gates]\nload_seconds = 25\nload_latency_limit_ms = 1000\n" + PRODUCTION)
    run = place.run("-k", "load")
    found = verdict(run)
    assert (run.code, found["outcome"]) == (0, "pass"), run.text
    assert "that the baseline sustains" in found["reason"]
    assert found["observed"] >= 1
    assert found["details"]["error_rate"] >= 0.01
    folder = Path(run.report["evidence"]["directory"]) / "linear" / CANDIDATE / "load"
    with np.load(folder / "queries.npz") as arrays:
        servers = [name for name in arrays.files if "Server-latency_ns" in name]
        assert {name.split("-")[0] for name in servers} == {"baseline", "candidate"}
        assert all(len(arrays[name]) >= 459 for name in servers)
    scenarios = {run["scenario"] for run in found["details"]["candidate_runs"]}
    assert scenarios >= {"SingleStream", "Server", "Offline"}
    [summary, *_] = sorted(folder.glob("candidate-*-Server-mlperf_log_summary.txt"))
    assert "MLPerf Results Summary" in summary.read_text("utf-8")


@needs_loadgen
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("sleeps", "queries were late"),
        ("raises", "raised (RuntimeError: the device was lost)"),
        ("dies", "did not survive the load"),
    ],
)
def test_a_planted_fault_is_found(planted: Place, fault: str, words: str) -> None:
    planted.write(profile(20) + recipe(fault))
    run = planted.run("--edge-framework=planted", "-k", "load")
    found = verdict(run)
    assert (run.code, found["outcome"]) == (1, "fail"), run.text
    assert words in found["reason"]
    assert "Traceback" not in run.text


@needs_loadgen
@pytest.mark.parametrize(("scheme", "outcome"), [("healthy", "pass"), ("locks", "fail")])
def test_two_streams_that_share_a_lock_are_one(planted: Place, scheme: str, outcome: str) -> None:
    """One stream answers 50 queries per second at most, two that do not wait 100."""
    planted.write(profile(70, limit=800, streams=2) + recipe(scheme))
    run = planted.run("--edge-framework=planted", "-k", "load")
    assert verdict(run)["outcome"] == outcome, run.text


def test_without_loadgen_nothing_is_certified(planted: Place) -> None:
    (planted.path / planted_load.BLOCKED).touch()
    planted.write(profile(10) + recipe("healthy"))
    run = planted.run("--edge-framework=planted", "-k", "load")
    found = verdict(run)
    assert (run.code, found["outcome"]) == (1, "inconclusive"), run.text
    assert found["reason"].startswith("not certified: MLPerf LoadGen is not installed in ")
    assert found["advice"].endswith(" -m pip install mlcommons-loadgen")


def test_it_costs_nothing_where_nobody_asks_for_it(place: Place) -> None:
    place.write()
    run = place.run("--collect-only", "-q")
    assert "::load" not in run.text


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("load_queries_per_second = 0", "0 is out of range; allowed: a finite number above 0"),
        ("load_latency_limit_ms = -5", "-5 is out of range; allowed: a finite number above 0"),
        ("load_percentile = 100", "100 is out of range; allowed: a number above 50 and below 100"),
        ("load_percentile = 0", "0 is out of range; allowed: a number above 50 and below 100"),
        ("load_streams = 1.5", "1.5 is not a whole number"),
        ("load = -1", "-1 is out of range"),
    ],
)
def test_a_profile_that_makes_no_sense_is_one_line(place: Place, setting: str, words: str) -> None:
    place.write(f"\n[gates]\n{setting}\n{PRODUCTION}")
    run = place.run("-k", "load")
    text = " ".join((run.text + run.result.stderr.str()).split())
    assert run.code == 4
    assert words in text
    assert "Traceback" not in text


@needs_loadgen
def test_a_budget_too_small_says_what_it_takes(planted: Place) -> None:
    text = profile(10).replace("load_percentile = 90", "load_percentile = 99.9")
    planted.write(text.replace("load_seconds = 25", "load_seconds = 3") + recipe("healthy"))
    run = planted.run("--edge-framework=planted", "-k", "load")
    found = verdict(run)
    assert found["outcome"] == "inconclusive", run.text
    assert "one more run takes" in found["reason"]
    assert "the budget of 3 s" in found["reason"]


LANGUAGE = """
[gates]
{settings}
load_output_tokens = 4
load_percentile = 90
load_seconds = 25
"""


WIDE = (
    "load_queries_per_second = 10\nload_first_token_limit_ms = 5000\n"
    "load_token_interval_limit_ms = 2000\n"
)
needs_llamacpp = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None,
    reason="llama_cpp is not installed; run: pip install 'pytest-edgeai[cross]'",
)


@needs_loadgen
@needs_llamacpp
@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        (WIDE, "pass"),
        (f"{WIDE}load_streams = 2", "pass"),
        (
            "load_queries_per_second = 20\nload_first_token_limit_ms = 0.001\n"
            "load_token_interval_limit_ms = 0.0001",
            "fail",
        ),
    ],
)
def test_a_language_model_serves_its_tokens_in_time(
    place: Place, settings: str, outcome: str
) -> None:
    """Within seconds it does, however busy the machine is; within a microsecond nothing does."""
    llama.write_gguf(place.path / "chat.gguf", parameters=3_000_000, hidden=256, vocabulary=512)
    ids = np.random.default_rng(0).integers(0, 512, (6, 48)).astype(np.int64)
    np.savez(place.path / "text.npz", input_ids=ids)
    (place.path / "edgeai.toml").write_text(
        '[models.chat]\npath = "chat.gguf"\ntask = "text-generation"\ndata = "text.npz"\n'
        + LANGUAGE.format(settings=settings)
        + PRODUCTION,
        "utf-8",
    )
    run = place.run("-k", "load", "--edge-framework=llamacpp")
    found = verdict(run)
    assert found["outcome"] == outcome, run.text
    servers = [r for r in found["details"]["candidate_runs"] if r["scenario"] == "Server"]
    assert 0 < servers[0]["token_interval_p50_ns"] < servers[0]["first_token_p90_ns"]
    assert found["details"]["stream_processes"] == (2 if "streams" in settings else 1)
    assert "to the first token" in found["reason"]
