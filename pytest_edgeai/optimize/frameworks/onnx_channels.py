"""Which places of an ONNX graph hold one channel of a layer's output, as far as can be proven.

A layer's output channel can be removed where everything that reads it is known: operators that
work channel by channel pass it on, and a layer that sums over channels ends it. Anything else (a
residual sum, a concatenation, a reshape of unknown effect, an output of the model) keeps the layer
whole.

Operators by https://onnx.ai/onnx/operators, domain ai.onnx alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pytest_edgeai.optimize.frameworks.onnx_index import Array, Graph, NotRemovableError

_UNARY = frozenset(
    {
        *("Abs", "Cast", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu"),
        *("HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal"),
        *("Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Swish"),
        *("Tanh", "ThresholdedRelu"),
    }
)
_BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "PRelu", "Sub"})
_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool"})
_REDUCTIONS = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceL2"})


@dataclass(frozen=True)
class Place:
    """Where the channels of a layer lie in a tensor.

    Attributes:
        axis: the axis, counted from 0.
        block: consecutive positions that belong to one channel.
    """

    axis: int
    block: int = 1


@dataclass(frozen=True)
class Cut:
    """One constant that holds values by channel.

    Attributes:
        node: index of the node that reads it.
        slot: which of its inputs.
        place: where the channels lie in it.
    """

    node: int
    slot: int
    place: Place


@dataclass(frozen=True)
class Layer:
    """A layer whose output channels can be removed.

    Attributes:
        node: index of the node that makes them.
        channels: how many.
        weight: where its weights lie: the constant and the axis of its output channels.
        cuts: every constant that loses values with a channel, those of the layer first.
        depthwise: indices of convolutions with a group for each value that a channel has, with
            the number of those values.
        flattened: indices of Reshapes that name the number of flattened values, with the values by
            channel.
    """

    node: int
    channels: int
    weight: Cut
    cuts: tuple[Cut, ...]
    depthwise: tuple[tuple[int, int], ...] = ()
    flattened: tuple[tuple[int, int], ...] = ()


@dataclass
class _Trace:
    """Follows the channels of one layer through everything that reads them."""

    graph: Graph
    places: dict[str, Place] = field(default_factory=dict)
    cuts: list[Cut] = field(default_factory=list)
    depthwise: list[tuple[int, int]] = field(default_factory=list)
    flattened: list[tuple[int, int]] = field(default_factory=list)
    channels: int = 0

    def follow(self, tensor: str, place: Place) -> None:
        """Visit every reader of ``tensor``, and of what they make of it.

        Raises:
            NotRemovableError: a reader needs all channels, or is not known.
        """
        joined: set[int] = set()
        waiting = [tensor]
        self.places[tensor] = place
        while waiting:
            name = waiting.pop()
            if name in self.graph.outputs:
                raise NotRemovableError("an output of the model holds its channels")
            if name in self.graph.captured:
                raise NotRemovableError("a nested graph reads it")
            for index, slot in self.graph.readers[name]:
                node = self.graph.nodes[index]
                if node.domain not in ("", "ai.onnx"):
                    raise NotRemovableError(f"{node.domain}.{node.op_type} reads it")
                made = self._read(index, slot, name)
                if node.op_type in _BINARY:
                    joined.add(index)
                if made is None:
                    continue
                output = node.output[0]
                if any(node.output[1:]):
                    raise NotRemovableError(f"{node.op_type} has a second output")
                if output not in self.places:
                    self.places[output] = made
                    waiting.append(output)
                elif self.places[output] != made:
                    raise NotRemovableError(f"{node.op_type} mixes its channels")
        for index in joined:
            for name in self.graph.nodes[index].input:
                if name not in self.places and self.graph.constant(name) is None:
                    raise NotRemovableError(
                        f"{self.graph.nodes[index].op_type} joins it with another layer"
                    )

    def _read(self, index: int, slot: int, name: str) -> Place | None:
        """Return where the channels lie in a node's output; ``None`` where they end there."""
        kind = self.graph.nodes[index].op_type
        place = self.places[name]
        if kind in _BINARY:
            return self._binary(index, slot, place)
        if slot != 0:
            raise NotRemovableError(f"{kind} takes it as a parameter")
        if kind in _UNARY:
            return place
        reader: Callable[[int, Place], Place | None] | None = {
            **dict.fromkeys(_POOLS, self._pool),
            **dict.fromkeys(_REDUCTIONS, self._reduction),
            "BatchNormalization": self._normalization,
            "InstanceNormalization": self._normalization,
            "Conv": self._convolution,
            "ConvTranspose": self._transposed_convolution,
            "Flatten": self._flatten,
            "Gemm": self._gemm,
            "MatMul": self._matmul,
            "Pad": self._pad,
            "Reshape": self._reshape,
            "Squeeze": self._squeeze,
            "Transpose": self._transpose,
            "Unsqueeze": self._unsqueeze,
        }.get(kind)
        if reader is None:
            raise NotRemovableError(f"{kind} reads it")
        return reader(index, place)

    def _size(self, place: Place) -> int:
        return self.channels * place.block

    def _input(self, index: int, slot: int = 0) -> str:
        return str(self.graph.nodes[index].input[slot])

    def _constant(self, index: int, slot: int) -> Array | None:
        """Return an input's constant; ``None`` where the input is left out.

        Raises:
            NotRemovableError: it is computed.
        """
        inputs = self.graph.nodes[index].input
        if slot >= len(inputs) or not inputs[slot]:
            return None
        value = self.graph.constant(inputs[slot])
        if value is None:
            raise NotRemovableError(f"{self.graph.nodes[index].op_type} computes its parameters")
        return value

    def _cut(self, index: int, slot: int, place: Place) -> None:
        value = self._constant(index, slot)
        assert value is not None
        if value.ndim <= place.axis or value.shape[place.axis] != self._size(place):
            raise NotRemovableError(
                f"a constant of {self.graph.nodes[index].op_type} has the shape {value.shape}"
            )
        self.cuts.append(Cut(index, slot, place))

    def _binary(self, index: int, slot: int, place: Place) -> Place:
        """Work element by element, with broadcasting from the last axis on."""
        node = self.graph.nodes[index]
        rank = len(self.graph.shape(node.input[slot]))
        others = [other for other in range(len(node.input)) if other != slot]
        ranks = [rank]
        for other in others:
            name = node.input[other]
            value = self.graph.constant(name)
            if value is None:
                ranks.append(len(self.graph.shape(name)))
                continue
            ranks.append(value.ndim)
            axis = value.ndim - (rank - place.axis)
            if axis >= 0 and value.shape[axis] != 1:
                self._cut(index, other, Place(axis, place.block))
        if node.op_type == "PRelu" and slot != 0:
            raise NotRemovableError("PRelu takes it as a slope")
        return Place(place.axis + max(ranks) - rank, place.block)

    def _pool(self, index: int, place: Place) -> Place:
        self._need_channel_axis(index, place)
        return place

    def _need_channel_axis(self, index: int, place: Place) -> None:
        if place.axis != 1:
            raise NotRemovableError(
                f"{self.graph.nodes[index].op_type} reads it along another axis"
            )

    def _normalization(self, index: int, place: Place) -> Place:
        self._need_channel_axis(index, place)
        if self.graph.attribute(index, "training_mode", 0):
            raise NotRemovableError("BatchNormalization is in training mode")
        for slot in range(1, len(self.graph.nodes[index].input)):
            self._cut(index, slot, Place(0, place.block))
        return place

    def _convolution(self, index: int, place: Place) -> Place | None:
        self._need_channel_axis(index, place)
        groups = self.graph.attribute(index, "group", 1)
        if groups == 1:
            self._cut(index, 1, Place(1, place.block))
            return None
        weight = self._constant(index, 1)
        if weight is None or groups != self._size(place) or weight.shape[0] % groups:
            raise NotRemovableError("a grouped convolution reads it")
        made = Place(1, place.block * (weight.shape[0] // groups))
        self._cut(index, 1, Place(0, made.block))
        if self._constant(index, 2) is not None:
            self._cut(index, 2, Place(0, made.block))
        self.depthwise.append((index, place.block))
        return made

    def _transposed_convolution(self, index: int, place: Place) -> None:
        self._need_channel_axis(index, place)
        if self.graph.attribute(index, "group", 1) != 1:
            raise NotRemovableError("a grouped convolution reads it")
        self._cut(index, 1, Place(0, place.block))

    def _gemm(self, index: int, place: Place) -> None:
        if self.graph.attribute(index, "transA", 0) or place.axis != 1:
            raise NotRemovableError("Gemm reads it along another axis")
        axis = 1 if self.graph.attribute(index, "transB", 0) else 0
        self._cut(index, 1, Place(axis, place.block))

    def _matmul(self, index: int, place: Place) -> None:
        weight = self._constant(index, 1)
        rank = len(self.graph.shape(self._input(index)))
        if weight is None or weight.ndim != 2 or place.axis != rank - 1:
            raise NotRemovableError("MatMul reads it along another axis")
        self._cut(index, 1, Place(0, place.block))

    def _flatten(self, index: int, place: Place) -> Place:
        if self.graph.attribute(index, "axis", 1) != 1 or place.axis != 1:
            raise NotRemovableError("Flatten mixes it with the batch")
        return Place(1, place.block * self._values_behind(index))

    def _values_behind(self, index: int) -> int:
        """Return how many values follow on the axes behind the second."""
        behind = self.graph.shape(self._input(index))[2:]
        known = [axis for axis in behind if axis is not None]
        if len(known) < len(behind):
            raise NotRemovableError("it is flattened with an open axis")
        return math.prod(known)

    def _reshape(self, index: int, place: Place) -> Place:
        """Take (N, C, ...) to (N, C * ...) alone, which is what flattening is exported as."""
        target = self._constant(index, 1)
        source = self.graph.shape(self._input(index))
        if target is None or target.size != 2 or place.axis != 1:
            raise NotRemovableError("Reshape has an unknown effect on it")
        behind = self._values_behind(index)
        rows, values = (int(axis) for axis in target)
        flat = self._size(place) * behind
        if values == flat and rows in (-1, 0, source[0]):
            # "-1, flat" and "N, flat" both leave the batch as it is.
            self.flattened.append((index, place.block * behind))
        elif values != -1 or (rows != 0 and rows != source[0]):
            raise NotRemovableError("Reshape has an unknown effect on it")
        return Place(1, place.block * behind)

    def _axes(self, index: int, rank: int) -> list[int]:
        axes = self.graph.attribute(index, "axes")
        if axes is None:
            found = self._constant(index, 1)
            axes = None if found is None else found.tolist()
        if axes is None or len(axes) == 0:
            raise NotRemovableError(f"{self.graph.nodes[index].op_type} names no axes")
        return [int(axis) % rank for axis in axes]

    def _reduction(self, index: int, place: Place) -> Place:
        rank = len(self.graph.shape(self._input(index)))
        axes = self._axes(index, rank)
        if place.axis in axes:
            raise NotRemovableError(f"{self.graph.nodes[index].op_type} mixes its channels")
        if self.graph.attribute(index, "keepdims", 1):
            return place
        return Place(place.axis - sum(axis < place.axis for axis in axes), place.block)

    def _squeeze(self, index: int, place: Place) -> Place:
        rank = len(self.graph.shape(self._input(index)))
        axes = self._axes(index, rank)
        return Place(place.axis - sum(axis < place.axis for axis in axes), place.block)

    def _unsqueeze(self, index: int, place: Place) -> Place:
        rank = len(self.graph.shape(self._input(index)))
        count = len(self._axes(index, rank))
        axis = place.axis
        for added in sorted(self._axes(index, rank + count)):
            axis += added <= axis
        return Place(axis, place.block)

    def _transpose(self, index: int, place: Place) -> Place:
        rank = len(self.graph.shape(self._input(index)))
        order = self.graph.attribute(index, "perm") or list(range(rank))[::-1]
        return Place(list(order).index(place.axis), place.block)

    def _pad(self, index: int, place: Place) -> Place:
        rank = len(self.graph.shape(self._input(index)))
        pads = self.graph.attribute(index, "pads")
        if pads is None:
            found = self._constant(index, 1)
            pads = None if found is None else found.tolist()
        has_axes = len(self.graph.nodes[index].input) > 3 and self.graph.nodes[index].input[3]
        if pads is None or has_axes or pads[place.axis] or pads[place.axis + rank]:
            raise NotRemovableError("Pad adds channels to it")
        return place


def removable(graph: Graph, index: int) -> Layer:
    """Return what removing output channels of one layer takes.

    Args:
        graph: the graph.
        index: a ``Conv`` without groups, a ``Gemm``, or a ``MatMul`` with a constant matrix.

    Raises:
        NotRemovableError: its channels cannot be removed, and why.
    """
    node = graph.nodes[index]
    weight = graph.constant(node.input[1])
    if weight is None:
        raise NotRemovableError("its weights are computed")
    rank = len(graph.shape(node.output[0]))
    if node.op_type == "Conv":
        if graph.attribute(index, "group", 1) != 1:
            raise NotRemovableError("it is a grouped convolution")
        axis, place = 0, Place(1)
    elif node.op_type == "Gemm":
        axis, place = (0 if graph.attribute(index, "transB", 0) else 1), Place(1)
    else:
        if weight.ndim != 2 or rank < 2:
            raise NotRemovableError("its weights are no matrix")
        axis, place = 1, Place(rank - 1)
    trace = _Trace(graph, channels=weight.shape[axis])
    own = Cut(index, 1, Place(axis))
    trace.cuts.append(own)
    bias = trace._constant(index, 2)
    if bias is not None and bias.size > 1 and bias.shape[-1] != 1:
        trace._cut(index, 2, Place(bias.ndim - 1))
    trace.follow(node.output[0], place)
    if graph.readers[node.output[0]] == []:
        raise NotRemovableError("nothing reads it")
    return Layer(
        index,
        trace.channels,
        own,
        tuple(dict.fromkeys(trace.cuts)),
        tuple(dict.fromkeys(trace.depthwise)),
        tuple(dict.fromkeys(trace.flattened)),
    )


def layers(graph: Graph) -> Iterator[int]:
    """Yield the nodes whose output channels could be removed, in the order of the graph."""
    for index, node in enumerate(graph.nodes):
        if node.domain in ("", "ai.onnx") and node.op_type in ("Conv", "Gemm", "MatMul"):
            yield index
