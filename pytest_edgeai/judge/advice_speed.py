"""Rules for candidates that are not fast enough: what they compute in, and where it was lost."""

from __future__ import annotations

import math
from collections import Counter

from pytest_edgeai.advice_records import Advice
from pytest_edgeai.judge.advice_situation import (
    CONVOLUTIONS,
    MEMORY_GATES,
    PRECISION_GATE,
    SPEED_GATES,
    Rule,
    Situation,
    figures,
    names,
    own_reason,
)
from pytest_edgeai.judge.advice_words import replaced, slow_text
from pytest_edgeai.judge.verdict import (
    count_text,
    duration_text,
    list_text,
    percent_text,
    ratio_text,
)

DOMINANT_SHARE = 0.3
"""Share of the time above which one kind of operator is named as what slows a model down."""
SLOWER_RATIO = 1.1
"""A conversion that is slower than the baseline by more than what processes differ by."""
FUSED_SHARE = 0.5
"""Share of the quantized operators that must execute in integers; healthy models show over 0.9."""
_INTEGERS = ("int8", "uint8", "i8", "u8")
_FUSED = {
    "FusedConv": "Conv",
    "NhwcFusedConv": "Conv",
    "FusedGemm": "Gemm",
    "FusedMatMul": "MatMul",
}
_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_QUANTIZABLE = frozenset({"Conv", "Gemm", "MatMul"})


def _without_vnni(s: Situation) -> Advice | None:
    slow = s.failed(*SPEED_GATES)
    if not slow or s.claimed_precision != "int8" or s.multiplies_int8 is not False:
        return None
    recipe = None if s.is_weights_only else s.with_scheme("int8-weights")
    lines, fix = replaced(s, recipe)
    simd = list_text(s.host.simd) or "none"
    return Advice(
        "int8-without-vnni",
        slow_text(s),
        f"this CPU multiplies INT8 in no single step: of VNNI, AMX and ARM's dot product it has "
        f"none (its features: {simd})",
        "gate it on a host with such a feature, as the deployed devices have"
        + (", or compress the weights alone" if recipe else ""),
        lines,
        {**figures(slow), "simd": list(s.host.simd)},
        fix,
        0.6,
        names(slow),
    )


def _dynamic_on_convolutions(s: Situation) -> Advice | None:
    missed = s.failed(*SPEED_GATES, *MEMORY_GATES, PRECISION_GATE)
    convolutions = s.count(*CONVOLUTIONS)
    if s.recipe.scheme != "int8-dynamic" or not convolutions or s.precision is None or not missed:
        return None
    integer = s.precision.quantized_operators.get("ConvInteger", 0)
    stored = s.weight_bytes()
    floats = sum(size for name, size in stored.items() if name.startswith("float"))
    share = floats / sum(stored.values()) if stored else 0.0
    if not integer and share < DOMINANT_SHARE:
        return None
    # Convolutions with integers are slow, but small; those in float are as large as ever.
    gates = s.failed(*SPEED_GATES) if integer else missed
    if not gates:
        return None
    if integer:
        cause = (
            f"{count_text(integer, 'convolution')} of {convolutions} run as ConvInteger, for which "
            "the runtime has no fast kernel"
        )
    else:
        cause = (
            f"dynamic quantization left its {count_text(convolutions, 'convolution')} in float: "
            f"{percent_text(share)} of the weights' bytes"
        )
    recipe = s.with_scheme("int8-static")
    remedy = "quantize it statically, with ranges from calibration data"
    if recipe is None and integer and s.count("MatMul", "Gemm"):
        recipe = s.with_options("no-conv", op_types=["MatMul", "Gemm"])
        remedy = "leave the convolutions in float, or name calibration data and quantize statically"
    elif recipe is None:
        remedy += ": name some under calibration"
    lines, fix = replaced(s, recipe)
    return Advice(
        "dynamic-on-convolutions",
        slow_text(s) if integer else f"{list_text(names(gates))} failed",
        cause,
        remedy,
        lines,
        {
            **figures(gates),
            "convolutions": convolutions,
            "conv_integer": integer,
            "float_share_of_weight_bytes": share,
        },
        fix,
        0.9,
        names(gates),
    )


def _unsigned_weights(s: Situation) -> Advice | None:
    slow = s.failed("speedup", "no_slower")
    stored = s.precision.weight_elements.get("uint8", 0) if s.precision is not None else 0
    if not slow or s.recipe.scheme != "int8-dynamic" or not stored:
        return None
    if s.recipe.options.get("weight_type") != "uint8":
        return None
    lines, fix = replaced(s, s.with_options("signed", weight_type=None))
    return Advice(
        "unsigned-dynamic-weights",
        slow_text(s),
        f"{count_text(stored, 'weight')} are stored as uint8, whose product with uint8 "
        "activations the runtime computes more slowly than that with int8 weights",
        "store the weights as int8",
        lines,
        {**figures(slow), "uint8_weights": stored},
        fix,
        0.7,
        names(slow),
    )


