"""Which stored tensors are weights, what computes on quantized ones, and what the model is.

Pure functions over a format-neutral dataflow. A stored tensor is followed through casts, reshapes
and (de)quantization to the operators that compute with it; what only ever serves as a scale, a zero
point, a range, a shape or an index is no weight. Every search is bounded, so that the cost stays
linear in the size of the model, whatever a damaged file says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_edgeai.assess import roles
from pytest_edgeai.assess.structure import DTYPE_BITS, Constant, Dataflow, Node
from pytest_edgeai.records import Architecture

# A single element is a constant of the computation (an epsilon, a limit), no trained weight.
MIN_WEIGHT_ELEMENTS = 2
# A convolution uses each weight once per output position, a dense layer once. Without running
# shape inference, 7 x 7 is assumed: the smallest map of the common classifiers (ResNet, VGG and
# MobileNet at 224 x 224), so the estimate never favors convolutions unduly.
ASSUMED_POSITIONS = 49

_FLOATS = frozenset(
    {
        "float64",
        "float32",
        "float16",
        "bfloat16",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float6_e2m3fn",
        "float6_e3m2fn",
        "float4_e2m1fn",
        "nf4",
    }
)
_QUANTIZED_INTEGERS = frozenset(
    f"{sign}int{bits}" for sign in ("", "u") for bits in (1, 2, 3, 4, 6, 8, 16)
)
# What stands for a quantized weight once it is dequantized: integers and the small floats.
_QUANTIZED_DTYPES = _QUANTIZED_INTEGERS | {name for name in _FLOATS if DTYPE_BITS[name] <= 8}
_LINK = ""
_MOST_STEPS = 64
_ATTENTION_REACH = 48


@dataclass(frozen=True)
class Analysis:
    """What the dataflow says.

    Attributes:
        weight_elements: weight dtype name to number of elements stored, in order of dtype name.
        quantized_operators: operator type to number of operators that compute on quantized data.
        architecture: class of the model.
        full_precision_weights: name of an operator to its weight elements of 16 bits and more.
    """

    weight_elements: Mapping[str, int]
    quantized_operators: Mapping[str, int]
    architecture: Architecture
    full_precision_weights: Mapping[str, int]


def analyze(dataflow: Dataflow) -> Analysis:
    """Analyze a dataflow."""
    graph = _Graph(dataflow)
    elements: Counter[str] = Counter()
    by_kind: Counter[str] = Counter()
    counted: set[object] = set()
    wide: Counter[str] = Counter()
    for constant in dataflow.constants:
        if constant.elements < MIN_WEIGHT_ELEMENTS:
            continue
        users = graph.users(constant)
        key = (constant.storage, constant.dtype, constant.elements)
        if not users or key in counted:
            continue
        counted.add(key)
        elements[constant.dtype] += constant.elements
        for kind in {_kind(user.operator) for user in users}:
            by_kind[kind] += constant.elements
        if constant.dtype in _FLOATS - _QUANTIZED_DTYPES and users[0].name:
            wide[users[0].name] += constant.elements
    quantized = Counter(node.operator for node in dataflow.nodes if graph.is_quantized(node))
    return Analysis(
        weight_elements=dict(sorted(elements.items())),
        quantized_operators=dict(sorted(quantized.items())),
        architecture=_architecture(dataflow, graph, by_kind),
        full_precision_weights=dict(wide),
    )


def _kind(operator: str) -> str:
    if operator in roles.CONVOLUTIONS:
        return "convolution"
    if operator in roles.RECURRENT:
        return "recurrent"
    if operator in roles.DENSE or operator in roles.ATTENTIONS:
        return "dense"
    return "other"


def _architecture(dataflow: Dataflow, graph: _Graph, by_kind: Counter[str]) -> Architecture:
    operators = {node.operator for node in dataflow.nodes}
    convolution, recurrent, dense = (
        by_kind["convolution"],
        by_kind["recurrent"],
        by_kind["dense"],
    )
    if operators & roles.EXPERTS:
        return "mixture-of-experts"
    if graph.has_attention(operators) and dense >= max(convolution, recurrent):
        return "transformer"
    if operators & roles.RECURRENT and recurrent >= convolution:
        return "recurrent"
    if operators & roles.CONVOLUTIONS and convolution * ASSUMED_POSITIONS >= dense:
        return "convolutional"
    return "other"


def _dequantized_inputs(operator: str) -> int:
    """Return how many of the leading inputs a stored quantized tensor can come through."""
    if operator in ("QuantizeLinear", "FakeQuantize", "FakeConvert"):
        # What is quantized here was stored as numbers of full precision.
        return 0
    if operator == _LINK or operator in roles.PASSING or operator in roles.SUBTRACTIONS:
        return 1
    if operator in roles.MULTIPLICATIONS:
        return 2
    return _MOST_STEPS if operator == "Concat" else 0


class _Graph:
    """A dataflow with its edges in both directions."""

    def __init__(self, dataflow: Dataflow) -> None:
        self._nodes = [
            *dataflow.nodes,
            *(Node(_LINK, (source,), (target,)) for source, target in dataflow.links),
        ]
        self._consumers: dict[int, list[tuple[Node, int]]] = {}
        self._producers: dict[int, list[Node]] = {}
        for node in self._nodes:
            for position, value in enumerate(node.inputs):
                if value >= 0:
                    self._consumers.setdefault(value, []).append((node, position))
            for value in node.outputs:
                if value >= 0:
                    self._producers.setdefault(value, []).append(node)
        self._constants: dict[int, Constant] = {each.value: each for each in dataflow.constants}
        self._quantized_origin: dict[int, bool] = {}

    def users(self, constant: Constant) -> list[Node]:
        """Return the operators that compute with a constant as a weight; empty if none."""
        small = constant.dtype in _QUANTIZED_INTEGERS
        if not (small or constant.dtype in _FLOATS or constant.dtype == "int32"):
            return []
        users: list[Node] = []
        # (value, whether it is still made of integers that a scale is yet to turn into numbers)
        pending = [(constant.value, constant.dtype in _QUANTIZED_DTYPES)]
        seen: set[int] = set()
        steps = 0
        # An int32 tensor is a weight only as the bias of a quantized operator.
        needs_proof = constant.dtype == "int32"
        proven = False
        while pending and steps < _MOST_STEPS:
            value, scaled = pending.pop()
            if value in seen or value < 0:
                continue
            seen.add(value)
            for node, position in self._consumers.get(value, [])[:_MOST_STEPS]:
                steps += 1
                if self._is_auxiliary(node, position):
                    continue
                if self._passes(node, position, scaled):
                    proven |= node.operator == "DequantizeLinear"
                    pending.extend((output, scaled) for output in node.outputs[:_MOST_STEPS])
                else:
                    proven |= roles.is_quantized(node.operator)
                    users.append(node)
        return users if proven or not needs_proof else []

    def is_quantized(self, node: Node) -> bool:
        """Return whether a node computes on quantized data."""
        if roles.is_quantized(node.operator):
            return True
        if node.operator in roles.PRODUCTS:
            candidates = node.inputs[:2]
        elif node.operator in roles.LOOKUPS:
            candidates = node.inputs[:1]
        elif node.operator in roles.CONVOLUTIONS:
            # A quantized bias alone leaves the convolution itself in full precision.
            candidates = node.inputs[1:2]
        elif _kind(node.operator) != "other":
            candidates = node.inputs[1:]
        else:
            return False
        return any(self._has_quantized_origin(value) for value in candidates)

    def has_attention(self, operators: set[str]) -> bool:
        """Return whether the model attends: a fused operator, or product, Softmax, product."""
        if operators & roles.ATTENTIONS:
            return True
        softmaxes = [node for node in self._nodes if node.operator in roles.SOFTMAXES]
        # The Softmax of a classifier ends the model; one that feeds anything weighs something.
        inner = any(value in self._consumers for node in softmaxes for value in node.outputs)
        if inner and operators & roles.NORMALIZATIONS and operators & roles.DENSE:
            return True
        return any(
            self._reaches_product(node, forward=True) and self._reaches_product(node, forward=False)
            for node in softmaxes
        )

    def _is_auxiliary(self, node: Node, position: int) -> bool:
        if roles.is_auxiliary(node.operator, position):
            return True
        if len(node.inputs) != 2:
            return False
        other = node.inputs[1 - position]
        if node.operator in roles.SUBTRACTIONS:
            return position == 1 and self._has_quantized_origin(other)
        if node.operator in roles.MULTIPLICATIONS:
            # The scale of stored integers, or of activations that were quantized on the fly.
            own = node.inputs[position]
            return not self._has_quantized_origin(own) and (
                self._has_quantized_origin(other) or self._is_dynamic_scale(other)
            )
        return False

    def _passes(self, node: Node, position: int, scaled: bool) -> bool:
        operator = node.operator
        if operator == _LINK or operator == "Concat":
            return True
        if operator in roles.PASSING:
            return position == 0
        decompresses = operator in roles.SUBTRACTIONS or operator in roles.MULTIPLICATIONS
        return scaled and decompresses

    def _is_dynamic_scale(self, value: int) -> bool:
        return any(
            node.operator == "DynamicQuantizeLinear" and value in node.outputs[1:2]
            for node in self._producers.get(value, ())
        )

    def _has_quantized_origin(self, value: int) -> bool:
        """Return whether a value is a stored quantized tensor, dequantized or about to be."""
        known = self._quantized_origin.get(value)
        if known is None:
            known = self._quantized_origin[value] = self._find_quantized_origin(value)
        return known

    def _find_quantized_origin(self, value: int) -> bool:
        pending = [value]
        seen: set[int] = set()
        while pending and len(seen) < _MOST_STEPS:
            at = pending.pop()
            if at in seen or at < 0:
                continue
            seen.add(at)
            constant = self._constants.get(at)
            if constant is not None:
                if constant.dtype in _QUANTIZED_DTYPES:
                    return True
                continue
            for node in self._producers.get(at, [])[:_MOST_STEPS]:
                pending.extend(node.inputs[: _dequantized_inputs(node.operator)])
        return False

    def _reaches_product(self, node: Node, *, forward: bool) -> bool:
        values = list(node.outputs if forward else node.inputs)
        seen: set[int] = set()
        while values and len(seen) < _ATTENTION_REACH:
            value = values.pop(0)
            if value in seen or value < 0:
                continue
            seen.add(value)
            if forward:
                neighbors = [each for each, _ in self._consumers.get(value, [])[:_ATTENTION_REACH]]
            else:
                neighbors = self._producers.get(value, [])
            for neighbor in neighbors[:_ATTENTION_REACH]:
                if neighbor.operator in roles.PRODUCTS:
                    return True
                if neighbor.operator == _LINK or neighbor.operator in roles.ATTENTION_STEPS:
                    found = neighbor.outputs if forward else neighbor.inputs
                    values.extend(found[:_ATTENTION_REACH])
        return False
