"""ONNX Runtime's own tools: full-precision conversion, static and dynamic quantization.

The steps follow https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import ModelError, did_you_mean
from pytest_edgeai.optimize.frameworks.base import (
    Feeds,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.optimize.frameworks.onnx_pruning import with_pruned_source
from pytest_edgeai.optimize.frameworks.onnxruntime_prepare import (
    import_opsets_once,
    is_large,
    name_nodes,
    names_of,
    preprocess,
    with_named_nodes,
    with_new_opset,
)
from pytest_edgeai.optimize.frameworks.onnxruntime_weights import (
    ACCURACY_LEVELS,
    BLOCK_SIZES,
    WEIGHT_BITS,
    quantize_weights,
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
    prune_ratio,
)

TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
METHODS = {
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
class Settings:
    """Options of the quantization schemes; those of the other schemes keep their defaults."""

    op_types: list[str]
    nodes_to_exclude: list[str]
    per_channel: bool = False
    weight_type: str = "int8"
    reduce_range: bool = False
    activation_type: str = "uint8"
    calibrate_method: str = "minmax"
    percentile: float = 99.999
    symmetric_activations: bool = False
    moving_average: bool = False
    calibration_calls: int = DEFAULT_CALIBRATION_CALLS
    block_size: int = 32
    symmetric: bool = True
    accuracy_level: int = 4


def optimize(request: OptimizeRequest, progress: Progress) -> OptimizeResult:
    """Make one artifact, ``model.onnx``, with ``model.onnx.data`` beside it where it is large.

    Schemes: ``convert`` (graph optimizations and shapes, no change of precision), ``int8-static``
    (QDQ), ``int8-dynamic``, and ``int8-weights`` and ``int4-weights`` (weights of matrix products
    alone, in blocks). With ``prune_ratio`` output channels are removed first, see
    :mod:`pytest_edgeai.optimize.frameworks.onnx_pruning`.

    Raises:
        ModelError: the tools cannot take this model or recipe; says why.
    """
    options = Options(request.recipe)
    settings = read_settings(options, request)
    ratio = prune_ratio(options)
    options.finish()
    artifact = request.output / "model.onnx"
    with Report() as report, tempfile.TemporaryDirectory(prefix="onnxruntime-") as folder:
        progress("optimizing the graph", 0.0)
        request = with_pruned_source(request, ratio, Path(folder), report)
        if settings is None:
            preprocess(request.source, artifact, Path(folder), report)
        else:
            Steps(request, settings, artifact, Path(folder), report, progress).quantize()
        progress("done", 1.0)
    return OptimizeResult(artifact, tuple(report.lines))


def read_settings(options: Options, request: OptimizeRequest) -> Settings | None:
    """Read the options of the recipe's scheme; ``None`` for ``convert``, which has none.

    Raises:
        ModelError: there is no such scheme, or an option has a wrong value.
    """
    scheme = request.recipe.scheme
    readers = {
        "convert": None,
        "int8-static": _static_settings,
        "int8-dynamic": _dynamic_settings,
        "int8-weights": _weight_settings,
        "int4-weights": _weight_settings,
    }
    if scheme not in readers:
        raise ModelError(
            f'onnxruntime has no scheme "{scheme}"',
            allowed=", ".join(readers),
            advice=did_you_mean(scheme, readers),
        )
    reader = readers[scheme]
    return None if reader is None else reader(options, request)


def _static_settings(options: Options, request: OptimizeRequest) -> Settings:
    is_transformer = request.architecture in TRANSFORMERS
    return Settings(
        per_channel=options.flag("per_channel", True),
        weight_type=options.choice("weight_type", "int8", tuple(TYPES)),
        reduce_range=options.flag("reduce_range", False),
        op_types=options.names("op_types", _TRANSFORMER_OPERATORS if is_transformer else ()),
        nodes_to_exclude=options.names("nodes_to_exclude"),
        activation_type=options.choice("activation_type", "uint8", tuple(TYPES)),
        calibrate_method=options.choice("calibrate_method", "minmax", tuple(METHODS)),
        percentile=options.number("percentile", 99.999, 50.0, 100.0),
        symmetric_activations=options.flag("symmetric_activations", False),
        moving_average=options.flag("moving_average", False),
        calibration_calls=options.count("calibration_calls", DEFAULT_CALIBRATION_CALLS),
    )


def _dynamic_settings(options: Options, request: OptimizeRequest) -> Settings:
    return Settings(
        per_channel=options.flag("per_channel", True),
        weight_type=options.choice("weight_type", "int8", tuple(TYPES)),
        reduce_range=options.flag("reduce_range", False),
        op_types=options.names("op_types", _DYNAMIC_OPERATORS),
        nodes_to_exclude=options.names("nodes_to_exclude"),
    )


def _weight_settings(options: Options, request: OptimizeRequest) -> Settings:
    return Settings(
        op_types=["MatMul", "Gemm"],
        nodes_to_exclude=options.names("nodes_to_exclude"),
        block_size=options.size("block_size", 32, BLOCK_SIZES),
        symmetric=options.flag("symmetric", True),
        accuracy_level=options.size("accuracy_level", 4, ACCURACY_LEVELS),
    )


@dataclass(frozen=True)
class Steps:
    """Quantizes one model."""

    request: OptimizeRequest
    settings: Settings
    artifact: Path
    folder: Path
    report: Report
    progress: Progress

    def quantize(self) -> None:
        """Make the artifact.

        Raises:
            ModelError: the tools cannot, or quantized nothing.
        """
        is_static = self.request.recipe.scheme == "int8-static"
        calibration = (
            calibration_of(self.request, self.settings.calibration_calls, self.progress, 0.2, 0.8)
            if is_static
            else None
        )
        prepared = self.prepare()
        self._check_excluded(prepared)
        self.progress("quantizing", 0.2)
        if self.request.recipe.scheme in WEIGHT_BITS:
            self._weights(prepared)
        elif calibration is None:
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

    def prepare(self) -> Path:
        """Return the graph that is quantized: optimized, with shapes and a name for each node."""
        source = with_named_nodes(self.request.source, self.folder)
        if self.settings.per_channel:
            source = with_new_opset(source, self.folder, self.report)
        prepared = self.folder / "prepared.onnx"
        preprocess(source, prepared, self.folder, self.report)
        import_opsets_once(prepared)
        name_nodes(prepared)
        return prepared

    def _weights(self, prepared: Path) -> None:
        settings = self.settings
        try:
            model = quantize_weights(
                onnx.load(prepared),
                WEIGHT_BITS[self.request.recipe.scheme],
                settings.block_size,
                symmetric=settings.symmetric,
                accuracy_level=settings.accuracy_level,
                excluded=names_of(settings.nodes_to_exclude),
            )
        except Exception as error:
            raise self.failed(error) from error
        onnx.save(
            model,
            self.artifact,
            save_as_external_data=is_large(prepared),
            location=f"{self.artifact.name}.data",
        )

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
        try:
            self.quantize_dynamically(prepared, self.artifact)
        except Exception as error:
            raise self.failed(error) from error

    def quantize_dynamically(
        self, prepared: Path, target: Path, only: Sequence[str] | None = None
    ) -> None:
        """Quantize every node of the types, or some of them alone, that is not excluded."""
        settings = self.settings
        # The tool turns every Gemm into MatMul and Add before it looks at the operator types.
        op_types = {"MatMul" if name == "Gemm" else name for name in settings.op_types}
        quantize_dynamic(
            prepared,
            target,
            op_types_to_quantize=sorted(op_types),
            per_channel=settings.per_channel,
            reduce_range=settings.reduce_range,
            weight_type=TYPES[settings.weight_type],
            nodes_to_quantize=None if only is None else names_of(only),
            nodes_to_exclude=names_of(settings.nodes_to_exclude),
            use_external_data_format=is_large(prepared),
        )

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
                    raise self.failed(error) from error
                self.report.add(f"quantizing failed: {one_line(error)}")
            except Exception as error:
                raise self.failed(error) from error
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
            CalibrationReader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=settings.op_types or None,
            per_channel=per_channel,
            reduce_range=settings.reduce_range,
            activation_type=TYPES[settings.activation_type],
            weight_type=TYPES[settings.weight_type],
            nodes_to_exclude=settings.nodes_to_exclude,
            use_external_data_format=is_large(prepared),
            calibrate_method=METHODS[settings.calibrate_method],
            extra_options={
                "ActivationSymmetric": settings.symmetric_activations,
                "CalibMovingAverage": settings.moving_average,
                "CalibPercentile": settings.percentile,
                **extra,
            },
        )

    def failed(self, error: Exception) -> ModelError | MemoryError:
        """Return the one clear line for what a tool raised."""
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


class CalibrationReader:
    """Hands calibration feeds to the tool, which asks for one after the other until ``None``."""

    def __init__(self, feeds: Iterable[Feeds]) -> None:
        self._feeds: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next feeds; ``None`` after the last ones."""
        feeds = next(self._feeds, None)
        return None if feeds is None else dict(feeds)
