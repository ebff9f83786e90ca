"""No framework maps weights unless it is asked to; what is mapped all the same counts in full."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.errors import FrameworkMissing
from pytest_edgeai.optimize.frameworks.catalogue import (
    LLAMACPP,
    MLX,
    OLIVE,
    ONNXRUNTIME,
    OPENVINO,
)
from pytest_edgeai.records import Recipe
from pytest_edgeai.worker.host import MEMORY_ENVIRONMENT, Worker, WorkerSpec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MIB = 2**20
CONTEXT = 64
OLIVE_VARIABLE = "PYTEST_EDGEAI_TEST_OLIVE_PYTHON"

Ask = Callable[..., dict[str, Any]]


def ask(framework: FrameworkDescriptor, operation: str, **arguments: Any) -> dict[str, Any]:
    """Return the answer of a fresh worker, or skip where its framework is missing."""
    interpreter = Path(os.environ.get(OLIVE_VARIABLE, sys.executable))
    if framework is not OLIVE:
        interpreter = Path(sys.executable)
    spec = WorkerSpec(framework, interpreter, MEMORY_ENVIRONMENT)
    try:
        started = Worker.start(spec, time_limit_s=120)
    except FrameworkMissing as missing:
        pytest.skip(str(missing))
    with started as worker:
        answer: dict[str, Any] = worker.request(operation, time_limit_s=120, **arguments)
    return answer


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A model that looks a few rows up in a table of 16 MiB, which lies in a file beside it."""
    onnx = pytest.importorskip("onnx", reason='run: pip install "pytest-edgeai[onnx]"')
    from onnx import TensorProto, helper, numpy_helper

    rows = np.random.default_rng(0).normal(size=(4096, 1024)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"])],
        "lookup",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [4])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [4, 1024])],
        [numpy_helper.from_array(rows, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "lookup.onnx", save_as_external_data=True, location="lookup.data")
    np.save(tmp_path / "ids.npy", np.arange(4, dtype=np.int64)[None])
    return tmp_path / "lookup.onnx"


def tensor_memory(framework: FrameworkDescriptor, path: Path, ids: Path, **hints: str) -> Any:
    """Return the memory of a model of tensors."""
    return ask(
        framework,
        "measure_memory",
        path=path,
        runtime={"hints": hints},
        arrays={"ids": ids},
        first=0,
        batch=None,
        calls=3,
    )


def test_onnxruntime_reads_external_data(table: Path) -> None:
    ids = table.with_name("ids.npy")
    read = tensor_memory(ONNXRUNTIME, table, ids)
    assert read["mapped_weights_bytes"] == read["untouched_bytes"] == 0
    assert 16 * MIB <= read["model_bytes"] < 24 * MIB
    assert 16 * MIB <= read["steady_bytes"] < 24 * MIB
    mapped = tensor_memory(ONNXRUNTIME, table, ids, memory_mapping="on")
    assert mapped["mapped_weights_bytes"] == 16 * MIB
    assert mapped["model_bytes"] < 8 * MIB


def test_external_data_that_are_read_and_mapped_are_the_same(table: Path) -> None:
    expected = np.fromfile(table.with_name("lookup.data"), np.float32)[: 4 * 1024].reshape(4, 1024)
    spec = WorkerSpec(ONNXRUNTIME, Path(sys.executable))
    try:
        started = Worker.start(spec, time_limit_s=120)
    except FrameworkMissing as missing:
        pytest.skip(str(missing))
    with started as worker:
        for mapping in ("off", "on"):
            worker.request(
                "load",
                time_limit_s=60,
                handle="m",
                path=table,
                runtime={"hints": {"memory_mapping": mapping}},
            )
            answer = worker.request(
                "evaluate",
                time_limit_s=60,
                handle="m",
                arrays={"ids": table.with_name("ids.npy")},
                samples=1,
                batch=None,
                output=table.with_name(mapping),
            )
            found = np.load(answer["outputs"]["rows"])
            np.testing.assert_array_equal(found.reshape(4, 1024), expected)


def test_openvino_reads_the_weights_of_an_ir(table: Path) -> None:
    ids = table.with_name("ids.npy")
    made = ask(
        OPENVINO,
        "optimize",
        source=table,
        recipe=Recipe("openvino", "convert"),
        architecture="unknown",
        inputs=[{"name": "ids", "dtype": "int64", "shape": [4]}],
        calibration=None,
        output=table.with_name("ir"),
    )
    for path in (Path(made["path"]), table):
        read = tensor_memory(OPENVINO, path, ids)
        assert read["mapped_weights_bytes"] == read["untouched_bytes"] == 0
        assert read["model_bytes"] >= 16 * MIB
        mapped = tensor_memory(OPENVINO, path, ids, memory_mapping="on")
        assert mapped["mapped_weights_bytes"] >= 16 * MIB


@pytest.mark.parametrize(
    ("framework", "can_map"),
    [(LLAMACPP, True), (MLX, False), (OPENVINO, True), (OLIVE, True)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_language_models_are_read(
    framework: FrameworkDescriptor, can_map: bool, tmp_path: Path
) -> None:
    from language_models import llama_config, random_tokens, write_huggingface

    config = llama_config(hidden_size=128, vocab_size=2048)
    source = write_huggingface(tmp_path / "hf", config, tokenizer=False)
    np.save(tmp_path / "ids.npy", random_tokens(config, CONTEXT)[None])
    made = ask(
        framework,
        "optimize",
        source=source,
        recipe=Recipe(framework.name, "convert"),
        architecture="language-model",
        inputs=[],
        calibration=None,
        output=tmp_path / "made",
    )

    def memory(**hints: str) -> dict[str, Any]:
        return ask(
            framework,
            "measure_language_memory",
            path=made["path"],
            runtime={"threads": 1, "device": framework.device, "hints": hints},
            context_tokens=CONTEXT,
            ids=tmp_path / "ids.npy",
            tokens=32,
            calls=2,
        )

    read = memory()
    assert read["steady_bytes"] is not None
    if framework is OLIVE:
        # ONNX Runtime GenAI cannot be told: what it maps counts whether it was touched or not.
        assert 0 <= read["untouched_bytes"] <= read["mapped_weights_bytes"]
        assert read["mapped_weights_bytes"] > 0
    else:
        assert read["mapped_weights_bytes"] == read["untouched_bytes"] == 0
    if can_map:
        mapped = memory(memory_mapping="on")
        assert mapped["mapped_weights_bytes"] > 0
        assert mapped["untouched_bytes"] == 0
