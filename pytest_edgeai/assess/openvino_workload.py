"""The work of one inference of an OpenVINO IR at batch 1, from the shapes that its ports state.

Layouts of weights: "Operation Specifications" (https://docs.openvino.ai), Convolution-1
([C_OUT, C_IN, ...]), ConvolutionBackpropData-1 ([C_IN, C_OUT, ...]), GroupConvolution-1
([GROUPS, C_OUT, C_IN, ...]), LSTMSequence-5 and its kin, ScaledDotProductAttention-13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias
from xml.etree.ElementTree import Element

from pytest_edgeai.assess.structure import Workload, stored_bytes
from pytest_edgeai.assess.workload import Step, graph_workload

Shape: TypeAlias = tuple[int, ...]
# Shapes of the inputs and of the outputs, and the layer's attributes.
Ports: TypeAlias = tuple[list[Shape], list[Shape], Mapping[str, str]]

_LARGEST_EXTENT = 1 << 62
_MOST_AXES = 64
# The operations whose count of results depends on the data, so that a dynamic axis is no batch.
_DATA_DEPENDENT = ("NonZero", "NonMaxSuppression", "Unique", "Bucketize")
_UNCOUNTED = frozenset({"TensorIterator", "Loop", "If", "Einsum", "PagedAttentionExtension"})
_UNCOUNTED_PREFIXES = ("DFT", "IDFT", "RDFT", "IRDFT", "STFT", "ISTFT", "AUGRU")


def openvino_workload(
    root: Element,
    stored: Mapping[str, tuple[object, int]],
    dtype_of: Callable[[str], str],
) -> Workload:
    """Return the work of one inference at batch 1.

    A dynamic first axis is the batch, as long as no layer merges it with another axis.

    Args:
        root: the ``net`` element.
        stored: id of a ``Const`` layer to what identifies its bytes, and their number.
        dtype_of: returns the dtype name of a port's precision.
    """
    feeds = {
        (edge.get("to-layer", ""), edge.get("to-port", "")): _value(
            edge.get("from-layer", ""), edge.get("from-port", "")
        )
        for edge in root.findall("edges/edge")
    }
    layers = root.findall("layers/layer")
    constants: dict[str, tuple[object, int]] = {}
    sizes: dict[str, int] = {}
    steps: dict[str, Step] = {}
    for layer in layers:
        name, operator = layer.get("id", ""), layer.get("type", "")
        for port in layer.findall("output/port"):
            value = _value(name, port.get("id", ""))
            if operator == "Const" and name in stored:
                constants[value] = stored[name]
            shape = _shape(port)
            size = (
                None if shape is None else stored_bytes(dtype_of(_precision(port)), _count(shape))
            )
            if size is not None:
                sizes[value] = size
        if operator not in ("Const", "Parameter", "Result"):
            steps[name] = _step(layer, feeds)
    if any(layer.get("type") == "Parameter" and _dynamic_inside(layer) for layer in layers):
        why = "an input has a dynamic axis behind its first one"
        return Workload(None, None, why)
    return graph_workload(_in_order(steps), constants, sizes)


def _step(layer: Element, feeds: Mapping[tuple[str, str], str]) -> Step:
    name, operator = layer.get("id", ""), layer.get("type", "")
    in_ports, out_ports = layer.findall("input/port"), layer.findall("output/port")
    inputs = [
        feeds[(name, port.get("id", ""))]
        for port in in_ports
        if (name, port.get("id", "")) in feeds
    ]
    outputs = [_value(name, port.get("id", "")) for port in out_ports]
    macs, why = _work(layer, operator, in_ports, out_ports)
    return Step(operator, inputs, outputs, macs, why)


def _work(
    layer: Element, operator: str, in_ports: list[Element], out_ports: list[Element]
) -> tuple[int | None, str]:
    label = f'the layer "{layer.get("name", "")[:64]}" ({operator})'
    if operator in _UNCOUNTED or operator.startswith(_UNCOUNTED_PREFIXES):
        return None, f"the work of {operator} is unknown"
    in_shapes = [_shape(port) for port in in_ports]
    out_shapes = [_shape(port) for port in out_ports]
    dynamic = any(_is_dynamic(port) for port in out_ports)
    if dynamic and operator.startswith(_DATA_DEPENDENT):
        return None, f"{label} has as many results as the data give"
    if dynamic and _merges_batch(operator, in_ports, out_ports):
        return None, f"{label} may merge the dynamic batch with another axis"
    rule = _MACS.get(operator)
    if rule is None:
        return 0, ""
    ins = [shape for shape in in_shapes if shape is not None]
    outs = [shape for shape in out_shapes if shape is not None]
    if len(ins) < len(in_shapes) or len(outs) < len(out_shapes):
        return None, f"{label} has a dynamic shape"
    data = layer.find("data")
    try:
        return rule((ins, outs, {} if data is None else data.attrib)), ""
    except (IndexError, ValueError):
        return None, f"the shapes of {label} do not fit"


def _merges_batch(operator: str, in_ports: list[Element], out_ports: list[Element]) -> bool:
    """Return whether the first axis of a reshaped value may be more than the batch."""
    if operator not in ("Reshape", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Tile"):
        return False
    before, after = _shape(in_ports[0]) if in_ports else None, _shape(out_ports[0])
    if before is None or after is None or not _is_dynamic(in_ports[0]):
        return True
    if operator == "Concat":
        return before[1:] == after[1:]
    # With the batch as 1 on both sides the elements agree, unless an extent moved into the batch.
    return _count(before) != _count(after)


def _in_order(steps: Mapping[str, Step]) -> list[Step]:
    """Return steps with producers before consumers; what lies on a cycle comes last."""
    producers = {value: name for name, step in steps.items() for value in step.outputs}
    waiting: dict[str, int] = {}
    consumers: dict[str, list[str]] = {}
    for name, step in steps.items():
        sources = {producers[value] for value in step.inputs if value in producers}
        waiting[name] = len(sources)
        for source in sources:
            consumers.setdefault(source, []).append(name)
    ready = [name for name, count in waiting.items() if not count]
    order: dict[str, Step] = {}
    while ready:
        name = ready.pop()
        order[name] = steps[name]
        for consumer in consumers.get(name, ()):
            waiting[consumer] -= 1
            if not waiting[consumer]:
                ready.append(consumer)
    return [*order.values(), *(step for name, step in steps.items() if name not in order)]


def _value(layer: str, port: str) -> str:
    return f"{layer}:{port}"


def _precision(port: Element) -> str:
    return port.get("precision", "").lower()


def _dims(port: Element) -> list[str]:
    return [(dim.text or "").strip() for dim in port.findall("dim")]


def _is_dynamic(port: Element) -> bool:
    return any(not dim.isdecimal() for dim in _dims(port))


def _dynamic_inside(layer: Element) -> bool:
    return any(
        not dim.isdecimal() for port in layer.findall("output/port") for dim in _dims(port)[1:]
    )


def _shape(port: Element) -> Shape | None:
    """Return a port's shape with a dynamic first axis as 1; ``None`` with any other one."""
    dims = _dims(port)
    if len(dims) > _MOST_AXES or any(not (d.isdecimal() and len(d) < 20) for d in dims[1:]):
        return None
    if dims and not dims[0].isdecimal():
        return None if dims[0] == "..." else (1, *map(int, dims[1:]))
    shape = tuple(int(dim) for dim in dims if len(dim) < 20)
    return shape if len(shape) == len(dims) and max(shape, default=0) < _LARGEST_EXTENT else None


