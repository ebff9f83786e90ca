"""What quantizing each layer does to a model's outputs, with NNCF's own quantizers.

The model is quantized once. Then, for each layer, all quantizers but those of its inputs and
weights are taken out again (``int8-static``), or its weights alone are compressed
(``int8-weights``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nncf
import openvino
from numpy.typing import NDArray
from openvino import opset13

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import (
    Calibration,
    Feeds,
    OptimizeRequest,
    Progress,
)
from pytest_edgeai.optimize.frameworks.openvino import OpenVINOModel, output_names
from pytest_edgeai.optimize.frameworks.openvino_optimize import (
    MODES,
    StaticSettings,
    convert,
    failed,
    ignored_scope,
    nothing_done,
    with_pruning,
)
from pytest_edgeai.optimize.frameworks.sensitivity import (
    NoiseReport,
    noise_ratio,
    rank_layers,
    run_calls,
)
from pytest_edgeai.optimize.frameworks.support import Options, Report, calibration_of
from pytest_edgeai.records import RuntimeOptions

Make = Callable[[Sequence[str]], openvino.Model]
"""Returns the model with some layers quantized, and no others."""

_QUANTIZER = "FakeQuantize"
# They hand their data on: a quantizer before them is one behind them.
_PASSING = frozenset(
    {
        *("Broadcast", "DepthToSpace", "MaxPool", "Pad", "Reshape", "SpaceToDepth", "Squeeze"),
        *("StridedSlice", "Slice", "Split", "VariadicSplit", "Tile", "Transpose", "Unsqueeze"),
    }
)
_NO_LAYERS = _PASSING | {"Constant", "Convert", "Parameter", "Result", "ShapeOf", _QUANTIZER}
_DECOMPRESSION = frozenset({"Convert", "Multiply", "Reshape", "Subtract"})


def layer_noise(
    core: openvino.Core,
    request: OptimizeRequest,
    samples: Calibration,
    time_box_s: float,
    progress: Progress,
) -> NoiseReport:
    """See :class:`pytest_edgeai.optimize.frameworks.sensitivity.LayerMeasuringFramework`."""
    makers = {"int8-static": _static, "int8-weights": _weights}
    if request.recipe.scheme not in makers or request.source.is_dir():
        raise ModelError(
            f'the layers of "{request.recipe.scheme}" are not measured one by one',
            where=f"recipe {request.recipe.id}",
            allowed=f"{', '.join(makers)} of ONNX files and OpenVINO models",
        )
    with (
        Report(("", "nncf", "openvino")) as report,
        tempfile.TemporaryDirectory(prefix="openvino-") as folder,
    ):
        options = Options(request.recipe)
        request = with_pruning(request, options, Path(folder), report)
        model = convert(core, request.source)
        names = output_names(request.source, model)

        def run(made: openvino.Model) -> Callable[[Feeds], Mapping[str, NDArray[Any]]]:
            where = request.source.as_posix()
            return OpenVINOModel(core, made, RuntimeOptions(threads=0), names, where).run

        reference = run_calls(run(model), samples)
        try:
            layers, make = makers[request.recipe.scheme](model, options, request, progress)
            # Names that the converter makes up differ from time to time, so that no option can
            # name such a layer.
            again = {each.get_friendly_name() for each in convert(core, request.source).get_ops()}
            layers = [name for name in layers if name in again]
            if not layers:
                raise nothing_done(model, request)
            all_layers = noise_ratio(reference, run(make(layers)), samples)
            found, count = rank_layers(
                layers,
                lambda chosen: noise_ratio(reference, run(make(chosen)), samples),
                time_box_s,
                progress,
            )
        except Exception as error:  # NNCF's kinds have no common base
            raise failed(error, request) from error
    return NoiseReport(found, all_layers, len(reference), count + 1)


@dataclass(frozen=True)
class _Input:
    """A quantized input of a layer.

    Attributes:
        port: its number.
        quantizer: name of the quantizer that it reads.
        is_weight: whether what is quantized is constant.
    """

    port: int
    quantizer: str
    is_weight: bool


def _static(
    model: openvino.Model, options: Options, request: OptimizeRequest, progress: Progress
) -> tuple[list[str], Make]:
    settings = StaticSettings.read(options, request)
    options.finish()
    calibration = calibration_of(request, settings.calibration_calls, progress, 0.0, 0.0)
    # Weights as numbers behind a quantizer, which can be taken out, instead of as integers.
    advanced = nncf.AdvancedQuantizationParameters(backend_params={"compress_weights": False})
    quantized = settings.quantize(model.clone(), calibration, advanced)
    inputs = {
        operator.get_friendly_name(): found
        for operator in quantized.get_ordered_ops()
        if operator.get_type_name() not in _NO_LAYERS and (found := _quantized_inputs(operator))
    }
    biases = _changed_constants(model, quantized)

    def make(names: Sequence[str]) -> openvino.Model:
        made = quantized.clone()
        operators = {each.get_friendly_name(): each for each in made.get_ops()}
        chosen = {name: inputs[name] for name in names}
        kept = {each.quantizer for found in chosen.values() for each in found if each.is_weight}
        for name, found in chosen.items():
            for each in found:
                if not each.is_weight:
                    _quantize_port(operators[name].input(each.port), operators[each.quantizer])
        for operator in operators.values():
            if operator.get_type_name() == _QUANTIZER and operator.get_friendly_name() not in kept:
                operator.output(0).replace(operator.input_value(0))
        for bias in biases:
            if bias.layer not in chosen:
                constant = opset13.constant(bias.value)
                operators[bias.name].input(bias.port).replace_source_output(constant.output(0))
        made.validate_nodes_and_infer_types()
        return made

    return list(inputs), make


def _quantize_port(port: Any, quantizer: Any) -> None:
    """Put a copy of a quantizer right before one input."""
    limits = [quantizer.input_value(number) for number in range(1, 5)]
    levels = quantizer.get_attributes()["levels"]
    copy = opset13.fake_quantize(port.get_source_output(), *limits, levels)
    port.replace_source_output(copy.output(0))


def _quantized_inputs(operator: Any) -> list[_Input]:
    found = []
    for number, port in enumerate(operator.inputs()):
        source = port.get_source_output().get_node()
        passed = False
        while source.get_type_name() in _PASSING:
            source, passed = source.input_value(0).get_node(), True
        if source.get_type_name() != _QUANTIZER:
            continue
        is_weight = _is_constant(source.input_value(0).get_node())
        limits = source.input_value(1).get_shape()
        if passed and not is_weight and any(axis != 1 for axis in limits):
            continue  # a range for each channel, which lie elsewhere here
        found.append(_Input(number, source.get_friendly_name(), is_weight))
    return found


def _is_constant(node: Any) -> bool:
    """Return whether constants alone lie behind a node, close by."""
    waiting = [node]
    while waiting:
        each = waiting.pop()
        kind = each.get_type_name()
        if kind in _DECOMPRESSION or kind == "Transpose":
            waiting += [value.get_node() for value in each.input_values()]
        elif kind != "Constant":
            return False
    return True


@dataclass(frozen=True)
class _Bias:
    """A constant that quantizing changed, as bias correction does.

    Attributes:
        name: the operator that adds it.
        port: which of its inputs it is.
        layer: the layer whose output it is added to.
        value: what it was.
    """

    name: str
    port: int
    layer: str
    value: NDArray[Any]


def _changed_constants(model: openvino.Model, quantized: openvino.Model) -> list[_Bias]:
    before = {each.get_friendly_name(): each for each in model.get_ops()}
    changed = []
    for operator in quantized.get_ops():
        source = before.get(operator.get_friendly_name())
        if operator.get_type_name() != "Add" or source is None:
            continue
        nodes = [value.get_node() for value in operator.input_values()]
        for port, node in enumerate(nodes):
            old = source.input_value(port).get_node()
            if {node.get_type_name(), old.get_type_name()} != {"Constant"}:
                continue
            value = old.data.copy()
            if value.shape != node.data.shape or (value == node.data).all():
                continue
            changed.append(
                _Bias(operator.get_friendly_name(), port, _layer_of(nodes[1 - port]), value)
            )
    return changed


def _layer_of(node: Any) -> str:
    while node.get_type_name() in _PASSING or node.get_type_name() == _QUANTIZER:
        node = node.input_value(0).get_node()
    return str(node.get_friendly_name())


def _weights(
    model: openvino.Model, options: Options, request: OptimizeRequest, progress: Progress
) -> tuple[list[str], Make]:
    mode = MODES[options.choice("mode", "int8_asym", [*MODES])]
    scope = ignored_scope(options)
    options.finish()
    compressed = nncf.compress_weights(model.clone(), mode=mode, ignored_scope=scope)
    layers = [
        operator.get_friendly_name()
        for operator in compressed.get_ordered_ops()
        if operator.get_type_name() not in _DECOMPRESSION | _NO_LAYERS
        and any(_is_decompressed(value.get_node()) for value in operator.input_values())
    ]

    def make(names: Sequence[str]) -> openvino.Model:
        others = [name for name in layers if name not in set(names)]
        return nncf.compress_weights(model.clone(), mode=mode, ignored_scope=_also(scope, others))

    return layers, make


def _is_decompressed(node: Any) -> bool:
    """Return whether constants alone lie behind a node, one of them of 8 bits."""
    waiting, found = [node], False
    while waiting:
        each = waiting.pop()
        kind = each.get_type_name()
        if kind == "Constant":
            found |= each.get_element_type() in (openvino.Type.u8, openvino.Type.i8)
        elif kind in _DECOMPRESSION:
            waiting += [value.get_node() for value in each.input_values()]
        else:
            return False
    return found


def _also(scope: nncf.IgnoredScope | None, names: Iterable[str]) -> nncf.IgnoredScope | None:
    kept = [*(scope.names if scope else ()), *names]
    if scope is None:
        return nncf.IgnoredScope(names=kept) if kept else None
    return nncf.IgnoredScope(names=kept, types=scope.types, patterns=scope.patterns)
