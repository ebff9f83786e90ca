"""What the operators of ONNX and OpenVINO do with their inputs, as tables.

Sources: docs/Operators.md of ONNX, docs/ContribOperators.md of ONNX Runtime (domain com.microsoft),
and the operation specifications of OpenVINO's opset1 to opset16
(https://docs.openvino.ai, "Operation Specifications"). The two vocabularies do not contradict each
other, so one set of tables serves both.
"""

from __future__ import annotations

from collections.abc import Mapping

CONVOLUTIONS: frozenset[str] = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "ConvInteger",
        "QLinearConv",
        "QLinearConvTranspose",
        "DeformConv",
        "FusedConv",
        "NhwcConv",
        "NhwcFusedConv",
        "Convolution",
        "ConvolutionBackpropData",
        "GroupConvolution",
        "GroupConvolutionBackpropData",
        "DeformableConvolution",
        "BinaryConvolution",
    }
)
ATTENTIONS: frozenset[str] = frozenset(
    {
        "Attention",
        "MultiHeadAttention",
        "GroupQueryAttention",
        "PackedAttention",
        "PackedMultiHeadAttention",
        "DecoderAttention",
        "DecoderMaskedSelfAttention",
        "DecoderMaskedMultiHeadAttention",
        "LongformerAttention",
        "PagedAttention",
        "SparseAttention",
        "QAttention",
        "QOrderedAttention",
        "QOrderedLongformerAttention",
        "ScaledDotProductAttention",
        "PagedAttentionExtension",
    }
)
# Products whose operands may both be activations, as in attention.
PRODUCTS: frozenset[str] = frozenset(
    {
        "MatMul",
        "Gemm",
        "Einsum",
        "FusedMatMul",
        "TransposeMatMul",
        "QLinearMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QOrderedMatMul",
    }
)
DENSE: frozenset[str] = PRODUCTS | {
    "FusedGemm",
    "GemmFastGelu",
    "GemmFloat8",
    "QGemm",
    "DynamicQuantizeMatMul",
    "MatMulNBits",
    "MatMulBnb4",
    "MoE",
    "QMoE",
    "FullyConnected",
}
# Layers that route each token to some of their experts.
EXPERTS: frozenset[str] = frozenset({"MoE", "QMoE", "MOE"})
RECURRENT: frozenset[str] = frozenset(
    {
        "LSTM",
        "GRU",
        "RNN",
        "DynamicQuantizeLSTM",
        "AttnLSTM",
        "LSTMCell",
        "LSTMSequence",
        "GRUCell",
        "GRUSequence",
        "AUGRUCell",
        "AUGRUSequence",
        "RNNCell",
        "RNNSequence",
    }
)
NORMALIZATIONS: frozenset[str] = frozenset(
    {
        "LayerNormalization",
        "SkipLayerNormalization",
        "EmbedLayerNormalization",
        "SimplifiedLayerNormalization",
        "SkipSimplifiedLayerNormalization",
        "RMSNormalization",
        "RMS",
        "MVN",
    }
)
LOOKUPS: frozenset[str] = frozenset({"Gather", "Embedding", "EmbeddingBagPackedSum"})

# Operators that compute on quantized data by their very name.
QUANTIZED: frozenset[str] = frozenset(
    {
        "ConvInteger",
        "MatMulInteger",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "MatMulNBits",
        "MatMulBnb4",
        "GatherBlockQuantized",
        "GemmFloat8",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QMoE",
    }
)
QUANTIZED_PREFIXES: tuple[str, ...] = ("QLinear", "QOrdered")

# Operators that hand on their first input, moved, reshaped, cast or (de)quantized.
PASSING: frozenset[str] = frozenset(
    {
        "Identity",
        "Cast",
        "CastLike",
        "Convert",
        "ConvertLike",
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Slice",
        "StridedSlice",
        "Split",
        "VariadicSplit",
        "Expand",
        "Tile",
        "Broadcast",
        "QuantizeLinear",
        "DequantizeLinear",
        "FakeQuantize",
        "FakeConvert",
    }
)
# Decompression of weights: Convert, then Subtract the zero point, then Multiply by the scale.
SUBTRACTIONS: frozenset[str] = frozenset({"Sub", "Subtract"})
MULTIPLICATIONS: frozenset[str] = frozenset({"Mul", "Multiply"})

