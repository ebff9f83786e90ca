"""A framework that runs ONNX models in ONNX Runtime and cannot bear load in a chosen way.

Tests put this module and the hook of :data:`HOOK` into a project; its workers then import it from
there. Each scheme is one fault; every call sleeps for :data:`CALL_S`, so that neither the speed of
this machine nor its cores decide anything. A file :data:`BLOCKED` beside it keeps LoadGen from
being imported, as where it is not installed.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pytest_edgeai.optimize.frameworks.base import (
    ExecutionFacts,
    Feeds,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.optimize.frameworks.onnxruntime import OnnxRuntime, OnnxRuntimeModel
from pytest_edgeai.records import RuntimeOptions, TensorSpec

CALL_S = 0.02
PAUSE_S = 0.25
BLOCKED = "no-loadgen"
FAULTS = ("convert", "healthy", "sleeps", "raises", "locks", "hangs", "dies")

HOOK = f"""
from pytest_edgeai.descriptors import FrameworkDescriptor


def pytest_edgeai_frameworks():
    return [
        FrameworkDescriptor(
            name="planted",
            implementation="planted_load:Planted",
            install="pip install planted",
            distributions=("onnxruntime",),
            formats=("onnx",),
            schemes=dict.fromkeys({FAULTS!r}, "float32"),
        )
    ]
"""
"""Conftest of a project."""

_LOCK = threading.Lock()


class PlantedModel:
    """An ONNX model with one fault."""

    def __init__(self, model: OnnxRuntimeModel, fault: str) -> None:
        self._model = model
        self._fault = fault
        self._calls = 0
        self._random = random.Random(1)
        self.inputs: Sequence[TensorSpec] = model.inputs
        self.outputs: Sequence[TensorSpec] = model.outputs

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        self._calls += 1
        if self._fault == "locks":
            with _LOCK:
                time.sleep(CALL_S)
        else:
            time.sleep(CALL_S)
        if self._fault == "sleeps" and self._random.random() < 0.2:
            time.sleep(PAUSE_S)
        if self._fault == "raises" and self._calls % 50 == 0:
            raise RuntimeError("the device was\nlost")
        if self._fault == "hangs" and self._calls == 100:
            time.sleep(1000)
        if self._fault == "dies" and self._calls == 100:
            os._exit(7)
        return self._model.run(feeds)

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        return self._model.bind(feeds)

    def execution(self) -> ExecutionFacts:
        return self._model.execution()

    def close(self) -> None:
        self._model.close()


class Planted:
    """Copies models, and remembers the fault beside them."""

    def __init__(self) -> None:
        self._runtime = OnnxRuntime()
        if Path(__file__).with_name(BLOCKED).exists():
            sys.modules["mlperf_loadgen"] = None  # type: ignore[assignment]

    def load(self, path: Path, runtime: RuntimeOptions) -> PlantedModel:
        fault = path.with_name("fault.txt")
        named = fault.read_text("utf-8") if fault.is_file() else ""
        return PlantedModel(self._runtime.load(path, runtime), named)

    def load_null_model(self, runtime: RuntimeOptions) -> OnnxRuntimeModel:
        return self._runtime.load_null_model(runtime)

    def optimize(self, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
        path = request.output / "model.onnx"
        shutil.copyfile(request.source, path)
        (request.output / "fault.txt").write_text(request.recipe.scheme, "utf-8")
        return OptimizeResult(path)