def _qdq_not_fused(s: Situation) -> Advice | None:
    missed = s.failed(*SPEED_GATES, PRECISION_GATE)
    if not missed or s.precision is None or s.claimed_precision != "int8" or s.is_weights_only:
        return None
    executed = s.precision.executed_precisions
    quantized = sum(s.precision.quantized_operators.values())
    integers = sum(executed.get(name, 0) for name in _INTEGERS)
    integer_time = s.profile.candidate.integer_share if s.profile is not None else None
    is_slow_path = integer_time is not None and integer_time < FUSED_SHARE
    if not executed or not quantized:
        return None
    if not integers < FUSED_SHARE * quantized and not is_slow_path:
        return None
    gates = missed if integers == 0 else s.failed(*SPEED_GATES)
    if not gates:
        return None
    options = s.recipe.options
    recipe, remedy = None, "check which operators the runtime fuses, and quantize those alone"
    if s.is_static and options.get("weight_type") == "uint8":
        recipe, remedy = s.with_options("signed", weight_type=None), "store the weights as int8"
    elif s.is_static and options.get("activation_type") == "int8":
        recipe = s.with_options("unsigned", activation_type=None)
        remedy = "quantize activations to uint8, which the kernels are written for"
    elif s.is_static and s.recipe.framework != "openvino":
        recipe = s.with_scheme("int8-static", "openvino")
        remedy = "quantize it with OpenVINO's tools for OpenVINO's runtime, which fuse alike"
    lines, fix = replaced(s, recipe)
    spent = f", {percent_text(integer_time)} of the multiplying time" if integer_time else ""
    return Advice(
        "qdq-not-fused",
        f"{list_text(names(gates))} failed although the weights are INT8",
        f"{integers} operators run in integers{spent}, of {quantized} that the artifact quantizes: "
        "the others dequantize and compute in float",
        remedy,
        lines,
        {
            **figures(gates),
            "quantized_operators": dict(s.precision.quantized_operators),
            "executed_precisions": dict(executed),
            "integer_share_of_time": integer_time,
        },
        fix,
        0.85,
        names(gates),
    )


def _weights_only(s: Situation) -> Advice | None:
    slow = s.failed(*SPEED_GATES)
    if not slow or not s.is_weights_only or s.precision is None:
        return None
    executed = s.precision.executed_precisions
    integers = sum(executed.get(name, 0) for name in _INTEGERS)
    if not executed or integers >= FUSED_SHARE * sum(s.precision.quantized_operators.values()):
        return None
    bound = s.limits("compute-bound")
    if s.profile is not None and bound is None:
        return None
    if bound is None and s.facts.architecture != "convolutional":
        return None
    recipe = s.with_scheme("int8-static")
    lines, fix = replaced(s, recipe)
    why = f"; {own_reason(bound)}" if bound is not None else ""
    return Advice(
        "weights-only-computes-in-float",
        slow_text(s),
        f"the weights alone are compressed, and {sum(executed.values()) - integers} of "
        f"{sum(executed.values())} operators compute in "
        f"{list_text(name for name in executed if name not in _INTEGERS)}{why}",
        "quantize activations too, with ranges from calibration data"
        + ("" if recipe else ": name some under calibration"),
        lines,
        {**figures(slow), "executed_precisions": dict(executed)},
        fix,
        0.8,
        names(slow),
    )


def _framework_slower(s: Situation) -> Advice | None:
    slow = s.failed("speedup", "no_slower")
    baseline, converted = s.stages.get("baseline"), s.stages.get("converted")
    if not slow or baseline is None or converted is None:
        return None
    if baseline.framework == converted.framework or baseline.latency.p50_ns <= 0:
        return None
    ratio = converted.latency.p50_ns / baseline.latency.p50_ns
    if not ratio > SLOWER_RATIO:
        return None
    recipe = None
    for scheme in dict.fromkeys((s.recipe.scheme, "int8-static", "int8-dynamic")):
        recipe = recipe or s.with_scheme(scheme, baseline.framework)
    lines, fix = replaced(s, recipe)
    observed, limit = slow[0].observed, slow[0].threshold
    weight = 0.6
    if observed and limit and 0 < observed < limit:
        weight = min(0.9, math.log(ratio) / math.log(limit / observed))
    return Advice(
        "framework-slower-than-baseline",
        slow_text(s),
        f"at full precision, {converted.framework} takes {ratio_text(ratio)} the time of the "
        f"baseline in {baseline.framework} ({duration_text(converted.latency.p50_ns)} instead of "
        f"{duration_text(baseline.latency.p50_ns)}), which eats up what quantizing gains",
        f"quantize it for {baseline.framework}",
        lines,
        {
            **figures(slow),
            "converted_p50_ns": converted.latency.p50_ns,
            "baseline_p50_ns": baseline.latency.p50_ns,
        },
        fix,
        weight,
        names(slow),
    )


