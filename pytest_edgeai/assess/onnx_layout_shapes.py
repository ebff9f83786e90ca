"""Shape rules of the ONNX operators that move, select, combine or reduce elements.

Source: docs/Operators.md of the ONNX project.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_edgeai.assess.onnx_call import (
    MOST_AXES,
    Call,
    Outputs,
    Shape,
    UnknownShape,
    axis_in,
    broadcast,
)


def broadcasting(call: Call) -> Outputs:
    """Return the output shapes of Elementwise operators of several inputs."""
    return [broadcast(*(call.shape(position) for position in range(len(call.shapes))))]


def reshape(call: Call) -> Outputs:
    """Return the output shapes of Reshape."""
    data = call.shape(0)
    wanted = call.given("shape", 1)
    if wanted is None:
        raise UnknownShape("Reshape has no shape")
    keeps_zero = bool(call.attributes.integer("allowzero", 0))
    shape = [
        data[axis] if extent == 0 and not keeps_zero else extent
        for axis, extent in enumerate(wanted)
    ]
    total = math.prod(data)
    if shape.count(-1) == 1:
        rest = -math.prod(shape)
        if not rest or total % rest:
            raise UnknownShape("Reshape does not fit")
        shape[shape.index(-1)] = total // rest
    if math.prod(shape) != total:
        raise UnknownShape("Reshape does not fit")
    return [tuple(shape)]


def flatten(call: Call) -> Outputs:
    """Return the output shapes of Flatten."""
    data = call.shape(0)
    axis = call.attributes.integer("axis", 1)
    axis = axis + len(data) if axis < 0 else axis
    return [(math.prod(data[:axis]), math.prod(data[axis:]))]


def transpose(call: Call) -> Outputs:
    """Return the output shapes of Transpose."""
    data = call.shape(0)
    order = call.attributes.integers("perm") or tuple(reversed(range(len(data))))
    if sorted(order) != list(range(len(data))):
        raise UnknownShape("perm of Transpose is no permutation")
    return [tuple(data[axis] for axis in order)]


def concat(call: Call) -> Outputs:
    """Return the output shapes of Concat."""
    parts = [call.shape(position) for position in range(len(call.shapes))]
    axis = axis_in(call.attributes.integer("axis", 0), len(parts[0]))
    total = sum(part[axis] for part in parts)
    return [(*parts[0][:axis], total, *parts[0][axis + 1 :])]


def squeeze(call: Call) -> Outputs:
    """Return the output shapes of Squeeze."""
    data = call.shape(0)
    axes = call.given("axes", 1)
    if axes is None:
        return [tuple(extent for extent in data if extent != 1)]
    dropped = {axis_in(axis, len(data)) for axis in axes}
    return [tuple(extent for axis, extent in enumerate(data) if axis not in dropped)]


def unsqueeze(call: Call) -> Outputs:
    """Return the output shapes of Unsqueeze."""
    data = call.shape(0)
    axes = call.given("axes", 1)
    if axes is None or len(axes) > MOST_AXES:
        raise UnknownShape("Unsqueeze has no axes")
    rank = len(data) + len(axes)
    added = {axis_in(axis, rank) for axis in axes}
    rest = iter(data)
    return [tuple(1 if axis in added else next(rest) for axis in range(rank))]


def split(call: Call) -> Outputs:
    """Return the output shapes of Split."""
    data = call.shape(0)
    axis = axis_in(call.attributes.integer("axis", 0), len(data))
    sizes = call.given("split", 1)
    if sizes is None:
        chunk = -(-data[axis] // call.outputs)
        sizes = tuple(
            max(0, min(chunk, data[axis] - chunk * index)) for index in range(call.outputs)
        )
    return [(*data[:axis], size, *data[axis + 1 :]) for size in sizes]


def slice_of(call: Call) -> Outputs:
    """Return the output shapes of Slice."""
    data = list(call.shape(0))
    starts, ends = call.given("starts", 1), call.given("ends", 2)
    if starts is None or ends is None or len(starts) != len(ends):
        raise UnknownShape("Slice has no constant limits")
    axes = call.given("axes", 3) or tuple(range(len(starts)))
    steps = call.given("steps", 4) or (1,) * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = axis_in(axis, len(data))
        data[at] = len(range(*slice(start, end, step).indices(data[at])))
    return [tuple(data)]


def gather(call: Call) -> Outputs:
    """Return the output shapes of Gather."""
    data, indices = call.shape(0), call.shape(1)
    axis = axis_in(call.attributes.integer("axis", 0), len(data))
    return [(*data[:axis], *indices, *data[axis + 1 :])]


def expand(call: Call) -> Outputs:
    """Return the output shapes of Expand."""
    wanted = call.integers(1)
    if wanted is None:
        raise UnknownShape("the shape of Expand is no constant")
    return [broadcast(call.shape(0), wanted)]


def tile(call: Call) -> Outputs:
    """Return the output shapes of Tile."""
    repeats = call.integers(1)
    if repeats is None:
        raise UnknownShape("the repeats of Tile are no constant")
    return [tuple(a * b for a, b in zip(call.shape(0), repeats, strict=True))]


def pad(call: Call) -> Outputs:
    """Return the output shapes of Pad."""
    data = list(call.shape(0))
    pads = call.given("pads", 1)
    if pads is None:
        raise UnknownShape("the pads of Pad are no constant")
    axes = call.integers(3) or tuple(range(len(data)))
    for index, axis in enumerate(axes):
        data[axis_in(axis, len(data))] += pads[index] + pads[index + len(axes)]
    return [tuple(data)]


def resize(call: Call) -> Outputs:
    """Return the output shapes of Resize and Upsample."""
    data = call.shape(0)
    if "axes" in call.attributes.lists or "keep_aspect_ratio_policy" in call.attributes.texts:
        raise UnknownShape("Resize of chosen axes is not computed")
    upsample = call.operator == "Upsample"
    sizes = None if upsample or len(call.values) < 4 else call.integers(3)
    if sizes:
        return [sizes]
    position = 1 if upsample or call.opset < 11 else 2
    scales = call.values[position] if position < len(call.values) else None
    scales = scales or call.attributes.lists.get("scales")
    if not scales or len(scales) != len(data):
        raise UnknownShape(f"the scales of {call.operator} are no constant")
    return [tuple(math.floor(a * b) for a, b in zip(data, scales, strict=True))]


def reduce(call: Call) -> Outputs:
    """Return the output shapes of Reductions."""
    data = call.shape(0)
    axes = call.given("axes", 1)
    if not axes:
        if call.attributes.integer("noop_with_empty_axes", 0):
            return [data]
        axes = tuple(range(len(data)))
    return [_without(data, axes, call.attributes.integer("keepdims", 1))]


def arg(call: Call) -> Outputs:
    """Return the output shapes of ArgMax and ArgMin."""
    axis = call.attributes.integer("axis", 0)
    return [_without(call.shape(0), (axis,), call.attributes.integer("keepdims", 1))]


def _without(data: Shape, axes: Sequence[int], keeps: int) -> Shape:
    dropped = {axis_in(axis, len(data)) for axis in axes}
    if keeps:
        return tuple(1 if axis in dropped else extent for axis, extent in enumerate(data))
    return tuple(extent for axis, extent in enumerate(data) if axis not in dropped)


def top_k(call: Call) -> Outputs:
    """Return the output shapes of TopK."""
    data = list(call.shape(0))
    count = call.integers(1) if len(call.shapes) > 1 else (call.attributes.integer("k", -1),)
    if count is None:
        raise UnknownShape("k of TopK is no constant")
    data[axis_in(call.attributes.integer("axis", -1), len(data))] = count[0]
    return [tuple(data), tuple(data)]


def shape_of(call: Call) -> Outputs:
    """Return the output shapes of Shape."""
    rank = len(call.shape(0))
    start, end = call.attributes.integer("start", 0), call.attributes.integer("end", rank)
    return [(len(range(rank)[slice(start, end)]),)]


def constant_of_shape(call: Call) -> Outputs:
    """Return the output shapes of ConstantOfShape."""
    wanted = call.integers(0)
    if wanted is None:
        raise UnknownShape("the shape of ConstantOfShape is no constant")
    return [wanted]


def range_of(call: Call) -> Outputs:
    """Return the output shapes of Range."""
    limits = [call.integers(position) for position in range(3)]
    if any(limit is None for limit in limits):
        raise UnknownShape("the limits of Range are no constants")
    start, end, step = (limit[0] for limit in limits if limit)
    return [(len(range(start, end, step)),)]


def depth_to_space(call: Call) -> Outputs:
    """Return the output shapes of DepthToSpace and SpaceToDepth."""
    batch, channels, height, width = call.shape(0)
    size = call.attributes.integer("blocksize", 1)
    if call.operator == "DepthToSpace":
        return [(batch, channels // (size * size), height * size, width * size)]
    return [(batch, channels * size * size, height // size, width // size)]


def dynamic_quantize(call: Call) -> Outputs:
    """Return the output shapes of DynamicQuantizeLinear: values, scale, zero point."""
    return [call.shape(0), (), ()]
