"""Microsoft Olive: what it makes runs in ONNX Runtime, or in ONNX Runtime GenAI for text."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

# ONNX Runtime 1.31 collects telemetry on Linux too, in the user's home, from its import on; what
# disable_telemetry_events() switches off comes after that.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import (
    Calibration,
    Feeds,
    OperatorProfile,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.optimize.frameworks.onnxruntime import (
    OnnxRuntime,
    OnnxRuntimeModel,
)
from pytest_edgeai.optimize.frameworks.sensitivity import NoiseReport
from pytest_edgeai.records import RuntimeOptions

LAYER_SCHEMES = ("int8-static", "int8-dynamic")
"""Schemes whose options ONNX Runtime's own schemes of these names have, too."""

if TYPE_CHECKING:
    from pytest_edgeai.optimize.frameworks.genai import GenaiModel


class Olive:
    """Serves models of tensors and models that generate text.

    See :class:`~pytest_edgeai.optimize.frameworks.base.Framework` and
    :class:`~pytest_edgeai.optimize.frameworks.language.LanguageFramework`. Olive itself is imported
    to optimize alone: it takes seconds and 400 MiB that a measurement would count.
    """

    def __init__(self) -> None:
        """Start ONNX Runtime, and make sure that Olive is there without importing it.

        Raises:
            ImportError: the distribution olive-ai is not installed.
        """
        metadata.version("olive-ai")
        self._onnxruntime = OnnxRuntime()

    def load(self, path: Path, runtime: RuntimeOptions) -> OnnxRuntimeModel:
        """See :meth:`pytest_edgeai.optimize.frameworks.onnxruntime.OnnxRuntime.load`."""
        return self._onnxruntime.load(path, runtime)

    def load_null_model(self, runtime: RuntimeOptions) -> OnnxRuntimeModel:
        """Load a model of one Identity."""
        return self._onnxruntime.load_null_model(runtime)

    def profile(
        self, path: Path, runtime: RuntimeOptions, feeds: Feeds, calls: int
    ) -> OperatorProfile:
        """See :meth:`pytest_edgeai.optimize.frameworks.onnxruntime.OnnxRuntime.profile`."""
        return self._onnxruntime.profile(path, runtime, feeds, calls)

    def load_language_model(
        self, path: Path, runtime: RuntimeOptions, context_tokens: int
    ) -> GenaiModel:
        """See :func:`pytest_edgeai.optimize.frameworks.genai.load`."""
        from pytest_edgeai.optimize.frameworks import genai

        return genai.load(path, runtime, context_tokens)

    def load_null_language_model(self, runtime: RuntimeOptions) -> GenaiModel:
        """See :func:`pytest_edgeai.optimize.frameworks.genai.load_null`."""
        from pytest_edgeai.optimize.frameworks import genai

        return genai.load_null(runtime)

    def tokenize(self, path: Path, text: str) -> NDArray[np.int32]:
        """See :func:`pytest_edgeai.optimize.frameworks.huggingface_tokenizer.tokenize_directory`.

        ``path`` is a Hugging Face directory, or an artifact that was made of one.
        """
        from pytest_edgeai.optimize.frameworks.huggingface_tokenizer import tokenize_directory

        return tokenize_directory(path if path.is_dir() else path.parent, text)

    def optimize(self, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
        """See :func:`pytest_edgeai.optimize.frameworks.olive_optimize.optimize`."""
        from pytest_edgeai.optimize.frameworks import olive_optimize

        return olive_optimize.optimize(request, progress)

    def layer_noise(
        self, request: OptimizeRequest, samples: Calibration, time_box_s: float, progress: Progress
    ) -> NoiseReport:
        """Measure layers with ONNX Runtime's quantizers, which are the ones that Olive runs.

        See :class:`pytest_edgeai.optimize.frameworks.sensitivity.LayerMeasuringFramework`.

        Raises:
            ModelError: the scheme is none that names its options beforehand.
        """
        from pytest_edgeai.optimize.frameworks import onnxruntime_sensitivity

        if request.recipe.scheme not in LAYER_SCHEMES:
            raise ModelError(
                f'the layers of "{request.recipe.scheme}" are not measured one by one',
                where=f"recipe {request.recipe.id}",
                allowed=", ".join(LAYER_SCHEMES),
            )
        return onnxruntime_sensitivity.layer_noise(request, samples, time_box_s, progress)
