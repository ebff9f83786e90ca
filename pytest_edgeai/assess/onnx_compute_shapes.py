"""Shape rules of the ONNX operators that multiply and accumulate or slide a window.

Source: docs/Operators.md of the ONNX project.
"""

from __future__ import annotations

from pytest_edgeai.assess.onnx_call import Call, Outputs, Shape, UnknownShape, broadcast


def windows(call: Call, extents: Shape, kernel: Shape, *, ceil_mode: bool = False) -> Shape:
    """Return the output extents of a sliding window (convolution or pooling).

    floor((in + pads - ((kernel - 1) x dilation + 1)) / stride) + 1, docs/Operators.md, MaxPool.
    """
    rank = len(kernel)
    if len(extents) != rank:
        raise UnknownShape(f"{call.operator} has a kernel of {rank} axes")
    strides = call.attributes.integers("strides") or (1,) * rank
    dilations = call.attributes.integers("dilations") or (1,) * rank
    pads = call.attributes.integers("pads") or (0,) * (2 * rank)
    automatic = call.attributes.texts.get("auto_pad", "NOTSET")
    found = []
    for axis in range(rank):
        size, stride = extents[axis], strides[axis]
        if stride < 1 or dilations[axis] < 1 or kernel[axis] < 1:
            raise UnknownShape(f"{call.operator} has an impossible stride, dilation or kernel")
        if automatic.startswith("SAME"):
            found.append(-(-size // stride))
            continue
        before, after = (pads[axis], pads[axis + rank]) if automatic == "NOTSET" else (0, 0)
        room = size + before + after - ((kernel[axis] - 1) * dilations[axis] + 1)
        if room < 0:
            raise UnknownShape(f"the window of {call.operator} is larger than its input")
        steps = -(-room // stride) if ceil_mode else room // stride
        # "Sliding windows that would start in the right padded region are ignored."
        if ceil_mode and steps * stride >= size + before:
            steps -= 1
        found.append(steps + 1)
    return tuple(found)


def convolution(call: Call) -> Outputs:
    """Return the output shapes of Conv and its kin: batch, output channels, windows."""
    weight = call.shape(3 if call.operator == "QLinearConv" else 1)
    data = call.shape(0)
    # DeformConv's offsets stand second to last in the window's place; its kernel is the weight's.
    return [(data[0], weight[0], *windows(call, data[2:], weight[2:]))]


def transposed_convolution(call: Call) -> Outputs:
    """Return the output shapes of ConvTranspose."""
    data, weight = call.shape(0), call.shape(1)
    kernel = weight[2:]
    rank = len(kernel)
    attributes = call.attributes
    strides = attributes.integers("strides") or (1,) * rank
    group = attributes.integer("group", 1)
    stated = attributes.integers("output_shape")
    if stated is not None:
        return [(data[0], weight[1] * group, *stated[-rank:])]
    dilations = attributes.integers("dilations") or (1,) * rank
    extra = attributes.integers("output_padding") or (0,) * rank
    pads = attributes.integers("pads") or (0,) * (2 * rank)
    automatic = attributes.texts.get("auto_pad", "NOTSET")
    found = []
    for axis in range(rank):
        if automatic.startswith("SAME"):
            found.append(data[axis + 2] * strides[axis])
            continue
        cut = pads[axis] + pads[axis + rank] if automatic == "NOTSET" else 0
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        found.append(strides[axis] * (data[axis + 2] - 1) + extra[axis] + reach - cut)
    return [(data[0], weight[1] * group, *found)]


def pool(call: Call) -> Outputs:
    """Return the output shapes of Pooling with a kernel; the second output holds indices."""
    data = call.shape(0)
    kernel = call.attributes.integers("kernel_shape")
    if kernel is None:
        raise UnknownShape(f"{call.operator} states no kernel_shape")
    ceil_mode = bool(call.attributes.integer("ceil_mode", 0))
    shape = (*data[:2], *windows(call, data[2:], kernel, ceil_mode=ceil_mode))
    return [shape, shape]


def global_pool(call: Call) -> Outputs:
    """Return the output shapes of Global pooling."""
    data = call.shape(0)
    return [(*data[:2], *(1 for _ in data[2:]))]


def matmul(call: Call) -> Outputs:
    """Return the output shapes of Products, as numpy.matmul."""
    left, right = matmul_shapes(call)
    result = (*broadcast(left[:-2], right[:-2]), left[-2], right[-1])
    if left[-1] != right[-2]:
        raise UnknownShape("the inner extents of a product differ")
    # A vector's added axis leaves the result again.
    if len(call.shape(0)) == 1:
        result = (*result[:-2], result[-1])
    second = 3 if call.operator == "QLinearMatMul" else 1
    return [result[:-1] if len(call.shape(second)) == 1 else result]


def matmul_shapes(call: Call) -> tuple[Shape, Shape]:
    """Return both factors of a product as matrices, transposed where the attributes say so."""
    left = call.shape(0)
    right = call.shape({"QLinearMatMul": 3, "QGemm": 3}.get(call.operator, 1))
    left = (1, *left) if len(left) == 1 else left
    right = (*right, 1) if len(right) == 1 else right
    if call.attributes.integer("transA", 0):
        left = (*left[:-2], left[-1], left[-2])
    if call.attributes.integer("transB", 0):
        right = (*right[:-2], right[-1], right[-2])
    return left, right


def gemm(call: Call) -> Outputs:
    """Return the output shapes of Gemm and its kin."""
    left, right = matmul_shapes(call)
    if len(left) != 2 or len(right) != 2 or left[1] != right[0]:
        raise UnknownShape("the factors of Gemm do not fit")
    return [(left[0], right[1])]


def matmul_n_bits(call: Call) -> Outputs:
    """Return the output shapes of MatMulNBits: the attribute N replaces the last axis."""
    return [(*call.shape(0)[:-1], call.attributes.integer("N", -1))]


def recurrent(call: Call) -> Outputs:
    """Return the output shapes of LSTM, GRU and RNN: sequence and last states."""
    data, weights = call.shape(0), call.shape(2)
    batch_first = call.attributes.integer("layout", 0)
    hidden = call.attributes.integer("hidden_size", weights[-1])
    directions = weights[0]
    if batch_first:
        batch, steps = data[:2]
        state = (batch, directions, hidden)
        return [(batch, steps, directions, hidden), state, state]
    steps, batch = data[:2]
    state = (directions, batch, hidden)
    return [(steps, directions, batch, hidden), state, state]


def attention(call: Call) -> Outputs:
    """Return the output shapes of Attention of operator set 23, heads as an axis or packed."""
    query, value = call.shape(0), call.shape(2)
    if len(query) == 4:
        return [(*query[:3], value[3])]
    heads = call.attributes.integer("q_num_heads", call.attributes.integer("num_heads", 0))
    of_values = call.attributes.integer("kv_num_heads", heads)
    return [(*query[:2], heads * (value[2] // of_values))]
