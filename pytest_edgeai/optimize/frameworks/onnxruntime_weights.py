"""Weights of matrix products in 8 or 4 bits, in blocks: ONNX Runtime's ``MatMulNBits``.

Activations stay in float32 for the caller; how the product itself is computed says
``accuracy_level`` (docs/ContribOperators.md of ONNX Runtime, com.microsoft.MatMulNBits).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

import onnx
from onnxruntime.quantization.onnx_model import ONNXModel

from pytest_edgeai.errors import ModelError

WEIGHT_BITS: Mapping[str, int] = {"int8-weights": 8, "int4-weights": 4}
"""Scheme to bits of a weight."""
BLOCK_SIZES = (16, 32, 64, 128, 256)
"""Weights that share a scale; powers of two from 16 on."""
ACCURACY_LEVELS = (0, 1, 4)
"""0: the runtime's choice, 1: products in float32, 4: activations in 8 bits, which is faster."""
_TOOL = "onnxruntime.quantization.matmul_nbits_quantizer"


def quantize_weights(
    model: onnx.ModelProto,
    bits: int,
    block_size: int,
    *,
    symmetric: bool,
    accuracy_level: int,
    excluded: Collection[str] = (),
) -> onnx.ModelProto:
    """Return the model with the constant matrices of its products in blocks of few bits.

    Args:
        model: with a name for each node; a Gemm becomes a MatMul and an Add.
        bits: 4 or 8.
        block_size: one of `BLOCK_SIZES`.
        symmetric: whether blocks have no zero point.
        accuracy_level: one of `ACCURACY_LEVELS`.
        excluded: names of nodes that stay as they are, see `onnxruntime_prepare.names_of`.

    Raises:
        ModelError: the tool needs a package that is not there.
    """
    tool = _quantizer()
    opened = ONNXModel(model)
    opened.replace_gemm_with_matmul()
    quantizer = tool(
        opened.model,
        bits=bits,
        block_size=block_size,
        is_symmetric=symmetric,
        accuracy_level=accuracy_level,
        nodes_to_exclude=list(excluded),
    )
    quantizer.process()
    made: onnx.ModelProto = quantizer.model.model
    return made


def _quantizer() -> Any:
    # The tool reports every node to the root logger, which it configures.
    logging.getLogger(_TOOL).setLevel(logging.WARNING)
    try:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    except ImportError as error:
        raise ModelError(
            f"onnxruntime's tool for weights of few bits needs {error.name or error}, which is not "
            "installed beside it",
            advice="Run: pip install onnx-ir",
        ) from error
    return MatMulNBitsQuantizer