def _baseline_quantized(s: Situation) -> Advice | None:
    missed = s.failed("speedup", *MEMORY_GATES)
    counts = {n: c for n, c in s.facts.weight_elements.items() if n not in ("int32", "int64")}
    narrow = sum(
        count for name, count in counts.items() if not name.startswith(("float", "bfloat"))
    )
    share = narrow / sum(counts.values()) if counts else 0.0
    if not missed or share <= 0.5:
        return None
    return Advice(
        "baseline-quantized-already",
        f"{list_text(names(missed))} failed",
        f"{percent_text(share)} of the baseline's own weights are quantized "
        f"({s.facts.quantization or list_text(counts)}), so that little is left to gain",
        "name the model of full precision as path, or set limits that fit a quantized baseline",
        (),
        {**figures(missed), "quantized_share_of_baseline": share},
        None,
        0.75,
        names(missed),
    )


def _hot_float_operator(s: Situation) -> Advice | None:
    slow = s.failed(*SPEED_GATES)
    if not slow or s.profile is None or s.claimed_precision != "int8" or s.is_weights_only:
        return None
    if s.limits("overhead-bound") is not None:
        # The time is not in the operators at all.
        return None
    total = sum(each.time_ns for each in s.profile.candidate.operators)
    spent: Counter[str] = Counter()
    for each in s.profile.candidate.operators:
        is_float = each.precision.lower().startswith(("float", "f32", "f16", "fp", "bf16"))
        if is_float and each.operator not in _CONVERSIONS:
            spent[each.operator] += each.time_ns
    if not total or not spent:
        return None
    kind, time_ns = spent.most_common(1)[0]
    share = time_ns / total
    if share < DOMINANT_SHARE:
        return None
    plain = _FUSED.get(kind, kind)
    recipe = None
    listed = s.recipe.options.get("op_types")
    if plain in _QUANTIZABLE and listed and plain not in listed and s.is_static:
        recipe = s.with_options(plain.lower(), op_types=[*listed, plain])
    elif plain in _QUANTIZABLE and s.recipe.scheme == "int8-dynamic":
        recipe = s.with_scheme("int8-static")
    lines, fix = replaced(s, recipe)
    remedy = f"quantize {plain} too" if recipe else f"export the model with less {plain} in it"
    return Advice(
        "float-operator-dominates",
        slow_text(s),
        f"{kind} computes in float and takes {percent_text(share)} of the time in operators",
        remedy,
        lines,
        {**figures(slow), "operator": kind, "share_of_time": share},
        fix,
        min(0.9, share),
        names(slow),
    )


RULES = (
    Rule(
        "int8-without-vnni",
        "An INT8 candidate is too slow, and the CPU has no instruction that multiplies and adds "
        "INT8: gate it on a host that has one, or compress the weights alone.",
        _without_vnni,
        "the CPU's features",
    ),
    Rule(
        "dynamic-on-convolutions",
        "Dynamic quantization met convolutions, which then run slowly as ConvInteger or stay in "
        "float: quantize statically.",
        _dynamic_on_convolutions,
        "the artifact's operators",
    ),
    Rule(
        "unsigned-dynamic-weights",
        "Dynamic quantization stored the weights as uint8: store them as int8.",
        _unsigned_weights,
        "the artifact's weights",
    ),
    Rule(
        "qdq-not-fused",
        "The artifact quantizes operators that the runtime executes in float: choose types that "
        "its kernels take, or OpenVINO's own quantization.",
        _qdq_not_fused,
        "the precisions that the runtime executes",
    ),
    Rule(
        "weights-only-computes-in-float",
        "The weights alone are compressed and the model is bound by computing, or is a "
        "convolutional one: quantize activations too.",
        _weights_only,
        "the precisions that the runtime executes",
    ),
    Rule(
        "framework-slower-than-baseline",
        "At full precision the candidate's framework is slower than the baseline's: quantize for "
        "the baseline's framework.",
        _framework_slower,
        "the stages",
    ),
    Rule(
        "baseline-quantized-already",
        "The baseline itself is quantized, so that little is left to gain.",
        _baseline_quantized,
        "the model's file",
    ),
    Rule(
        "float-operator-dominates",
        "One kind of operator computes in float and takes 30% of the time or more: quantize it "
        "too.",
        _hot_float_operator,
        "a profile",
    ),
)
