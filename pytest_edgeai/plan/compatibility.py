"""Which schemes of a framework fit a model's weights, from the facts of its file alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_edgeai.assess.ggml_types import GGML_TYPES
from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.records import ModelFacts

CONVERT = "convert"
MLX_GROUP = 64
"""Weights that share a scale in MLX where a scheme's name states no group."""

QUANTIZED_OPERATORS = frozenset(
    {
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "FakeQuantize",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QGemm",
        "QLinearAdd",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    }
)
"""Operators of ONNX, its com.microsoft domain and OpenVINO that only quantized models hold."""
DYNAMIC_OPERATORS = frozenset({"Attention", "Gather", "Gemm", "LSTM", "MatMul"})
"""What dynamic quantization of ONNX models takes; convolutions have no fast kernel for it."""
PRODUCTS = frozenset({"Gemm", "MatMul"})
"""What ONNX Runtime stores the weights of in few bits."""
WEIGHTS_ALONE = "-weights"
PER_CHANNEL_OPSET = 13
"""DequantizeLinear takes a scale per channel from here on (docs/Changelog.md of ONNX)."""

_NARROW = re.compile(r"(u?int[1-8]|nf4|float[46]_\w+|float8_\w+)$")
_NOT_WEIGHTS = frozenset({"bool", "int32", "int64", "uint32", "uint64"})
_BLOCKS = {kind.name: kind.block_elements for kind in GGML_TYPES.values()}
# What llama.cpp stores instead where a row is no multiple of a block of 256
# (``llama_tensor_get_type`` in src/llama-quant.cpp); rows that do not fit that either stay float16.
_FALLBACKS = {"q2_k": "iq4_nl", "q3_k": "iq4_nl", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}
# Schemes of Olive whose artifacts ONNX Runtime GenAI runs.
_GENAI = "-genai"
_GROUP = re.compile(r"-g(\d+)$")


@dataclass(frozen=True)
class Fit:
    """How one scheme fits a model.

    Attributes:
        possible: whether an artifact can be made.
        reason: why it cannot, or what it will leave out or change; empty where it fits whole.
    """

    possible: bool = True
    reason: str = ""


FITS = Fit()


def quantization_compatibility(
    facts: ModelFacts, framework: FrameworkDescriptor, task: str = ""
) -> dict[str, str]:
    """Return what speaks against each quantization scheme of ``framework`` for a model.

    Args:
        facts: what the model's file says.
        framework: the framework.
        task: Hugging Face task name; empty: not asked.

    Returns:
        Scheme name to a reason, in the order of the framework; empty where the scheme fits whole.
    """
    return {name: fit.reason for name, fit in scheme_fits(facts, framework, task).items()}


def scheme_fits(
    facts: ModelFacts, framework: FrameworkDescriptor, task: str = ""
) -> dict[str, Fit]:
    """Return how each quantization scheme of ``framework`` fits a model; see :class:`Fit`."""
    schemes = [scheme for scheme in framework.schemes if scheme != CONVERT]
    refusal = framework_refusal(facts, framework, task)
    if refusal:
        return dict.fromkeys(schemes, Fit(False, refusal))
    return {scheme: _fit(facts, framework, scheme) for scheme in schemes}


def framework_refusal(facts: ModelFacts, framework: FrameworkDescriptor, task: str = "") -> str:
    """Return why ``framework`` cannot take a model at all; empty where it can.

    The words go on from the framework's name.
    """
    if facts.format not in framework.formats:
        return f"does not take {facts.format} models"
    if task and not framework.serves(task):
        return f"does not serve {task}"
    unknown = sorted(framework.unknown_operators & set(facts.operators))
    if unknown:
        return f"does not know the operator {unknown[0]}"
    return ""


def quantized_already(facts: ModelFacts) -> str:
    """Return how a model's weights are quantized in its file; empty for full precision.

    The words go on from "its weights are".
    """
    if facts.quantization:
        return f"quantized already ({facts.quantization})"
    operators = sorted(QUANTIZED_OPERATORS & set(facts.operators))
    counted = {k: n for k, n in facts.weight_elements.items() if k not in _NOT_WEIGHTS}
    total = sum(counted.values())
    narrow = {name: count for name, count in counted.items() if _NARROW.match(name)}
    if total and sum(narrow.values()) > total / 2:
        most = max(narrow, key=lambda name: narrow[name])
        return f"quantized already ({narrow[most] / total:.0%} {most})"
    return f"quantized already ({operators[0]})" if operators else ""