# Elementwise steps that may stand between the product of queries and keys, Softmax, and the
# product with the values.
ATTENTION_STEPS: frozenset[str] = (
    PASSING
    | MULTIPLICATIONS
    | SUBTRACTIONS
    | {"Add", "Div", "Divide", "Where", "Select", "Dropout", "Clip", "Clamp", "Max", "Min"}
    | {"Tanh", "BiasSoftmax", "QLinearAdd", "QLinearMul", "DynamicQuantizeLinear"}
    | {"Concat", "Maximum", "Minimum", "IsNaN"}
)
SOFTMAXES: frozenset[str] = frozenset({"Softmax", "SoftMax", "QLinearSoftmax", "BiasSoftmax"})

# Positions of inputs that are no weights: scales, zero points, ranges, shapes, indices, limits.
AUXILIARY: Mapping[str, frozenset[int]] = {
    operator: frozenset(positions)
    for operator, positions in {
        "QuantizeLinear": (1, 2),
        "DequantizeLinear": (1, 2),
        "FakeQuantize": (1, 2, 3, 4),
        "FakeConvert": (1, 2),
        "QLinearConv": (1, 2, 4, 5, 6, 7),
        "QLinearMatMul": (1, 2, 4, 5, 6, 7),
        "QLinearAdd": (1, 2, 4, 5, 6, 7),
        "QLinearMul": (1, 2, 4, 5, 6, 7),
        "QLinearWhere": (0, 2, 3, 5, 6, 7, 8),
        "QGemm": (1, 2, 4, 5, 7, 8),
        "QAttention": (3, 4, 5, 6, 7),
        "QMoE": (3, 6, 9, 11, 12, 13),
        "QEmbedLayerNormalization": (0, 1, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17),
        "MatMulInteger": (2, 3),
        "ConvInteger": (2, 3),
        "MatMulIntegerToFloat": (2, 3, 4, 5),
        "DynamicQuantizeMatMul": (2, 3),
        "DynamicQuantizeLSTM": (4, 5, 6, 8, 9, 10, 11),
        "MatMulNBits": (2, 3, 4),
        "MatMulBnb4": (2,),
        "GatherBlockQuantized": (1, 2, 3),
        "Reshape": (1,),
        "Resize": (1, 2, 3),
        "Upsample": (1,),
        "Interpolate": (1, 2, 3),
        "Pad": (1, 2, 3),
        "Slice": (1, 2, 3, 4),
        "StridedSlice": (1, 2, 3),
        "Expand": (1,),
        "Broadcast": (1, 2),
        "Tile": (1,),
        "Transpose": (1,),
        "Gather": (1, 2),
        "GatherElements": (1,),
        "GatherND": (1,),
        "ScatterElements": (1,),
        "ScatterND": (1,),
        "OneHot": (1, 2),
        "TopK": (1,),
        "Split": (1,),
        "VariadicSplit": (1, 2),
        "Squeeze": (1,),
        "Unsqueeze": (1,),
        "Clip": (1, 2),
        "Range": (0, 1, 2),
        "Shape": (0,),
        "ShapeOf": (0,),
        "Size": (0,),
        "ConstantOfShape": (0,),
        "NonMaxSuppression": (2, 3, 4, 5),
        "CastLike": (1,),
        "ConvertLike": (1,),
        "If": (0,),
        "Loop": (0, 1),
    }.items()
}


def is_auxiliary(operator: str, position: int) -> bool:
    """Return whether an operator's input at ``position`` is no weight by its meaning."""
    known = AUXILIARY.get(operator)
    if known is not None:
        return position in known
    if operator == "QLinearConcat":
        # Y_scale, Y_zero_point, then (X, X_scale, X_zero_point) for each input.
        return position < 2 or (position - 2) % 3 != 0
    # The remaining QLinear operators are unary: X, X_scale, X_zero_point, Y_scale, Y_zero_point.
    return operator.startswith("QLinear") and position > 0


def is_quantized(operator: str) -> bool:
    """Return whether an operator computes on quantized data by its very name."""
    return operator in QUANTIZED or operator.startswith(QUANTIZED_PREFIXES)
