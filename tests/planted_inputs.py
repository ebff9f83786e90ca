"""A framework whose candidates do not survive what nobody should send; copied into projects."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pytest_edgeai.optimize.frameworks.base import OptimizeResult
from pytest_edgeai.optimize.frameworks.onnxruntime import OnnxRuntime

HOOK = """
from pytest_edgeai.descriptors import FrameworkDescriptor

def pytest_edgeai_frameworks():
    return [FrameworkDescriptor("planted", "planted_inputs:Planted", "pip install planted",
                                ("onnxruntime",), ("onnx",), dict.fromkeys(%r, "float32"))]
"""
CLEAN_SHARE = 0.999
"""Share of the clean values that lie within the range that a candidate was given."""


class Model:
    """Runs a model, and misbehaves as the name of its file says."""

    def __init__(self, model: Any, fault: str) -> None:
        self._model = model
        self._fault = fault
        self._poisoned = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run(self, feeds: Any) -> dict[str, Any]:
        values = [value for value in feeds.values() if value.dtype.kind == "f"]
        has_nan = any(np.isnan(value).any() for value in values)
        if has_nan and self._fault == "crash":
            os.abort()
        if has_nan and self._fault == "segfault":
            ctypes.string_at(0)
        if self._fault == "hang" and any(value.size == 0 for value in values):
            time.sleep(1000)
        self._poisoned = self._poisoned or (has_nan and self._fault == "poison")
        outputs = dict(self._model.run(feeds))
        zero = all(not value.any() for value in values) and all(value.size for value in values)
        for name, value in outputs.items():
            if self._poisoned or (zero and self._fault == "nan-of-zeros"):
                outputs[name] = np.full_like(value, np.nan)
        if zero and self._fault == "refuse-zeros":
            raise ValueError("division by zero")
        return outputs


class Planted(OnnxRuntime):
    """Copies a model, or gives it a range that its input overflows."""

    def optimize(self, request: Any, progress: Any) -> OptimizeResult:
        path = request.output / f"{request.recipe.scheme}.onnx"
        model = onnx.load(request.source)
        if request.recipe.scheme == "wraps":
            _wrap(model, request.calibration)
        onnx.save(model, path)
        return OptimizeResult(path)

    def load(self, path: Path, runtime: Any) -> Any:
        return Model(super().load(path, runtime), path.stem if path.suffix == ".onnx" else "")


def _wrap(model: Any, calibration: Any) -> None:
    """Let the input overflow: what lies above the range of nearly all clean samples wraps."""
    name = model.graph.input[0].name
    values = np.concatenate([feeds[name].reshape(-1) for feeds in calibration])
    low, high = values.min() - 1, np.quantile(values, CLEAN_SHARE)
    for node in model.graph.node:
        for place, used in enumerate(node.input):
            if used == name:
                node.input[place] = "wrapped"
    weights = {"wrap_low": low, "wrap_range": high - low}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), key) for key, value in weights.items()
    )
    steps = (
        helper.make_node("Sub", [name, "wrap_low"], ["wrap_above"]),
        helper.make_node("Mod", ["wrap_above", "wrap_range"], ["wrap_rest"], fmod=1),
        helper.make_node("Add", ["wrap_rest", "wrap_low"], ["wrapped"]),
    )
    for place, node in enumerate(steps):
        model.graph.node.insert(place, node)
