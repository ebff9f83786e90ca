"""What quantizing each layer does to a model's outputs, by ONNX Runtime's own quantizers.

Each model is made by the tool itself, told to quantize some nodes alone (``nodes_to_quantize``),
with ranges that are calibrated once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import QDQQuantizer
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import (
    Calibration,
    Feeds,
    OptimizeRequest,
    Progress,
)
from pytest_edgeai.optimize.frameworks.onnx_pruning import with_pruned_source
from pytest_edgeai.optimize.frameworks.onnxruntime_optimize import (
    METHODS,
    TYPES,
    CalibrationReader,
    Steps,
    read_settings,
)
from pytest_edgeai.optimize.frameworks.onnxruntime_prepare import is_large, names_of
from pytest_edgeai.optimize.frameworks.onnxruntime_weights import WEIGHT_BITS, quantize_weights
from pytest_edgeai.optimize.frameworks.sensitivity import (
    NoiseReport,
    noise_ratio,
    rank_layers,
    run_calls,
)
from pytest_edgeai.optimize.frameworks.support import (
    Options,
    Report,
    calibration_of,
    prune_ratio,
)

Run = Callable[[Feeds], Mapping[str, NDArray[Any]]]
Make = Callable[[Sequence[str]], onnx.ModelProto | Path]
"""Returns the model with some layers quantized, and no others."""

# They hand their data on: quantized in passing, without an error of their own.
_PASSING = frozenset(
    {
        *("DepthToSpace", "Expand", "Flatten", "Identity", "MaxPool", "Pad", "Reshape", "Slice"),
        *("SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)


def layer_noise(
    request: OptimizeRequest, samples: Calibration, time_box_s: float, progress: Progress
) -> NoiseReport:
    """See :class:`pytest_edgeai.optimize.frameworks.sensitivity.LayerMeasuringFramework`."""
    options = Options(request.recipe)
    settings = read_settings(options, request)
    ratio = prune_ratio(options)
    options.finish()
    if settings is None:
        raise ModelError(
            f'"{request.recipe.scheme}" quantizes nothing', where=f"recipe {request.recipe.id}"
        )
    with Report() as report, tempfile.TemporaryDirectory(prefix="onnxruntime-") as name:
        folder = Path(name)
        request = with_pruned_source(request, ratio, folder, report)
        steps = Steps(request, settings, folder / "quantized.onnx", folder, report, progress)
        prepared = steps.prepare()
        if is_large(prepared):
            raise ModelError(
                "layers of models above 1.5 GiB are not measured one by one",
                where=str(request.source),
            )
        try:
            return _measure(steps, prepared, samples, time_box_s)
        except Exception as error:  # the tools raise whatever their helpers do
            raise steps.failed(error) from error


def _measure(steps: Steps, prepared: Path, samples: Calibration, time_box_s: float) -> NoiseReport:
    whole = onnx.load(prepared)
    scheme = steps.request.recipe.scheme
    kinds = set(steps.settings.op_types)
    candidates = [
        node.name
        for node in whole.graph.node
        if (node.op_type in kinds if kinds else node.op_type not in _PASSING)
        and node.name not in steps.settings.nodes_to_exclude
    ]
    if scheme == "int8-static":
        make, quantized = _static(steps, prepared)
    elif scheme == "int8-dynamic":
        make, quantized = _dynamic(steps, prepared), _changed(whole)
    else:
        make, quantized = _weights(steps, prepared, candidates), _changed(whole)
    everything = make(candidates)
    made = onnx.load(everything) if isinstance(everything, Path) else everything
    layers = list(dict.fromkeys(name for name in candidates if quantized(made, name)))
    if not layers:
        raise ModelError("no operator is quantized", where=f"recipe {steps.request.recipe.id}")
    reference = run_calls(_run(prepared), samples)
    all_layers = noise_ratio(reference, _run(everything), samples)
    found, count = rank_layers(
        layers,
        lambda names: noise_ratio(reference, _run(make(names)), samples),
        time_box_s,
        steps.progress,
    )
    return NoiseReport(found, all_layers, len(reference), count + 1)


def _run(model: onnx.ModelProto | Path) -> Run:
    """Load a model with every core there is; what it computes does not depend on their number."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(feeds: Feeds) -> Mapping[str, NDArray[Any]]:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))

    return run


Quantized = Callable[[onnx.ModelProto, str], bool]
"""Whether a node of the prepared graph is quantized in a model."""


def _static(steps: Steps, prepared: Path) -> tuple[Make, Quantized]:
    settings = steps.settings
    kinds = settings.op_types or sorted({*QDQRegistry, *QLinearOpsRegistry})
    calibrator = create_calibrator(
        prepared,
        kinds,
        augmented_model_path=str(steps.folder / "augmented.onnx"),
        calibrate_method=METHODS[settings.calibrate_method],
        extra_options={
            "moving_average": settings.moving_average,
            "percentile": settings.percentile,
        },
    )
    calibration = calibration_of(
        steps.request, settings.calibration_calls, steps.progress, 0.0, 0.0
    )
    calibrator.collect_data(CalibrationReader(calibration))
    ranges = calibrator.compute_data()
    # Marked as such, so that the quantizer does not infer them for each layer again.
    inferred = load_model_with_shape_infer(prepared)

    def make(names: Sequence[str]) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(inferred)
        quantizer = QDQQuantizer(
            copy,
            settings.per_channel,
            settings.reduce_range,
            TYPES[settings.weight_type],
            TYPES[settings.activation_type],
            ranges,
            list(names),
            list(settings.nodes_to_exclude),
            kinds,
            {
                "ActivationSymmetric": settings.symmetric_activations,
                # The adjustment fails for some biases, see Steps, and alters a scale a little.
                "QDQDisableWeightAdjustForInt32Bias": True,
            },
        )
        quantizer.quantize_model()
        made: onnx.ModelProto = quantizer.model.model
        return made

    def quantized(model: onnx.ModelProto, name: str) -> bool:
        dequantized = {
            output
            for node in model.graph.node
            if node.op_type == "DequantizeLinear"
            for output in node.output
        }
        return any(node.name == name and dequantized & set(node.input) for node in model.graph.node)

    return make, quantized


def _dynamic(steps: Steps, prepared: Path) -> Make:
    def make(names: Sequence[str]) -> Path:
        steps.quantize_dynamically(prepared, steps.artifact, names)
        return steps.artifact

    return make


def _weights(steps: Steps, prepared: Path, candidates: Sequence[str]) -> Make:
    settings = steps.settings

    def make(names: Sequence[str]) -> onnx.ModelProto:
        others = [name for name in candidates if name not in names]
        return quantize_weights(
            onnx.load(prepared),
            WEIGHT_BITS[steps.request.recipe.scheme],
            settings.block_size,
            symmetric=settings.symmetric,
            accuracy_level=settings.accuracy_level,
            excluded=names_of([*others, *settings.nodes_to_exclude]),
        )

    return make


def _changed(whole: onnx.ModelProto) -> Quantized:
    """Return a test for nodes that a quantizer put others in the place of."""
    kinds = {
        node.name: "MatMul" if node.op_type == "Gemm" else node.op_type for node in whole.graph.node
    }
    inputs = {node.name: list(node.input) for node in whole.graph.node}

    def quantized(model: onnx.ModelProto, name: str) -> bool:
        for node in model.graph.node:
            if node.name in names_of([name]) and node.op_type == kinds[name]:
                return kinds[name] != "MatMul" and list(node.input) != inputs[name]
        return True

    return quantized
