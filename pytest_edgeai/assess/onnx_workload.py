"""The work of one inference of an ONNX graph at batch 1, from the file alone.

Shapes come from the rules of ``onnx_shapes``, and where an operator has none from ``value_info``.
Integers that shapes are made of (Shape, Gather, Concat ...) are computed along.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_edgeai.assess import onnx_compute_shapes as compute
from pytest_edgeai.assess.onnx_call import MOST_AXES, Call, Shape, UnknownShape, broadcast
from pytest_edgeai.assess.onnx_fold import fold
from pytest_edgeai.assess.onnx_graph import RawGraph, RawNode
from pytest_edgeai.assess.onnx_shapes import infer
from pytest_edgeai.assess.onnx_tensor import dtype_name, read_tensor
from pytest_edgeai.assess.onnx_values import Attributes, Number, read_attributes, read_elements
from pytest_edgeai.assess.protobuf import Reader
from pytest_edgeai.assess.structure import Workload, stored_bytes
from pytest_edgeai.assess.workload import Step, graph_workload
from pytest_edgeai.records import TensorSpec

_DOMAINS = ("", "ai.onnx")
# Operators of the default domain whose work is not that of multiply-accumulates over known shapes.
_UNCOUNTED = frozenset({"If", "Loop", "Scan", "SequenceMap", "DFT", "STFT"})
# Operators of com.microsoft (docs/ContribOperators.md of ONNX Runtime) that are counted; of the
# others neither the work nor the shapes are known.
_MICROSOFT = frozenset(
    """
    BiasGelu DequantizeLinear DynamicQuantizeMatMul FastGelu FusedConv FusedGemm FusedMatMul Gelu
    MatMulIntegerToFloat MatMulNBits QGemm QLinearAdd QLinearAveragePool QLinearGlobalAveragePool
    QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax QuantizeLinear QuickGelu
    SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization
    """.split()  # noqa: SIM905
)
_INT64 = frozenset({"Shape", "Size", "ArgMax", "ArgMin", "NonZero"})
_BOOLEAN = frozenset(
    {"Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor", "Not"}
    | {"IsNaN", "IsInf"}
)
# Operators whose output has the dtype of another input than the first.
_DTYPE_INPUT = {
    "Where": 1,
    "DequantizeLinear": 1,
    "QuantizeLinear": 2,
    "CastLike": 1,
    "OneHot": 2,
    "QLinearConv": 7,
    "QLinearMatMul": 7,
}


def onnx_workload(graph: RawGraph, reader: Reader, opset: int) -> Workload:
    """Return the work of one inference at batch 1.

    A dynamic first axis of an input is the batch. Unknown figures carry the reason.

    Args:
        graph: the main graph.
        reader: the reader of its file, still open.
        opset: version of the default operator set.

    Raises:
        WireError: if a node is malformed.
    """
    return _GraphWalk(graph, reader, opset).workload()


class _GraphWalk:
    def __init__(self, graph: RawGraph, reader: Reader, opset: int) -> None:
        self._graph = graph
        self._reader = reader
        self._opset = opset
        self._shapes: dict[str, Shape] = {}
        self._dtypes: dict[str, str] = {}
        self._values: dict[str, tuple[Number, ...]] = {}
        self._stored: dict[str, tuple[object, int]] = {}
        self._stated: dict[str, TensorSpec] = {}
        self._reasons: dict[str, str] = {}
        self._note = ""

    def workload(self) -> Workload:
        graph = self._graph
        for tensor in graph.tensors:
            self._add_stored(tensor.name, tensor.dims, tensor.dtype, tensor.elements)
            if tensor.end and tensor.external is None:
                span = (tensor.position, tensor.end)
                self._keep(tensor.name, read_elements(self._reader, span, tensor.elements))
        for spec in (*graph.values, *graph.outputs):
            self._stated[spec.name] = spec
        for spec in graph.inputs:
            if spec.name not in self._stored:
                self._add_input(spec)
        steps = [self._step(node) for node in graph.nodes]
        sizes = {
            name: size
            for name, shape in self._shapes.items()
            if (size := self._size(name, shape)) is not None
        }
        found = graph_workload([step for step in steps if step], self._stored, sizes)
        return Workload(found.flops, found.moved_bytes, found.note + self._note)

    def _add_input(self, spec: TensorSpec) -> None:
        self._dtypes[spec.name] = spec.dtype
        if not spec.has_shape or len(spec.shape) > MOST_AXES:
            self._reasons[spec.name] = f'the input "{spec.name[:64]}" states no shape'
            return
        shape = [1 if extent is None and not at else extent for at, extent in enumerate(spec.shape)]
        if None in shape:
            axis = shape.index(None)
            self._reasons[spec.name] = f'axis {axis} of the input "{spec.name[:64]}" is dynamic'
            return
        if spec.shape and spec.shape[0] is not None and spec.shape[0] > 1 and not self._note:
            self._note = f" (the model fixes the first axis to {spec.shape[0]})"
        self._shapes[spec.name] = tuple(extent for extent in shape if extent is not None)

    def _add_stored(self, name: str, dims: Shape, dtype: str, elements: int) -> None:
        if len(dims) <= MOST_AXES:
            self._shapes[name] = dims
        self._dtypes[name] = dtype
        self._stored[name] = (name, stored_bytes(dtype, elements) or 0)

    def _keep(self, name: str, values: tuple[Number, ...] | None) -> None:
        if values is not None:
            self._values[name] = values

    def _size(self, name: str, shape: Shape) -> int | None:
        return stored_bytes(self._dtypes.get(name, ""), math.prod(shape))

    def _step(self, node: RawNode) -> Step | None:
        attributes = read_attributes(self._reader, node.attributes)
        outputs = [name for name in node.outputs if name]
        if node.op_type == "Constant" and node.domain in _DOMAINS:
            for name in outputs[:1]:
                self._add_constant(name, attributes)
            return None
        call = Call(
            node.op_type,
            attributes,
            [self._shapes.get(name) for name in node.inputs],
            [self._values.get(name) for name in node.inputs],
            len(node.outputs),
            self._opset,
        )
        why = self._infer(node, call)
        macs: int | None = None
        if not self._is_counted(node, attributes):
            why = f"the work of {node.domain + '.' if node.domain else ''}{node.op_type} is unknown"
        elif node.op_type in _MACS:
            try:
                macs = _MACS[node.op_type](call)
            except UnknownShape as error:
                why = self._explain(node) or why or str(error)
            except (IndexError, ArithmeticError, ValueError):
                why = f"the inputs of {node.op_type} do not fit"
        else:
            macs = 0
        return Step(node.op_type, [name for name in node.inputs if name], outputs, macs, why)

    def _infer(self, node: RawNode, call: Call) -> str:
        """Set shapes, dtypes and values of a node's outputs; return why they are unknown."""
        why = ""
        try:
            if node.domain not in _DOMAINS and node.op_type not in _MICROSOFT:
                raise UnknownShape(f"the output shape of {node.op_type} is not computed")
            shapes = infer(call)
        except UnknownShape as error:
            shapes, why = [], self._explain(node) or str(error)
        for position, name in enumerate(node.outputs):
            if not name:
                continue
            stated = self._stated.get(name)
            shape = shapes[position] if position < len(shapes) else None
            shape = shape if shape is not None else _static(stated)
            if shape is not None:
                self._shapes[name] = shape
            elif why:
                self._reasons[name] = why
            self._dtypes[name] = stated.dtype if stated else self._dtype(node, call, position)
        if not why and node.outputs and node.outputs[0]:
            self._keep(node.outputs[0], fold(call, self._shapes.get(node.outputs[0])))
        return why

    def _explain(self, node: RawNode) -> str:
        """Return the first reason that reached an input of the node."""
        return next((self._reasons[name] for name in node.inputs if name in self._reasons), "")

    def _dtype(self, node: RawNode, call: Call, position: int) -> str:
        operator = node.op_type
        if operator in _INT64 or (operator in ("TopK", "MaxPool") and position == 1):
            return "int64"
        if operator in _BOOLEAN or (operator == "Dropout" and position == 1):
            return "bool"
        if operator in ("MatMulInteger", "ConvInteger"):
            return "int32"
        if operator == "DynamicQuantizeLinear":
            return "float32" if position == 1 else "uint8"
        if operator == "Cast":
            return dtype_name(call.attributes.integer("to", 0))
        if operator == "ConstantOfShape":
            return "float32"
        source = _DTYPE_INPUT.get(operator, 0)
        if source < len(node.inputs) and node.inputs[source]:
            return self._dtypes.get(node.inputs[source], "")
        return "uint8" if operator == "QuantizeLinear" else ""

    def _add_constant(self, name: str, attributes: Attributes) -> None:
        numbers, lists = attributes.numbers, attributes.lists
        if "value" in attributes.tensors:
            span = attributes.tensors["value"]
            tensor = read_tensor(self._reader, *span, "")
            self._add_stored(name, tensor.dims, tensor.dtype, tensor.elements)
            if tensor.external is None:
                self._keep(name, read_elements(self._reader, span, tensor.elements))
        elif "value_int" in numbers or "value_float" in numbers:
            value = numbers.get("value_int", numbers.get("value_float", 0))
            dtype = "int64" if "value_int" in numbers else "float32"
            self._add_stored(name, (), dtype, 1)
            self._values[name] = (value,)
        elif "value_ints" in lists or "value_floats" in lists:
            values = lists.get("value_ints", lists.get("value_floats", ()))
            dtype = "int64" if "value_ints" in lists else "float32"
            self._add_stored(name, (len(values),), dtype, len(values))
            self._values[name] = values

    def _is_counted(self, node: RawNode, attributes: Attributes) -> bool:
        if node.domain in _DOMAINS:
            return node.op_type not in _UNCOUNTED and not attributes.has_graphs
        return node.domain == "com.microsoft" and node.op_type in _MICROSOFT