def _fit(facts: ModelFacts, framework: FrameworkDescriptor, scheme: str) -> Fit:
    already = quantized_already(facts)
    if already and facts.format in ("gguf", "huggingface"):
        # llama.cpp can be made to (its option allow_requantize), which no default does.
        return Fit(False, f"its weights are {already}, and {framework.name} takes full precision")
    if already:
        return Fit(reason=f"its weights are {already}: the baseline is not of full precision")
    if framework.name == "llamacpp":
        return _fit_blocks(facts, framework.schemes[scheme])
    if framework.name == "mlx":
        return _fit_groups(facts, scheme)
    if framework.name == "olive" and scheme.endswith(_GENAI) != (facts.format != "onnx"):
        wanted = "ONNX" if facts.format != "onnx" else "Hugging Face language"
        return Fit(False, f"is made of {wanted} models alone")
    if facts.format == "onnx" and framework.name in ("onnxruntime", "olive"):
        return _fit_onnx(facts, scheme)
    return FITS


def _fit_onnx(facts: ModelFacts, scheme: str) -> Fit:
    if scheme == "int8-dynamic" and not DYNAMIC_OPERATORS & set(facts.operators):
        wanted = ", ".join(sorted(DYNAMIC_OPERATORS))
        return Fit(False, f"the model has no operator that it quantizes ({wanted})")
    if scheme.endswith(WEIGHTS_ALONE):
        if PRODUCTS & set(facts.operators):
            return FITS
        wanted = ", ".join(sorted(PRODUCTS))
        return Fit(False, f"the model has no operator whose weights it takes ({wanted})")
    if scheme.startswith("int8") and 0 < facts.opset < PER_CHANNEL_OPSET:
        return Fit(
            reason=f"opset {facts.opset} has no scale per channel, so that the model is converted "
            "to a newer one first"
        )
    return FITS


def _fit_blocks(facts: ModelFacts, precision: str) -> Fit:
    """Return how the rows of a model fit the blocks of llama.cpp's tensor type ``precision``."""
    block = _BLOCKS.get(precision, 1)
    share, rows = _odd_rows(facts, block)
    if not share:
        return FITS
    second = _FALLBACKS.get(precision, "")
    instead = [
        name
        for name, is_used in (
            (second, second and any(not row % _BLOCKS[second] for row in rows)),
            ("float16", not second or any(row % _BLOCKS[second] for row in rows)),
        )
        if is_used
    ]
    return Fit(
        reason=f"{share:.0%} of its weights lie in rows of {_listed(rows)}, no multiple of "
        f"{block}, and are stored as {' or '.join(instead)} instead"
    )


def _fit_groups(facts: ModelFacts, scheme: str) -> Fit:
    """Return how the rows of a model fit the groups of an MLX scheme."""
    found = _GROUP.search(scheme)
    group = int(found[1]) if found else MLX_GROUP
    share, rows = _odd_rows(facts, group)
    if not share:
        return FITS
    half = group // 2
    hint = "" if any(row % half for row in rows) else f" (groups of {half} would fit)"
    if share == 1:
        return Fit(False, f"no row of its weights is a multiple of {group}{hint}")
    return Fit(
        reason=f"{share:.0%} of its weights lie in rows of {_listed(rows)}, no multiple of "
        f"{group}, and keep their precision{hint}"
    )


def _odd_rows(facts: ModelFacts, block: int) -> tuple[float, list[int]]:
    """Return which rows are no multiple of ``block``, and their share of the weights."""
    total = sum(facts.row_elements.values())
    odd: Mapping[int, int] = {row: n for row, n in facts.row_elements.items() if row % block}
    return (sum(odd.values()) / total if total else 0.0), sorted(odd)


def _listed(rows: list[int]) -> str:
    shown = ", ".join(str(row) for row in rows[:3])
    return f"{shown} ..." if len(rows) > 3 else shown
