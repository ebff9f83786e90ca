"""The output shapes of the common ONNX operators, from the shapes and constants that go in.

What cannot be known raises ``UnknownShape`` with the reason; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_edgeai.assess import onnx_compute_shapes as compute
from pytest_edgeai.assess import onnx_layout_shapes as layout
from pytest_edgeai.assess import roles
from pytest_edgeai.assess.onnx_call import (
    LARGEST_EXTENT,
    MOST_AXES,
    Call,
    Outputs,
    UnknownShape,
)


def infer(call: Call) -> Outputs:
    """Return the output shapes of an operator, ``None`` for those that are not known.

    Raises:
        UnknownShape: if the first output cannot be known.
    """
    if call.operator in _LIKE_FIRST or call.operator.startswith("QLinearLeaky"):
        return [call.shape(0)]
    rule = _RULES.get(call.operator)
    if rule is None:
        raise UnknownShape(f"the output shape of {call.operator} is not computed")
    try:
        found = rule(call)
    except (IndexError, ZeroDivisionError, OverflowError, ValueError):
        raise UnknownShape(f"the inputs of {call.operator} do not fit") from None
    for shape in found:
        if shape is not None and (
            len(shape) > MOST_AXES
            or min(shape, default=0) < 0
            or max(shape, default=0) > LARGEST_EXTENT
        ):
            raise UnknownShape(f"the inputs of {call.operator} do not fit")
    return found


_REDUCTIONS = "Mean Sum Max Min Prod L1 L2 SumSquare LogSumExp"
_BROADCASTING = """
Add Sub Mul Div Pow Mod Min Max Sum Mean And Or Xor Equal Greater Less GreaterOrEqual LessOrEqual
Where BitShift BitwiseAnd BitwiseOr BitwiseXor
"""
_LIKE_FIRST = (
    frozenset(
        """
        Abs Acos Acosh Asin Asinh Atan Atanh BatchNormalization BiasGelu BitwiseNot Cast CastLike
        Ceil Celu Clip Cos Cosh CumSum DequantizeLinear Dropout Elu Erf Exp FastGelu Floor Gelu
        GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN
        LRN LeakyRelu Log LogSoftmax LpNormalization MeanVarianceNormalization Mish Neg Not PRelu
        QLinearAdd QLinearMul QLinearSigmoid QLinearSoftmax QuantizeLinear QuickGelu Reciprocal
        Relu Round RotaryEmbedding ScatterElements ScatterND Selu Shrink Sigmoid Sign Sin Sinh
        Softmax Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Trilu
        """.split()  # noqa: SIM905
    )
    | roles.NORMALIZATIONS
)
_RULES: Mapping[str, Callable[[Call], Outputs]] = {
    **dict.fromkeys(_BROADCASTING.split(), layout.broadcasting),
    **dict.fromkeys(
        ("Conv", "ConvInteger", "QLinearConv", "FusedConv", "DeformConv"), compute.convolution
    ),
    "ConvTranspose": compute.transposed_convolution,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool", "QLinearAveragePool"), compute.pool),
    **dict.fromkeys(
        ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "QLinearGlobalAveragePool"),
        compute.global_pool,
    ),
    **dict.fromkeys(
        (
            "MatMul",
            "MatMulInteger",
            "QLinearMatMul",
            "FusedMatMul",
            "DynamicQuantizeMatMul",
            "MatMulIntegerToFloat",
        ),
        compute.matmul,
    ),
    **dict.fromkeys(("Gemm", "FusedGemm", "QGemm"), compute.gemm),
    "MatMulNBits": compute.matmul_n_bits,
    "Reshape": layout.reshape,
    "Flatten": layout.flatten,
    "Transpose": layout.transpose,
    "Concat": layout.concat,
    "Squeeze": layout.squeeze,
    "Unsqueeze": layout.unsqueeze,
    "Split": layout.split,
    "Slice": layout.slice_of,
    "Gather": layout.gather,
    "GatherElements": lambda call: [call.shape(1)],
    "Expand": layout.expand,
    "Tile": layout.tile,
    "Pad": layout.pad,
    "Resize": layout.resize,
    "Upsample": layout.resize,
    **dict.fromkeys(
        (f"Reduce{name}" for name in _REDUCTIONS.split()),
        layout.reduce,
    ),
    "ArgMax": layout.arg,
    "ArgMin": layout.arg,
    "TopK": layout.top_k,
    "Shape": layout.shape_of,
    "Size": lambda call: [()],
    "ConstantOfShape": layout.constant_of_shape,
    "Range": layout.range_of,
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), compute.recurrent),
    "DepthToSpace": layout.depth_to_space,
    "SpaceToDepth": layout.depth_to_space,
    "DynamicQuantizeLinear": layout.dynamic_quantize,
    "Attention": compute.attention,
}
