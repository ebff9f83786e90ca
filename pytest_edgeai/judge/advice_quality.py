"""Rules for candidates that lost accuracy: calibration data and the ranges found in it."""

from __future__ import annotations

import re

from pytest_edgeai.advice_records import Advice
from pytest_edgeai.judge.advice_lines import model_lines
from pytest_edgeai.judge.advice_situation import QUALITY_GATES, Rule, Situation, figures, names
from pytest_edgeai.judge.advice_words import loss_text, replaced
from pytest_edgeai.judge.verdict import count_text, list_text

FEW_CALIBRATION_SAMPLES = 100
"""Fewer are said to be too few; NNCF takes 300 by default and shows its accuracy with as many."""
ENOUGH_CALIBRATION_SAMPLES = 300
OUTLIER_RATIO = 4.0
"""Largest magnitude over the 99th percentile; of a million values, normal ones show 1.9 and
exponential ones 3."""
X86 = ("x86_64", "amd64", "i686")
_TRANSFORMERS = ("transformer", "mixture-of-experts")
_PER_TENSOR = re.compile(r"quantized per tensor")
_QUANTIZERS = ("onnxruntime", "olive")


def _calibration_cut(s: Situation) -> Advice | None:
    lost, data = s.failed(*QUALITY_GATES), s.calibration
    if not lost or not s.is_static or data is None or data.calls_used is None:
        return None
    available = data.calls_available or 0
    if data.calls_used >= available:
        return None
    lines, fix = replaced(s, s.with_options("calibrated", calibration_calls=available))
    return Advice(
        "calibration-cut-short",
        loss_text(s),
        f"it was calibrated with {data.calls_used} of the {available} calls that the calibration "
        "data make",
        "calibrate with all of it",
        lines,
        {**figures(lost), "calls_used": data.calls_used, "calls_available": available},
        fix,
        0.5,
        names(lost),
    )


def _few_calibration_samples(s: Situation) -> Advice | None:
    lost, data = s.failed(*QUALITY_GATES), s.calibration
    if not lost or not s.is_static or data is None or data.samples >= FEW_CALIBRATION_SAMPLES:
        return None
    remark = f"with at least {ENOUGH_CALIBRATION_SAMPLES} samples"
    return Advice(
        "few-calibration-samples",
        loss_text(s),
        f"the ranges of its activations were found in {count_text(data.samples, 'sample')}",
        f"calibrate with {ENOUGH_CALIBRATION_SAMPLES} representative samples",
        model_lines(s.model, "calibration", data.source, remark),
        {**figures(lost), "calibration_samples": data.samples},
        None,
        0.55,
        names(lost),
    )


def _calibration_not_finite(s: Situation) -> Advice | None:
    missed = (
        *s.failed(*QUALITY_GATES),
        *(s.verdicts[g] for g in QUALITY_GATES if s.outcome(g) == "error"),
    )
    data = s.calibration
    if not missed or not s.is_static or data is None or not data.not_finite:
        return None
    return Advice(
        "calibration-not-finite",
        f"{list_text(names(missed))}: not passed",
        f"{count_text(data.not_finite, 'element')} of the calibration data are NaN or infinite, "
        "and no range holds them",
        "remove those samples from the calibration data",
        model_lines(s.model, "calibration", data.source, "without NaN and infinity"),
        {**figures(missed), "not_finite": data.not_finite},
        None,
        0.95,
        names(missed),
    )


def _calibration_outliers(s: Situation) -> Advice | None:
    lost, data = s.failed(*QUALITY_GATES), s.calibration
    ratio = data.outlier_ratio if data is not None else None
    if not lost or not s.is_static or data is None or ratio is None or ratio < OUTLIER_RATIO:
        return None
    options = s.recipe.options
    if options.get("calibrate_method", "minmax") != "minmax":
        return None
    recipe = s.with_options("percentile", calibrate_method="percentile")
    if recipe is not None and s.has(s.recipe.framework, s.recipe.scheme, "percentile"):
        recipe = s.with_options("percentile", calibrate_method="percentile", percentile=99.9)
    lines, fix = replaced(s, recipe)
    remedy = "find the ranges by percentile, which leaves outliers out"
    if recipe is None:
        remedy = "take the outliers out of the calibration data"
        lines = model_lines(s.model, "calibration", data.source, "without outliers")
    return Advice(
        "calibration-outliers",
        loss_text(s),
        f"the largest value of the calibration data is {ratio:.3g} times its 99th percentile, "
        "and ranges from the least to the largest value spend the steps of INT8 on it",
        remedy,
        lines,
        {**figures(lost), "outlier_ratio": ratio},
        fix,
        0.7,
        names(lost),
    )


