"""Structured pruning of ONNX files: output channels of layers are removed, by the least L1 norm.

Li, Kadav, Durdanovic, Samet and Graf (2017), "Pruning Filters for Efficient ConvNets", ICLR,
section 3: within each layer the filters whose weights have the least sum of absolute values go,
with the feature maps they make and the kernels that read those; the sums are taken over what
earlier layers left ("greedy", section 3.2). Nothing is trained afterwards.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import OptimizeRequest
from pytest_edgeai.optimize.frameworks.onnx_channels import Cut, Layer, layers, removable
from pytest_edgeai.optimize.frameworks.onnx_index import Array, Graph, NotRemovableError
from pytest_edgeai.optimize.frameworks.support import Report, one_line

# One protobuf message holds less than 2 GiB.
_LARGE_BYTES = 3 * 2**29


@dataclass(frozen=True)
class PrunedLayer:
    """What was removed of one layer.

    Attributes:
        name: of its node; that of its output where it has none.
        channels: output channels that it had.
        removed: the channels that were removed, in ascending order.
    """

    name: str
    channels: int
    removed: tuple[int, ...]


@dataclass(frozen=True)
class Pruning:
    """A pruned model.

    Attributes:
        model: the model.
        layers: the layers that lost channels, in the order of the graph.
        kept_whole: name of each further layer to why its channels stay.
        parameters_before: elements of all initializers.
        parameters_after: likewise.
    """

    model: onnx.ModelProto
    layers: tuple[PrunedLayer, ...]
    kept_whole: dict[str, str]
    parameters_before: int
    parameters_after: int

    def summary(self) -> str:
        """Return it in one line, for an artifact's log."""
        removed = sum(len(layer.removed) for layer in self.layers)
        return (
            f"pruned {removed} output channels of {len(self.layers)} of "
            f"{len(self.layers) + len(self.kept_whole)} layers: {self.parameters_before:,} "
            f"parameters became {self.parameters_after:,}; nothing was trained afterwards"
        )


def with_pruned_source(
    request: OptimizeRequest, ratio: float | None, folder: Path, report: Report
) -> OptimizeRequest:
    """Return a request for the pruned model, which is written into ``folder``.

    The request itself where ``ratio`` is ``None``.

    Raises:
        ModelError: no layer can lose channels, or the source is no ONNX file.
    """
    if ratio is None:
        return request
    target = folder / "pruned" / request.source.name
    target.parent.mkdir()
    report.add(prune_file(request.source, ratio, target).summary())
    return replace(request, source=target)


def prune_file(source: Path, ratio: float, target: Path) -> Pruning:
    """Write ``source`` with channels removed to ``target``.

    A large model gets one file of external data beside it.

    Raises:
        ModelError: no layer can lose channels, or the file is no ONNX model.
    """
    if source.suffix.lower() != ".onnx":
        raise ModelError('"prune_ratio" takes an ONNX file', where=str(source), allowed=".onnx")
    try:
        pruning = prune(onnx.load(source), ratio)
    except ModelError as error:
        raise ModelError(
            error.what, where=str(source), allowed=error.allowed, advice=error.advice
        ) from None
    is_large = read_structure(source).size_bytes > _LARGE_BYTES
    onnx.save(
        pruning.model,
        target,
        save_as_external_data=is_large,
        all_tensors_to_one_file=True,
        location=f"{target.name}.data",
    )
    return pruning


def prune(model: onnx.ModelProto, ratio: float) -> Pruning:
    """Remove ``ratio`` of the output channels of every layer whose channels can be removed.

    Rounded down to whole channels; one stays at least. Inputs and outputs of the model stay as they
    are, and so does the batch axis. The outputs are those of the model in which the weights that
    read a removed channel are zero.

    Args:
        model: weights included; it is changed.
        ratio: share of the channels, within `support.PRUNE_RATIOS`.

    Raises:
        ModelError: no layer can lose channels, or what came of it is no valid model.
    """
    _declare_weights_once(model)
    graph = Graph(_with_shapes(model))
    parameters = _parameters(model)
    found: list[Layer] = []
    whole: dict[str, str] = {}
    for index in layers(graph):
        try:
            layer = removable(graph, index)
            if int(layer.channels * ratio) == 0:
                raise NotRemovableError(f"{ratio:g} of {layer.channels} channels is none")
        except NotRemovableError as error:
            whole[_name(graph, index)] = str(error)
        else:
            found.append(layer)
    if not found:
        raise _nothing_to_prune(whole, ratio)
    edit = _Edit(graph)
    pruned = tuple(edit.remove(layer, int(layer.channels * ratio)) for layer in found)
    edit.finish(model)
    _check(model, graph.model)
    return Pruning(model, pruned, whole, parameters, _parameters(model))


