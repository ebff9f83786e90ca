"""OpenVINO conversion, and NNCF's post-training quantization and weight compression."""

from __future__ import annotations

from collections import Counter
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
    Options,
    Report,
    calibration_of,
    listed,
    one_line,
)

_PRESETS = {
    "performance": nncf.QuantizationPreset.PERFORMANCE,
    "mixed": nncf.QuantizationPreset.MIXED,
}
_TARGETS = {device.value: device for device in nncf.TargetDevice}
_MODES = {
    "int8_asym": nncf.CompressWeightsMode.INT8_ASYM,
    "int8_sym": nncf.CompressWeightsMode.INT8_SYM,
}
_SCHEMES = ("convert", "int8-static", "int8-weights")


def optimize(core: openvino.Core, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
    """Make one artifact, ``model.xml`` with ``model.bin``.

    Schemes: ``convert`` (float32), ``int8-static`` (weights and activations) and ``int8-weights``
    (weights only). Input shapes stay as they are, and outputs keep the source's names.

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
    with Report(("", "nncf", "openvino")) as report:
        options = Options(request.recipe)
        make = {"int8-static": _quantize, "int8-weights": _compress}.get(scheme, _keep)
        progress("converting", 0.0)
        model = _convert(core, request.source)
        names = output_names(request.source, model)
        model = make(model, options, request, progress)
        for port, name in zip(model.outputs, names, strict=True):
            port.get_tensor().set_names({name})
        progress("saving", 0.95)
        # The default would halve a float32 model's weights to float16 without a word.
        openvino.save_model(model, artifact, compress_to_fp16=False)
        progress("done", 1.0)
    return OptimizeResult(artifact, tuple(report.lines))


def _convert(core: openvino.Core, source: Path) -> openvino.Model:
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


def _quantize(
    model: openvino.Model, options: Options, request: OptimizeRequest, progress: Progress
) -> openvino.Model:
    is_transformer = request.architecture in TRANSFORMERS
    calls = options.count("calibration_calls", DEFAULT_CALIBRATION_CALLS)
    preset = options.choice("preset", "mixed" if is_transformer else "performance", [*_PRESETS])
    target = options.choice("target_device", nncf.TargetDevice.ANY.value, [*_TARGETS])
    model_type = options.choice(
        "model_type", "transformer" if is_transformer else "none", ("none", "transformer")
    )
    fast_bias_correction = options.flag("fast_bias_correction", True)
    scope = _ignored_scope(options)
    options.finish()
    calibration = calibration_of(request, calls, progress, 0.1, 0.8)
    try:
        quantized = nncf.quantize(
            model,
            nncf.Dataset(calibration),
            preset=_PRESETS[preset],
            target_device=_TARGETS[target],
            subset_size=len(calibration),
            fast_bias_correction=fast_bias_correction,
            model_type=nncf.ModelType.TRANSFORMER if model_type == "transformer" else None,
            ignored_scope=scope,
        )
    except Exception as error:
        raise _failed(error, request) from error
    _require(quantized, "FakeQuantize", request)
    return quantized


def _compress(
    model: openvino.Model, options: Options, request: OptimizeRequest, progress: Progress
) -> openvino.Model:
    mode = options.choice("mode", "int8_asym", [*_MODES])
    scope = _ignored_scope(options)
    options.finish()
    progress("compressing weights", 0.2)
    try:
        compressed = nncf.compress_weights(model, mode=_MODES[mode], ignored_scope=scope)
    except Exception as error:
        raise _failed(error, request) from error
    if not any(_is_8_bit_constant(operator) for operator in compressed.get_ops()):
        raise _nothing_done(compressed, request)
    return compressed


def _ignored_scope(options: Options) -> nncf.IgnoredScope | None:
    names = options.names("ignored_names")
    types = options.names("ignored_types")
    patterns = options.names("ignored_patterns")
    if not (names or types or patterns):
        return None
    return nncf.IgnoredScope(names=names, types=types, patterns=patterns)


def _require(model: openvino.Model, kind: str, request: OptimizeRequest) -> None:
    if not any(operator.get_type_name() == kind for operator in model.get_ops()):
        raise _nothing_done(model, request)


def _is_8_bit_constant(operator: Any) -> bool:
    if operator.get_type_name() != "Constant":
        return False
    return operator.get_element_type() in (openvino.Type.u8, openvino.Type.i8)


def _nothing_done(model: openvino.Model, request: OptimizeRequest) -> ModelError:
    counts = Counter(operator.get_type_name() for operator in model.get_ops())
    return ModelError(
        f"nothing was quantized; the model has {listed(counts)}",
        where=str(request.source),
        advice="Choose another scheme, or ignore less",
    )


def _failed(error: Exception, request: OptimizeRequest) -> Exception:
    if isinstance(error, (MemoryError, ModelError, ImportError)):
        return error
    return ModelError(
        f"nncf cannot make {request.recipe.scheme} of this model: "
        f"{type(error).__name__}: {one_line(error)}",
        where=str(request.source),
    )