def _per_tensor(s: Situation) -> Advice | None:
    lost = s.failed(*QUALITY_GATES)
    if not lost or s.recipe.framework not in _QUANTIZERS:
        return None
    asked = s.recipe.options.get("per_channel") is False
    told = next((line for line in s.log if _PER_TENSOR.search(line)), "")
    if not asked and not told:
        return None
    recipe = s.with_options("per-channel", per_channel=True) if asked else None
    lines, fix = replaced(s, recipe)
    said = "the recipe says per_channel = false" if asked else f'the tool said "{told}"'
    return Advice(
        "per-channel-missing",
        loss_text(s),
        f"all channels of a weight share one scale ({said}), and those with small weights lose "
        "them",
        "give each channel a scale of its own"
        + ("" if asked else ": export the model with opset 17 and quantize it again"),
        lines,
        {**figures(lost), "per_channel": False, "told": told},
        fix,
        0.8,
        names(lost),
    )


def _saturation(s: Situation) -> Advice | None:
    lost = s.failed(*QUALITY_GATES)
    if not lost or s.recipe.framework not in _QUANTIZERS or not s.recipe.scheme.startswith("int8"):
        return None
    is_x86 = s.host.architecture.lower() in X86
    asked = bool(s.recipe.options.get("reduce_range", False))
    if s.multiplies_int8 is None or not is_x86 or asked == (not s.multiplies_int8):
        return None
    recipe = s.with_options("7-bit" if not asked else "8-bit", reduce_range=not asked or None)
    if recipe is None:
        return None
    lines, fix = replaced(s, recipe)
    if asked:
        cause = (
            "the weights are quantized to 7 bits (reduce_range), which this CPU, with VNNI, does "
            "not need"
        )
        remedy = "quantize them to all 8 bits"
    else:
        cause = (
            "this x86 CPU has no VNNI: its product of uint8 and int8 saturates at 16 bits, which "
            "weights of 8 bits exceed"
        )
        remedy = "quantize the weights to 7 bits (reduce_range), or judge on a CPU with VNNI"
    return Advice(
        "weight-range-and-vnni",
        loss_text(s),
        cause,
        remedy,
        lines,
        {**figures(lost), "simd": list(s.host.simd), "reduce_range": asked},
        fix,
        0.55,
        names(lost),
    )


def _transformer_mode(s: Situation) -> Advice | None:
    lost = s.failed(*QUALITY_GATES)
    if not lost or s.facts.architecture not in _TRANSFORMERS or not s.is_static:
        return None
    if s.recipe.framework == "openvino":
        if s.recipe.options.get("model_type") != "none":
            return None
        recipe = s.with_options("transformer", model_type="transformer")
        cause = "NNCF was told model_type = none, and quantized what attention is sensitive in"
        remedy = "quantize it as a transformer"
    elif s.recipe.framework in _QUANTIZERS:
        recipe = s.with_scheme("int8-dynamic")
        cause = "one range for all inputs was found for activations that vary by input"
        remedy = "find the ranges while running: int8-dynamic"
    else:
        return None
    if recipe is None:
        return None
    lines, fix = replaced(s, recipe)
    return Advice(
        "static-ranges-in-a-transformer",
        loss_text(s),
        f"the model is a {s.facts.architecture} ({count_text(s.count('MatMul'), 'MatMul')}), and "
        f"{cause}",
        remedy,
        lines,
        {**figures(lost), "architecture": s.facts.architecture},
        fix,
        0.6,
        names(lost),
    )


RULES = (
    Rule(
        "calibration-cut-short",
        "Only a part of the calibration data was used: use all of it.",
        _calibration_cut,
        "the calibration data",
    ),
    Rule(
        "few-calibration-samples",
        "Fewer than 100 calibration samples: give it 300.",
        _few_calibration_samples,
        "the calibration data",
    ),
    Rule(
        "calibration-not-finite",
        "The calibration data holds NaN or infinity: remove them.",
        _calibration_not_finite,
        "the calibration data",
    ),
    Rule(
        "calibration-outliers",
        "The largest calibration value is more than four times the 99th percentile: find ranges "
        "by percentile.",
        _calibration_outliers,
        "the calibration data",
    ),
    Rule(
        "per-channel-missing",
        "All channels of a weight share one scale: give each its own.",
        _per_tensor,
        "the recipe, or what its tool said",
    ),
    Rule(
        "weight-range-and-vnni",
        "On an x86 CPU without VNNI weights of 8 bits saturate: use 7 (reduce_range); with VNNI, "
        "7 bits lose accuracy for nothing: use 8.",
        _saturation,
        "the CPU's features",
    ),
    Rule(
        "static-ranges-in-a-transformer",
        "A transformer was quantized with one range for all inputs: use NNCF's transformer mode, "
        "or ranges found while running.",
        _transformer_mode,
        "the model's operators",
    ),
)
