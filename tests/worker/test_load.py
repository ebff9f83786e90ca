"""MLPerf LoadGen in real workers: scenarios, calls that fail, streams, language models."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import language_models as llama
import numpy as np
import planted_load
import pytest
from models import linear_classifier, require

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.errors import NotCertified, WorkerFailure
from pytest_edgeai.judge.load_queue import waits
from pytest_edgeai.measure.bench import Runnable, Samples
from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.measure.language import LanguagePlan
from pytest_edgeai.measure.load import DrivenLanguage, DrivenTensors
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.records import RuntimeOptions

PLANTED = FrameworkDescriptor(
    name="planted",
    implementation="planted_load:Planted",
    install="pip install planted",
    distributions=(),
    formats=("onnx",),
    schemes=dict.fromkeys(planted_load.FAULTS, "float32"),
)
needs_loadgen = pytest.mark.skipif(
    importlib.util.find_spec("mlperf_loadgen") is None,
    reason="LoadGen is not installed; run: pip install mlcommons-loadgen",
)
SERVER = {
    "min_query_count": 60,
    "min_duration_ms": 0,
    "server_target_qps": 30.0,
    "server_target_latency_ns": 10**9,
    "server_target_latency_percentile": 0.9,
    "schedule_rng_seed": 3,
    "sample_index_rng_seed": 4,
}

Make = Callable[..., DrivenTensors]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Load the small classifier with a planted fault, in one stream or more."""
    require("onnxruntime", "onnx")
    project = linear_classifier(tmp_path / "made")
    with np.load(project.data) as data:
        np.save(tmp_path / "features.npy", data["features"][:50])
    opened: list[DrivenTensors] = []

    def load(fault: str, streams: int = 1) -> DrivenTensors:
        folder = tmp_path / fault
        folder.mkdir(exist_ok=True)
        path = Path(shutil.copy(project.model, folder / "model.onnx"))
        (folder / "fault.txt").write_text(fault, "utf-8")
        runnable = Runnable(PLANTED, Path(sys.executable), path, RuntimeOptions())
        arrays = {"features": str(tmp_path / "features.npy")}
        samples = Samples(arrays, 50, Batching(1, fixed=False))
        opened.append(DrivenTensors(runnable, samples, streams, time_limit_s=60))
        return opened[-1]

    yield load
    for driven in opened:
        driven.close()


@needs_loadgen
def test_every_scenario_is_driven_and_its_logs_are_kept(make: Make, tmp_path: Path) -> None:
    driven = make("healthy")
    assert driven.version not in ("", "unknown")
    alone = driven.drive(
        "SingleStream",
        {"min_query_count": 20, "min_duration_ms": 0, "single_stream_expected_latency_ns": 1e7},
        tmp_path / "single",
        time_limit_s=60,
    )
    assert alone.queries == 20
    assert (alone.service_ns >= planted_load.CALL_S * 1e9).all()
    assert not alone.failed.any()
    server = driven.drive("Server", SERVER, tmp_path / "server", time_limit_s=60)
    assert server.queries == 60
    assert server.target_per_second == 30
    assert (server.latency_ns >= server.service_ns).all()
    assert server.summary["Scenario"] == "Server"
    assert "MLPerf" in Path(server.logs[0]).read_text("utf-8")
    # Poisson arrivals in the order of the queries, which wait as a queue would have them wait.
    assert (np.diff(server.scheduled_ns) > 0).all()
    queued = waits(server.scheduled_ns, server.service_ns) + server.service_ns
    assert np.median(np.abs(queued - server.latency_ns)) < 5e6
    several = driven.drive(
        "MultiStream",
        {
            "min_query_count": 10,
            "min_duration_ms": 0,
            "multi_stream_samples_per_query": 3,
            "multi_stream_expected_latency_ns": 3e7,
        },
        tmp_path / "multi",
        time_limit_s=60,
    )
    assert several.queries == 30
    offline = driven.drive(
        "Offline",
        {"min_query_count": 30, "min_duration_ms": 0, "offline_expected_qps": 90.0},
        tmp_path / "offline",
        time_limit_s=60,
    )
    assert offline.queries == 30
    assert offline.is_valid