def _nothing_to_prune(whole: dict[str, str], ratio: float) -> ModelError:
    reasons = Counter(whole.values()).most_common(4)
    why = "; ".join(f"{reason} ({count})" for reason, count in reasons)
    return ModelError(
        f'"prune_ratio" = {ratio:g}: no layer can lose output channels'
        + (f": {why}" if why else ", because it has no Conv, Gemm or MatMul with constant weights"),
        advice='Leave "prune_ratio" out for this model',
    )


def _name(graph: Graph, index: int) -> str:
    return str(graph.nodes[index].name or graph.nodes[index].output[0])


def _parameters(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)


def _declare_weights_once(model: onnx.ModelProto) -> None:
    """Drop initializers from the inputs, where IR versions before 4 list them with their shape."""
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    if len(inputs) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        model.ir_version = max(model.ir_version, 4)


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # the checker's own kind, ValueError above 2 GiB
        raise ModelError(
            f'"prune_ratio": the shapes of the model cannot be inferred: {one_line(error)}'
        ) from error


def _check(model: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Make sure that the pruned model is as valid as its source, shapes included.

    Raises:
        ModelError: it is not.
    """
    try:
        onnx.checker.check_model(model)
        fault = _shape_fault(model)
        if fault and not _shape_fault(source):
            raise ValueError(fault)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(
            f'"prune_ratio": pruning made no valid model: {one_line(error)}',
            advice='Leave "prune_ratio" out for this model',
        ) from error


def _shape_fault(model: onnx.ModelProto) -> str:
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        return one_line(error)
    return ""


class _Edit:
    """Removes channels from constants; the graph's indices stay valid until the end."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._changed: dict[tuple[int, int], Array] = {}
        self._groups: dict[int, int] = {}

    def remove(self, layer: Layer, count: int) -> PrunedLayer:
        """Remove the ``count`` channels whose weights are the least, and what reads them."""
        weights = np.moveaxis(self._value(layer.weight), layer.weight.place.axis, 0)
        norms = np.abs(weights.astype(np.float64)).reshape(layer.channels, -1).sum(axis=1)
        removed = np.sort(np.argsort(norms, kind="stable")[:count])
        kept = np.setdiff1d(np.arange(layer.channels), removed)
        for cut in layer.cuts:
            value, place = self._value(cut), cut.place
            positions = (kept[:, None] * place.block + np.arange(place.block)).reshape(-1)
            self._changed[cut.node, cut.slot] = np.take(value, positions, axis=place.axis)
        for node, block in layer.depthwise:
            self._groups[node] = len(kept) * block
        for node, values in layer.flattened:
            target = self._value(Cut(node, 1, layer.weight.place)).copy()
            target[1] = len(kept) * values
            self._changed[node, 1] = target
        return PrunedLayer(_name(self._graph, layer.node), layer.channels, tuple(removed.tolist()))

    def finish(self, model: onnx.ModelProto) -> None:
        """Write what changed into ``model``, and drop what nothing reads any more."""
        nodes = model.graph.node
        for index, groups in self._groups.items():
            for attribute in nodes[index].attribute:
                if attribute.name == "group":
                    attribute.i = groups
        taken = {tensor.name for tensor in model.graph.initializer} | set(self._graph.readers)
        for number, ((index, slot), value) in enumerate(self._changed.items()):
            name = f"{nodes[index].input[slot]}_pruned_{number}"
            while name in taken:
                name += "_"
            model.graph.initializer.append(numpy_helper.from_array(value, name))
            nodes[index].input[slot] = name
        del model.graph.value_info[:]
        read = {name for node in nodes for name in node.input} | self._graph.captured
        read |= self._graph.outputs
        tensors = model.graph.initializer
        for number in reversed(range(len(tensors))):
            if tensors[number].name not in read:
                del tensors[number]
        for number in reversed(range(len(nodes))):
            if nodes[number].op_type == "Constant" and nodes[number].output[0] not in read:
                del nodes[number]

    def _value(self, cut: Cut) -> Array:
        key = (cut.node, cut.slot)
        if key not in self._changed:
            value = self._graph.constant(self._graph.nodes[cut.node].input[cut.slot])
            assert value is not None
            return value
        return self._changed[key]
