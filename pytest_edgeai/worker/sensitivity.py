"""What quantizing each layer of a model does to its outputs, measured in a framework's worker."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import OptimizeRequest
from pytest_edgeai.optimize.frameworks.sensitivity import LayerMeasuringFramework
from pytest_edgeai.records import JSON, Architecture, Recipe, to_json
from pytest_edgeai.worker import arrays as samples_of


class LayerSensitivity:
    """The operation ``layer_noise`` of one framework."""

    def __init__(self, framework: object, progress: Callable[[str, float], None]) -> None:
        """Measure with ``framework``, and tell ``progress``."""
        self._framework = framework
        self._progress = progress

    @property
    def operations(self) -> dict[str, Callable[..., Any]]:
        """Name of each operation to what performs it."""
        return {"layer_noise": self.layer_noise}

    def layer_noise(
        self,
        source: str,
        recipe: Mapping[str, JSON],
        architecture: str,
        inputs: list[Mapping[str, JSON]],
        calibration: Mapping[str, JSON] | None,
        samples: Mapping[str, JSON],
        time_box_s: float,
    ) -> JSON:
        """Measure what quantizing each layer of a model does to its outputs.

        Args:
            source: the baseline's file.
            recipe: a :class:`~pytest_edgeai.records.Recipe`.
            architecture: class of the model.
            inputs: the baseline's inputs.
            calibration: ``{"arrays": {input: path}, "batch": int or None}``, or ``None``.
            samples: what the models are fed, likewise.
            time_box_s: longest time for it.

        Returns:
            ``{"layers": [{"layers", "noise_ratio"}], "all_layers", "calls", "evaluations"}``, see
            :class:`~pytest_edgeai.optimize.frameworks.sensitivity.NoiseReport`; ``None`` for an
            error of the outputs that is infinite.

        Raises:
            ModelError: the framework or the scheme has no layers that could be measured.
        """
        if not hasattr(self._framework, "layer_noise"):
            raise ModelError(
                f"{type(self._framework).__name__} cannot quantize layers one by one",
                allowed="onnxruntime, olive and openvino",
            )
        framework = cast("LayerMeasuringFramework", self._framework)
        specs = tuple(samples_of.tensor_spec(spec) for spec in inputs)
        fed = samples_of.calibration_of(samples, specs)
        assert fed is not None
        with tempfile.TemporaryDirectory(prefix="layers-") as folder:
            request = OptimizeRequest(
                source=Path(source),
                recipe=Recipe(**recipe),
                architecture=cast("Architecture", architecture),
                inputs=specs,
                calibration=samples_of.calibration_of(calibration, specs),
                output=Path(folder),
            )
            return to_json(framework.layer_noise(request, fed, time_box_s, self._progress))