@needs_loadgen
@pytest.mark.parametrize("scenario", ["Server", "SingleStream", "Offline"])
def test_calls_that_raise_are_answered_and_counted(
    make: Make, tmp_path: Path, scenario: Any
) -> None:
    settings = SERVER if scenario == "Server" else {"min_query_count": 60, "min_duration_ms": 0}
    run = make("raises").drive(scenario, settings, tmp_path / "run", time_limit_s=60)
    assert run.failed.tolist() == [index == 49 for index in range(60)]
    assert run.messages == {"RuntimeError: the device was lost": 1}


@needs_loadgen
@pytest.mark.parametrize(
    ("fault", "words"), [("hangs", "no answer within 6 s"), ("dies", "exited with code 7")]
)
def test_a_call_that_never_returns_ends_the_run(
    make: Make, tmp_path: Path, fault: str, words: str
) -> None:
    driven = make(fault)
    begin = time.monotonic()
    with pytest.raises(WorkerFailure) as caught:
        driven.drive(
            "SingleStream",
            {"min_query_count": 200, "min_duration_ms": 0},
            tmp_path / "run",
            time_limit_s=6,
        )
    assert words in caught.value.what
    assert time.monotonic() - begin < 15


@needs_loadgen
def test_two_streams_answer_at_once_unless_they_share_a_lock(make: Make, tmp_path: Path) -> None:
    settings = {"min_query_count": 60, "min_duration_ms": 0, "offline_expected_qps": 200.0}
    runs = {}
    for fault in ("healthy", "locks"):
        run = make(fault, 2).drive("Offline", settings, tmp_path / fault / "run", time_limit_s=60)
        assert run.queries == 60
        assert run.streams == 2
        runs[fault] = run
    # Sleeps overlap or they do not, however busy the machine is.
    healthy = runs["healthy"]
    assert float(healthy.service_ns.sum()) / healthy.seconds > 1.3e9
    assert runs["locks"].seconds >= 60 * planted_load.CALL_S


def test_without_loadgen_the_command_is_named(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    shutil.copy(planted_load.__file__, blocked / "planted_load.py")
    (blocked / planted_load.BLOCKED).touch()
    monkeypatch.syspath_prepend(blocked)
    with pytest.raises(NotCertified) as caught:
        make("healthy")
    assert "MLPerf LoadGen is not installed in" in caught.value.what
    assert caught.value.advice == f"run: {sys.executable} -m pip install mlcommons-loadgen"


@needs_loadgen
@pytest.mark.parametrize("streams", [1, 2])
def test_a_language_model_is_asked_token_by_token(tmp_path: Path, streams: int) -> None:
    """Two streams are two processes, each with half of the arrivals."""
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama_cpp is not installed; run: pip install 'pytest-edgeai[cross]'")
    path = llama.write_gguf(
        tmp_path / "chat.gguf", parameters=1_000_000, hidden=128, vocabulary=256
    )
    ids = np.random.default_rng(0).integers(0, 256, (4, 24)).astype(np.int32)
    np.save(tmp_path / "ids.npy", ids)
    plan = LanguagePlan(str(tmp_path / "ids.npy"), 4, 24, 16)
    runnable = Runnable(FRAMEWORKS["llamacpp"], Path(sys.executable), path, RuntimeOptions())
    driven = DrivenLanguage(runnable, plan, streams, 5, time_limit_s=60)
    try:
        run = driven.drive("Server", SERVER, tmp_path / "run", time_limit_s=60)
    finally:
        driven.close()
    assert run.lanes == run.streams == streams
    assert np.bincount(run.lane).tolist() == [60 // streams] * streams
    assert run.token_ns is not None
    assert run.token_ns.shape == (60, 5)
    assert np.isfinite(run.token_ns).all()
    assert (run.token_ns.sum(axis=1) <= run.service_ns).all()
    assert any("first token" in name.lower() for name in run.summary)
