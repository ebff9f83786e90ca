"""OpenVINO conversion, and NNCF's post-training quantization and weight compression."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nncf
import openvino

from pytest_edgeai.errors import ModelError, did_you_mean
from pytest_edgeai.optimize.frameworks.base import OptimizeRequest, OptimizeResult, Progress
from pytest_edgeai.optimize.frameworks.openvino import load_error, output_names, read_model
from pytest_edgeai.optimize.frameworks.support import (
    DEFAULT_CALIBRATION_CALLS,
    TRANSFORMERS,
    LimitedCalibration,
    Options,
    Report,
    calibration_of,
    listed,
    one_line,
    prune_ratio,
)

_PRESETS = {
    "performance": nncf.QuantizationPreset.PERFORMANCE,
    "mixed": nncf.QuantizationPreset.MIXED,
}
_TARGETS = {device.value: device for device in nncf.TargetDevice}
MODES = {
    "int8_asym": nncf.CompressWeightsMode.INT8_ASYM,
    "int8_sym": nncf.CompressWeightsMode.INT8_SYM,
}
_SCHEMES = ("convert", "int8-static", "int8-weights")


def optimize(core: openvino.Core, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
    """Make one artifact, ``model.xml`` with ``model.bin``.

    Schemes: ``convert`` (float32), ``int8-static`` (weights and activations) and ``int8-weights``
    (weights only). Input shapes stay as they are, and outputs keep the source's names. With
    ``prune_ratio`` output channels of an ONNX source are removed first, see
    :mod:`pytest_edgeai.optimize.frameworks.onnx_pruning`.

    Raises:
        ModelError: OpenVINO or NNCF cannot take this model or recipe; says why.
    """
    scheme = request.recipe.scheme
    if scheme not in _SCHEMES:
        raise ModelError(
            f'openvino has no scheme "{scheme}"',
            allowed=", ".join(_SCHEMES),
            advice=did_you_mean(scheme, _SCHEMES),
        )
    artifact = request.output / "model.xml"
    with (
        Report(("", "nncf", "openvino")) as report,
        tempfile.TemporaryDirectory(prefix="openvino-") as folder,
    ):
        options = Options(request.recipe)
        request = with_pruning(request, options, Path(folder), report)
        make = {"int8-static": _quantize, "int8-weights": _compress}.get(scheme, _keep)
        progress("converting", 0.0)
        model = convert(core, request.source)
        names = output_names(request.source, model)
        model = make(model, options, request, progress)
        for port, name in zip(model.outputs, names, strict=True):
            port.get_tensor().set_names({name})
        progress("saving", 0.95)
        # The default would halve a float32 model's weights to float16 without a word.
        openvino.save_model(model, artifact, compress_to_fp16=False)
        progress("done", 1.0)
    return OptimizeResult(artifact, tuple(report.lines))


def with_pruning(
    request: OptimizeRequest, options: Options, folder: Path, report: Report
) -> OptimizeRequest:
    """Return a request for the pruned model where the recipe wants one.

    Raises:
        ModelError: the package onnx is not there, or no layer can lose channels.
    """
    ratio = prune_ratio(options)
    if ratio is None:
        return request
    try:
        from pytest_edgeai.optimize.frameworks.onnx_pruning import with_pruned_source
    except ImportError as error:
        raise ModelError(
            f'"prune_ratio" needs the package {error.name}, which is not installed beside openvino',
            advice="Run: pip install onnx",
        ) from error
    return with_pruned_source(request, ratio, folder, report)


def convert(core: openvino.Core, source: Path) -> openvino.Model:
    """Return the model at full precision."""
    if source.suffix.lower() == ".xml":
        return read_model(core, source)
    read_model(core, source)  # says what is wrong with a file far better than the converter
    try:
        return openvino.convert_model(source)
    except Exception as error:  # the converter's own kinds have no common base
        raise load_error(error, str(source)) from error


def _keep(
    model: openvino.Model, options: Options, request: OptimizeRequest, progress: Progress
) -> openvino.Model:
    options.finish()
    return model


@dataclass(frozen=True)
class StaticSettings:
    """Options of ``int8-static``."""

    calibration_calls: int
    preset: str
    target_device: str
    model_type: str
    fast_bias_correction: bool
    scope: nncf.IgnoredScope | None

    @classmethod
    def read(cls, options: Options, request: OptimizeRequest) -> StaticSettings:
        """Read them.

        Raises:
            ModelError: one has a wrong value.
        """
        is_transformer = request.architecture in TRANSFORMERS
        return cls(
            calibration_calls=options.count("calibration_calls", DEFAULT_CALIBRATION_CALLS),
            preset=options.choice(
                "preset", "mixed" if is_transformer else "performance", [*_PRESETS]
            ),
            target_device=options.choice("target_device", nncf.TargetDevice.ANY.value, [*_TARGETS]),
            model_type=options.choice(
                "model_type", "transformer" if is_transformer else "none", ("none", "transformer")
            ),
            fast_bias_correction=options.flag("fast_bias_correction", True),
            scope=ignored_scope(options),
        )

    def quantize(
        self,
        model: openvino.Model,
        calibration: LimitedCalibration,
        advanced: nncf.AdvancedQuantizationParameters | None = None,
    ) -> openvino.Model:
        """Return the model as NNCF quantizes it."""
        return nncf.quantize(
            model,
            nncf.Dataset(calibration),
            preset=_PRESETS[self.preset],
            target_device=_TARGETS[self.target_device],
            subset_size=len(calibration),
            fast_bias_correction=self.fast_bias_correction,
            model_type=nncf.ModelType.TRANSFORMER if self.model_type == "transformer" else None,
            ignored_scope=self.scope,
            advanced_parameters=advanced,
        )


def _quantize(
    model: openvino.Model, options: Options, request: OptimizeRequest, progress: Progress
) -> openvino.Model:
    settings = StaticSettings.read(options, request)
    options.finish()
    calibration = calibration_of(request, settings.calibration_calls, progress, 0.1, 0.8)
    try:
        quantized = settings.quantize(model, calibration)
    except Exception as error:
        raise failed(error, request) from error
    _require(quantized, "FakeQuantize", request)
    return quantized


def _compress(
    model: openvino.Model, options: Options, request: OptimizeRequest, progress: Progress
) -> openvino.Model:
    mode = options.choice("mode", "int8_asym", [*MODES])
    scope = ignored_scope(options)
    options.finish()
    progress("compressing weights", 0.2)
    try:
        compressed = nncf.compress_weights(model, mode=MODES[mode], ignored_scope=scope)
    except Exception as error:
        raise failed(error, request) from error
    if not any(_is_8_bit_constant(operator) for operator in compressed.get_ops()):
        raise nothing_done(compressed, request)
    return compressed


def ignored_scope(options: Options) -> nncf.IgnoredScope | None:
    """Read what is left alone; ``None`` for nothing."""
    names = options.names("ignored_names")
    types = options.names("ignored_types")
    patterns = options.names("ignored_patterns")
    if not (names or types or patterns):
        return None
    return nncf.IgnoredScope(names=names, types=types, patterns=patterns)


def _require(model: openvino.Model, kind: str, request: OptimizeRequest) -> None:
    if not any(operator.get_type_name() == kind for operator in model.get_ops()):
        raise nothing_done(model, request)


def _is_8_bit_constant(operator: Any) -> bool:
    if operator.get_type_name() != "Constant":
        return False
    return operator.get_element_type() in (openvino.Type.u8, openvino.Type.i8)


def nothing_done(model: openvino.Model, request: OptimizeRequest) -> ModelError:
    """Return the error for a model in which nothing was quantized."""
    counts = Counter(operator.get_type_name() for operator in model.get_ops())
    return ModelError(
        f"nothing was quantized; the model has {listed(counts)}",
        where=str(request.source),
        advice="Choose another scheme, or ignore less",
    )


def failed(error: Exception, request: OptimizeRequest) -> Exception:
    """Return the one clear line for what NNCF raised."""
    if isinstance(error, (MemoryError, ModelError, ImportError)):
        return error
    return ModelError(
        f"nncf cannot make {request.recipe.scheme} of this model: "
        f"{type(error).__name__}: {one_line(error)}",
        where=str(request.source),
    )