def _static(stated: TensorSpec | None) -> Shape | None:
    """Return a stated shape at batch 1; ``None`` where more than the first axis is dynamic."""
    if stated is None or not stated.has_shape or len(stated.shape) > MOST_AXES:
        return None
    if None in stated.shape[1:]:
        return None
    return tuple(1 if extent is None else extent for extent in stated.shape)


def _product(call: Call) -> int:
    left, right = compute.matmul_shapes(call)
    batch = math.prod(broadcast(left[:-2], right[:-2]))
    return batch * left[-2] * left[-1] * right[-1]


def _convolution(call: Call) -> int:
    weight = call.shape(3 if call.operator == "QLinearConv" else 1)
    out = infer(call)[0] or ()
    return math.prod(out) * math.prod(weight[1:])


def _transposed_convolution(call: Call) -> int:
    return math.prod(call.shape(0)) * math.prod(call.shape(1)[1:])


def _n_bits(call: Call) -> int:
    return math.prod(call.shape(0)) * call.attributes.integer("N", 0)


def _recurrent(call: Call) -> int:
    steps, batch = call.shape(0)[:2]
    return steps * batch * (math.prod(call.shape(1)) + math.prod(call.shape(2)))


def _attention(call: Call) -> int:
    """Count query x key and weights x value; a cache of earlier keys makes the extent unknown."""
    query, key, value = call.shape(0), call.shape(1), call.shape(2)
    if len(call.shapes) > 4 and any(shape is not None for shape in call.shapes[4:6]):
        raise UnknownShape("Attention with a cache of keys and values depends on its length")
    out = infer(call)[0] or ()
    if len(query) == 4:
        return math.prod(query) * key[2] + math.prod(out) * value[2]
    return math.prod(query) * key[1] + math.prod(out) * value[1]


def _einsum(call: Call) -> int:
    """Count one multiply-accumulate for each point of the space of all labels."""
    equation = call.attributes.texts.get("equation", "").replace(" ", "")
    terms: Sequence[str] = equation.split("->")[0].split(",")
    if "." in equation or len(terms) != len(call.shapes):
        raise UnknownShape("the equation of Einsum is not computed")
    extents: dict[str, int] = {}
    for position, term in enumerate(terms):
        extents.update(zip(term, call.shape(position), strict=True))
    return math.prod(extents.values()) if len(terms) > 1 else 0


_MACS = {
    **dict.fromkeys(
        ("Conv", "ConvInteger", "QLinearConv", "FusedConv", "DeformConv"), _convolution
    ),
    "ConvTranspose": _transposed_convolution,
    **dict.fromkeys(
        (
            "MatMul",
            "MatMulInteger",
            "QLinearMatMul",
            "FusedMatMul",
            "DynamicQuantizeMatMul",
            "MatMulIntegerToFloat",
            "Gemm",
            "FusedGemm",
            "QGemm",
        ),
        _product,
    ),
    "MatMulNBits": _n_bits,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    "Attention": _attention,
    "Einsum": _einsum,
}
