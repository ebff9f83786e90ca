"""ONNX Runtime as the product runs it, with the planted faults of a session."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contest.planted.planted_session import HEALTHY, PlantedSession, read_faults
from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.optimize.frameworks.onnxruntime import OnnxRuntime, OnnxRuntimeModel
from pytest_edgeai.records import RuntimeOptions

FRAMEWORK = FrameworkDescriptor(
    name="onnxruntime",
    implementation="benchmarks.contest.planted.framework:PlantedOnnxRuntime",
    install="pip install pytest-edgeai[onnx]",
    distributions=("onnxruntime",),
    formats=("onnx",),
    schemes={"convert": "float32"},
)


class PlantedOnnxRuntime(OnnxRuntime):
    """The product's adapter around a session with a fault."""

    def load(self, path: Path, runtime: RuntimeOptions) -> OnnxRuntimeModel:
        """Load a model, with the faults that stand beside it.

        Raises:
            ModelError: see :meth:`OnnxRuntime.load`.
            UserError: likewise.
        """
        model = super().load(path, runtime)
        faults = read_faults(path)
        if faults != HEALTHY:
            model._session = PlantedSession(model._session, faults)
        return model
