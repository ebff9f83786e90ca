"""ONNX Runtime's own tools: full-precision conversion, static and dynamic quantization.

The steps follow https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import ModelError, did_you_mean
from pytest_edgeai.optimize.frameworks.base import (
    Feeds,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.optimize.frameworks.support import (
    DEFAULT_CALIBRATION_CALLS,
    TRANSFORMERS,
    LimitedCalibration,
    Options,
    Report,
    calibration_of,
    listed,
    one_line,
)

# DequantizeLinear takes a scale per channel from opset 13 on (docs/Changelog.md of ONNX); 17 is the
# newest that every runtime of the last years knows.
PER_CHANNEL_OPSET = 13
CONVERTED_OPSET = 17

# One protobuf message holds less than 2 GiB; intermediate models carry some more than the source.
_LARGE_BYTES = 3 * 2**29

_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
# Dynamic quantization of Conv is left out: ConvInteger has no fast kernel (0.26x was measured).
_DYNAMIC_OPERATORS = ("MatMul", "Gemm", "Gather", "Attention", "LSTM")
# In a transformer the products carry the cost; normalizations and softmax in 8 bits cost accuracy.
_TRANSFORMER_OPERATORS = ("MatMul", "Gemm")
_AMBIGUOUS = "truth value of an array"


@dataclass(frozen=True)
class _Settings:
    """Options of both quantization schemes; those of the other scheme keep their defaults."""

    per_channel: bool
    weight_type: str
    reduce_range: bool
    op_types: list[str]
    nodes_to_exclude: list[str]
    activation_type: str = "uint8"
    calibrate_method: str = "minmax"
    percentile: float = 99.999
    symmetric_activations: bool = False
    moving_average: bool = False
    calibration_calls: int = DEFAULT_CALIBRATION_CALLS


def optimize(request: OptimizeRequest, progress: Progress) -> OptimizeResult:
    """Make one artifact, ``model.onnx``, with ``model.onnx.data`` beside it where it is large.

    Schemes: ``convert`` (graph optimizations and shapes, no change of precision), ``int8-static``
    (QDQ) and ``int8-dynamic``.

    Raises:
        ModelError: the tools cannot take this model or recipe; says why.
    """
    scheme = request.recipe.scheme
    readers = {"convert": None, "int8-static": _static_settings, "int8-dynamic": _dynamic_settings}
    if scheme not in readers:
        raise ModelError(
            f'onnxruntime has no scheme "{scheme}"',
            allowed=", ".join(readers),
            advice=did_you_mean(scheme, readers),
        )
    options = Options(request.recipe)
    reader = readers[scheme]
    settings = reader(options, request) if reader is not None else None
    options.finish()
    artifact = request.output / "model.onnx"
    with Report() as report, tempfile.TemporaryDirectory(prefix="onnxruntime-") as folder:
        if settings is None:
            progress("optimizing the graph", 0.0)
            _preprocess(request.source, artifact, Path(folder), report)
        else:
            steps = _Steps(request, settings, artifact, Path(folder), report, progress)
            steps.quantize()
        progress("done", 1.0)
    return OptimizeResult(artifact, tuple(report.lines))


def _static_settings(options: Options, request: OptimizeRequest) -> _Settings:
    is_transformer = request.architecture in TRANSFORMERS
    return _Settings(
        per_channel=options.flag("per_channel", True),
        weight_type=options.choice("weight_type", "int8", tuple(_TYPES)),
        reduce_range=options.flag("reduce_range", False),
        op_types=options.names("op_types", _TRANSFORMER_OPERATORS if is_transformer else ()),
        nodes_to_exclude=options.names("nodes_to_exclude"),
        activation_type=options.choice("activation_type", "uint8", tuple(_TYPES)),
        calibrate_method=options.choice("calibrate_method", "minmax", tuple(_METHODS)),
        percentile=options.number("percentile", 99.999, 50.0, 100.0),
        symmetric_activations=options.flag("symmetric_activations", False),
        moving_average=options.flag("moving_average", False),
        calibration_calls=options.count("calibration_calls", DEFAULT_CALIBRATION_CALLS),
    )


def _dynamic_settings(options: Options, request: OptimizeRequest) -> _Settings:
    return _Settings(
        per_channel=options.flag("per_channel", True),
        weight_type=options.choice("weight_type", "int8", tuple(_TYPES)),
        reduce_range=options.flag("reduce_range", False),
        op_types=options.names("op_types", _DYNAMIC_OPERATORS),
        nodes_to_exclude=options.names("nodes_to_exclude"),
    )


@dataclass(frozen=True)
class _Steps:
    """Quantizes one model."""

    request: OptimizeRequest
    settings: _Settings
    artifact: Path
    folder: Path
    report: Report
    progress: Progress

    def quantize(self) -> None:
        is_static = self.request.recipe.scheme == "int8-static"
        calibration = (
            calibration_of(self.request, self.settings.calibration_calls, self.progress, 0.2, 0.8)
            if is_static
            else None
        )
        self.progress("optimizing the graph", 0.0)
        source = self._with_new_opset(self.request.source)
        prepared = self.folder / "prepared.onnx"
        _preprocess(source, prepared, self.folder, self.report)
        _import_opsets_once(prepared)
        self._check_excluded(prepared)
        self.progress("quantizing", 0.2)
        if calibration is None:
            self._dynamic(prepared)
        else:
            if len(calibration) < len(calibration.source):
                used, there = len(calibration), len(calibration.source)
                self.report.add(f"calibrated with the first {used} of {there} calls")
            self._static(prepared, calibration)
        made = read_structure(self.artifact)
        if not made.quantized_operators:
            wanted = ", ".join(self.settings.op_types) or "any that onnxruntime can quantize"
            raise ModelError(
                f"no operator was quantized; the model has {listed(made.operators)}",
                where=str(self.request.source),
                allowed=f"operators of type {wanted}",
                advice='Choose another scheme or other "op_types"',
            )

    def _with_new_opset(self, source: Path) -> Path:
        """Return a model whose opset can express a scale per channel."""
        opset = read_structure(source).opset
        if not self.settings.per_channel or opset >= PER_CHANNEL_OPSET:
            return source
        try:
            converted = onnx.version_converter.convert_version(onnx.load(source), CONVERTED_OPSET)
        except Exception as error:  # the converter raises RuntimeError and its own kinds
            raise ModelError(
                f"opset {opset} has no quantization per channel, and converting to opset "
                f"{CONVERTED_OPSET} failed: {one_line(error)}",
                where=str(source),
                advice=f"Export the model with opset {CONVERTED_OPSET}, or set per_channel = false",
            ) from error
        path = self.folder / "converted.onnx"
        onnx.save(converted, path)
        self.report.add(f"converted from opset {opset} to {CONVERTED_OPSET}")
        return path

    def _check_excluded(self, prepared: Path) -> None:
        if not self.settings.nodes_to_exclude:
            return
        names = {node.name for node in onnx.load(prepared, load_external_data=False).graph.node}
        for name in self.settings.nodes_to_exclude:
            if name not in names:
                raise ModelError(
                    f'option "nodes_to_exclude": the optimized graph has no node "{name}"',
                    where=f"recipe {self.request.recipe.id}",
                    advice=did_you_mean(name, names),
                )

    def _dynamic(self, prepared: Path) -> None:
        settings = self.settings
        # The tool turns every Gemm into MatMul and Add before it looks at the operator types.
        op_types = ["MatMul" if name == "Gemm" else name for name in settings.op_types]
        excluded = [name for node in settings.nodes_to_exclude for name in (node, f"{node}_MatMul")]
        try:
            quantize_dynamic(
                prepared,
                self.artifact,
                op_types_to_quantize=sorted(set(op_types)),
                per_channel=settings.per_channel,
                reduce_range=settings.reduce_range,
                weight_type=_TYPES[settings.weight_type],
                nodes_to_exclude=excluded,
                use_external_data_format=_is_large(prepared),
            )
        except Exception as error:
            raise self._failed(error) from error

    def _static(self, prepared: Path, calibration: LimitedCalibration) -> None:
        """Quantize, working around a defect of the tool that some graphs meet.

        Adjusting the weights' scale for an int32 bias fails for some biases with "the truth value
        of an array is ambiguous"; without that adjustment, or per tensor, it does not.
        """
        attempts: list[tuple[str, bool, dict[str, bool]]] = [
            ("", self.settings.per_channel, {}),
            (
                "without adjusting weights for int32 biases",
                self.settings.per_channel,
                {"QDQDisableWeightAdjustForInt32Bias": True},
            ),
            ("per tensor", False, {}),
        ]
        for index, (how, per_channel, extra) in enumerate(attempts):
            try:
                self._static_attempt(prepared, calibration, per_channel, extra)
            except ValueError as error:
                if _AMBIGUOUS not in str(error) or index == len(attempts) - 1:
                    raise self._failed(error) from error
                self.report.add(f"quantizing failed: {one_line(error)}")
            except Exception as error:
                raise self._failed(error) from error
            else:
                if how:
                    self.report.add(f"quantized {how}")
                return

    def _static_attempt(
        self,
        prepared: Path,
        calibration: LimitedCalibration,
        per_channel: bool,
        extra: dict[str, bool],
    ) -> None:
        settings = self.settings
        quantize_static(
            prepared,
            self.artifact,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=settings.op_types or None,
            per_channel=per_channel,
            reduce_range=settings.reduce_range,
            activation_type=_TYPES[settings.activation_type],
            weight_type=_TYPES[settings.weight_type],
            nodes_to_exclude=settings.nodes_to_exclude,
            use_external_data_format=_is_large(prepared),
            calibrate_method=_METHODS[settings.calibrate_method],
            extra_options={
                "ActivationSymmetric": settings.symmetric_activations,
                "CalibMovingAverage": settings.moving_average,
                "CalibPercentile": settings.percentile,
                **extra,
            },
        )

    def _failed(self, error: Exception) -> ModelError | MemoryError:
        if isinstance(error, (MemoryError, ModelError)):
            return error
        return ModelError(
            f"onnxruntime cannot make {self.request.recipe.scheme} of this model: "
            f"{type(error).__name__}: {one_line(error)}",
            where=str(self.request.source),
            advice=self._calibration_advice(),
        )

    def _calibration_advice(self) -> str:
        """Return what to do about calibration data that holds NaN or infinity."""
        for feeds in self.request.calibration or ():
            for name, array in feeds.items():
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    return f'Remove NaN and infinity from the calibration data of input "{name}"'
        return ""


class _Reader:
    """Hands calibration feeds to the tool, which asks for one after the other until ``None``."""

    def __init__(self, feeds: Iterable[Feeds]) -> None:
        self._feeds: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        feeds = next(self._feeds, None)
        return None if feeds is None else dict(feeds)


def _preprocess(source: Path, target: Path, folder: Path, report: Report) -> None:
    """Write ``source`` with shapes inferred and the graph optimized, as far as the tools can.

    A float16 model becomes a float32 one between its inputs and outputs: the CPU has no float16
    kernels, so the first pass inserts casts, and the second folds those of the weights away.

    Raises:
        ModelError: not even the plainest preparation works.
    """
    if read_structure(source).weight_elements.get("float16"):
        cast = folder / "cast.onnx"
        _preprocess_once(source, cast, report)
        report.add("float16 weights were converted to float32, which the CPU computes in")
        source = cast
    _preprocess_once(source, target, report)


def _preprocess_once(source: Path, target: Path, report: Report) -> None:
    failures: list[Exception] = []
    attempts: list[tuple[str, dict[str, bool]]] = [
        ("", {}),
        ("without symbolic shape inference", {"skip_symbolic_shape": True}),
        ("without shape inference", {"skip_symbolic_shape": True, "skip_onnx_shape": True}),
    ]
    if importlib.util.find_spec("sympy") is None:
        failures.append(ImportError("sympy is not installed"))
        del attempts[0]
    for how, skipped in attempts:
        try:
            quant_pre_process(
                source,
                target,
                save_as_external_data=_is_large(source),
                all_tensors_to_one_file=True,
                external_data_location=f"{target.name}.data",
                **skipped,
            )
        except MemoryError:
            raise
        except Exception as error:  # the tools raise whatever their helpers do
            failures.append(error)
            continue
        if how:
            report.add(f"prepared {how}: {one_line(failures[-1])}")
        return
    raise ModelError(
        f"onnxruntime cannot prepare the model: {one_line(failures[-1])}", where=str(source)
    ) from failures[-1]


def _import_opsets_once(path: Path) -> None:
    """Drop repeated imports of one opset, which skl2onnx writes and the quantizer refuses."""
    model = onnx.load(path, load_external_data=False)
    imports = {(entry.domain, entry.version): entry for entry in model.opset_import}
    if len(imports) < len(model.opset_import):
        unique = list(imports.values())
        del model.opset_import[:]
        model.opset_import.extend(unique)
        onnx.save(model, path)


def _is_large(source: Path) -> bool:
    return read_structure(source).size_bytes > _LARGE_BYTES
