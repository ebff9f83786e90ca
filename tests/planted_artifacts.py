"""A framework that makes ONNX artifacts with something in them that must not ship.

Tests put this module, ``planted_files`` and the hook of :data:`HOOK` into a project; its workers
then import it from there. Each scheme is one thing.
"""

from __future__ import annotations

import os
import pickle
import shutil

from planted_files import ELF, Runs

from pytest_edgeai.optimize.frameworks.base import OptimizeRequest, OptimizeResult, Progress
from pytest_edgeai.optimize.frameworks.onnxruntime import OnnxRuntime

HOOK = """
from pytest_edgeai.descriptors import FrameworkDescriptor


def pytest_edgeai_frameworks():
    return [
        FrameworkDescriptor(
            name="planted",
            implementation="planted_artifacts:Planted",
            install="pip install planted",
            distributions=("onnxruntime",),
            formats=("onnx",),
            schemes=dict.fromkeys(("convert", "runs", "torn"), "float32"),
        )
    ]
"""


class Planted(OnnxRuntime):
    """ONNX Runtime, with artifacts that hold more than a model."""

    def optimize(self, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
        """Copy the model, and put a pickle that runs and a program beside it, or a torn file."""
        path = request.output / "model.onnx"
        shutil.copyfile(request.source, path)
        if request.recipe.scheme == "runs":
            pickled = pickle.dumps(Runs(os.system, "true"))
            (request.output / "weights.bin").write_bytes(pickled)
            (request.output / "tokens.model").write_bytes(bytes(100) + ELF)
        if request.recipe.scheme == "torn":
            (request.output / "second.onnx").write_bytes(path.read_bytes()[:100])
        return OptimizeResult(path)
