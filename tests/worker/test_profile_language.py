"""Profiles of decoding, by llama.cpp's own clocks and by OpenVINO's counters."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import language_models as llama
import numpy as np
import pytest

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.measure.bench import Runnable, Samples
from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.measure.language import LanguagePlan, LoadedLanguageRunnable
from pytest_edgeai.measure.profile import (
    Work,
    kv_bytes,
    make_profile,
    operator_profile,
    plain_calls,
)
from pytest_edgeai.optimize.frameworks.catalogue import LLAMACPP, MLX, OPENVINO
from pytest_edgeai.records import Recipe, RuntimeOptions
from pytest_edgeai.worker.host import Worker, WorkerSpec

CONTEXT = 64
CALLS = 4
CONFIG = llama.llama_config(intermediate_size=128)


def decoding(framework: FrameworkDescriptor, path: Path, folder: Path) -> Any:
    """Return what a worker answers about decoding one token."""
    ids = folder / "ids.npy"
    np.save(ids, llama.random_tokens(CONFIG, CONTEXT)[None].astype(np.int32))
    spec = WorkerSpec(framework, Path(sys.executable))
    with Worker.start(spec, time_limit_s=120) as worker:
        return worker.request(
            "profile_decoding",
            time_limit_s=120,
            path=path,
            runtime=RuntimeOptions(threads=1),
            context_tokens=CONTEXT,
            ids=str(ids),
            block=0,
            tokens=16,
            calls=CALLS,
        )


def made(framework: FrameworkDescriptor, folder: Path) -> Path:
    """Return a small Llama as the framework takes it, at full precision."""
    source = llama.write_huggingface(folder / "llama", CONFIG)
    spec = WorkerSpec(framework, Path(sys.executable))
    with Worker.start(spec, time_limit_s=120) as worker:
        answer = worker.request(
            "optimize",
            time_limit_s=300,
            source=source,
            recipe=Recipe(framework.name, "convert"),
            architecture="language-model",
            inputs=[],
            calibration=None,
            output=folder / "made",
        )
    return Path(answer["path"])


def test_llamacpp_tells_its_nodes_one_by_one(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason=f"run: {LLAMACPP.install}")
    pytest.importorskip("gguf", reason=f"run: {LLAMACPP.install}")
    path = llama.write_gguf(
        tmp_path / "m.gguf", parameters=600_000, hidden=128, vocabulary=600, context=CONTEXT
    )
    found = decoding(LLAMACPP, path, tmp_path)
    assert found["counters"]["eval_ns"] > 0
    assert len(found["operator_ns"]) == len(found["wall_ns"]) == CALLS
    kinds = {each["operator"] for each in found["operators"]}
    assert {"MUL_MAT", "RMS_NORM", "ADD"} <= kinds
    assert all(each["calls"] % CALLS == 0 for each in found["operators"])
    total = sum(each["time_ns"] for each in found["operators"])
    assert total == sum(found["operator_ns"])
    assert all(
        inside <= wall for inside, wall in zip(found["operator_ns"], found["wall_ns"], strict=True)
    )
    products = sum(e["calls"] for e in found["operators"] if e["operator"] == "MUL_MAT")
    # Seven products of every block and the output layer, and two of the attention or none.
    assert products >= CALLS * 8


def test_openvino_counts_the_layers_of_a_decoding_step(tmp_path: Path) -> None:
    if any(importlib.util.find_spec(name) is None for name in OPENVINO.distributions):
        pytest.skip(f"run: {OPENVINO.install}")
    found = decoding(OPENVINO, made(OPENVINO, tmp_path), tmp_path)
    assert found["source"] == "OpenVINO's performance counters"
    kinds = {each["operator"] for each in found["operators"]}
    assert kinds & {"FullyConnected", "MatMul"}
    assert len(found["wall_ns"]) == CALLS


def test_mlx_has_no_profiler_and_says_so(tmp_path: Path) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("mlx", "mlx_lm")):
        pytest.skip(f"run: {MLX.install}")
    found = decoding(MLX, tmp_path / "no model is loaded", tmp_path)
    assert found["source"] == ""
    assert found["note"] == "its runtime offers no profiler"


def test_decoding_is_profiled_like_any_call(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason=f"run: {LLAMACPP.install}")
    pytest.importorskip("gguf", reason=f"run: {LLAMACPP.install}")
    path = llama.write_gguf(
        tmp_path / "m.gguf", parameters=600_000, hidden=128, vocabulary=600, context=CONTEXT
    )
    ids = tmp_path / "ids.npy"
    np.save(ids, llama.random_tokens(CONFIG, CONTEXT)[None].astype(np.int32))
    plan = LanguagePlan(str(ids), blocks=1, context_tokens=CONTEXT, prompt_tokens=16)
    fed = Samples({}, 1, Batching(1, fixed=False))
    runnable = Runnable(LLAMACPP, Path(sys.executable), path, RuntimeOptions(threads=1))
    loaded = LoadedLanguageRunnable(runnable, fed, plan, time_limit_s=120)
    try:
        plain = plain_calls((loaded,), lambda done: None)[0]
        cores = loaded.core_use(0.05)
        traced = operator_profile(loaded, fed, plan, min(plain.wall_ns))
    finally:
        loaded.close()
    made = make_profile(loaded, plain, cores, traced, Work(1e6, 2e6, "by hand"), 1)
    assert made.calls == len(plain.wall_ns) >= 9
    assert made.operators_executed > 20
    assert made.counters["eval_ns"] > 0
    assert made.operators_source.startswith("llama.cpp's own clocks")
    assert kv_bytes(loaded) == pytest.approx((loaded.kv_cache_bytes or 0) * 16 / CONTEXT)