def _count(shape: Shape) -> int:
    return math.prod(shape)


def _convolution(ports: Ports) -> int:
    ins, outs, _ = ports
    return _count(outs[0]) * _count(ins[1][1:])


def _group_convolution(ports: Ports) -> int:
    ins, outs, _ = ports
    return _count(outs[0]) * _count(ins[1][2:])


def _backprop(ports: Ports) -> int:
    ins, _, _ = ports
    return _count(ins[0]) * _count(ins[1][1:])


def _group_backprop(ports: Ports) -> int:
    ins, _, _ = ports
    return _count(ins[0]) * _count(ins[1][2:])


def _matmul(ports: Ports) -> int:
    ins, outs, attributes = ports
    left = ins[0]
    transposed = attributes.get("transpose_a", "false").lower() in ("true", "1")
    inner = left[-2] if transposed and len(left) > 1 else left[-1]
    return _count(outs[0]) * inner


def _sequence(ports: Ports) -> int:
    """Count X [batch, steps, size], then states, lengths, W and R [directions, gates, size]."""
    ins, _, _ = ports
    weights = [shape for shape in ins[1:] if len(shape) == 3][-2:]
    return ins[0][0] * ins[0][1] * sum(_count(shape) for shape in weights)


def _cell(ports: Ports) -> int:
    """Count X [batch, size], states [batch, hidden], W [gates, size], R [gates, hidden], B."""
    ins, _, _ = ports
    weights = [shape for shape in ins if len(shape) == 2][-2:]
    return ins[0][0] * sum(_count(shape) for shape in weights)


def _attention(ports: Ports) -> int:
    ins, outs, _ = ports
    query, key, value = ins[:3]
    return _count(query) * key[-2] + _count(outs[0]) * value[-2]


_MACS: Mapping[str, Callable[[Ports], int]] = {
    "Convolution": _convolution,
    "BinaryConvolution": _convolution,
    "GroupConvolution": _group_convolution,
    "ConvolutionBackpropData": _backprop,
    "GroupConvolutionBackpropData": _group_backprop,
    "MatMul": _matmul,
    **dict.fromkeys(("LSTMSequence", "GRUSequence", "RNNSequence"), _sequence),
    **dict.fromkeys(("LSTMCell", "GRUCell", "RNNCell"), _cell),
    "ScaledDotProductAttention": _attention,
}
