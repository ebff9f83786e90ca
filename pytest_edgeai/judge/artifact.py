"""The gates ``artifact_size`` and ``precision_proof``: what lies on disk, and what executes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pytest_edgeai.judge.verdict import (
    bytes_text,
    count_text,
    list_text,
    make_verdict,
    percent_text,
    require_relation,
    threshold_fault,
)
from pytest_edgeai.records import JSON, Outcome, PrecisionFacts, Threshold, Verdict

SIZE_GATE = "artifact_size"
PRECISION_GATE = "precision_proof"
MINIMUM_QUANTIZED_RATIO = 0.75
"""At most a quarter of the weights may stay outside the claimed precision. Norms, biases and a
BERT-sized embedding table (22% of BERT base) fit into it; a convolutional model whose convolutions
stayed in float does not (27% of the shipped example). Quantized models normally show over 95%."""

_ALIASES = {
    "f64": "float64", "fp64": "float64", "double": "float64",
    "f32": "float32", "fp32": "float32", "float": "float32",
    "f16": "float16", "fp16": "float16", "half": "float16",
    "bf16": "bfloat16",
    "i8": "int8", "u8": "uint8", "i4": "int4", "u4": "uint4",
    "i16": "int16", "u16": "uint16", "i32": "int32", "u32": "uint32",
    "i64": "int64", "u64": "uint64", "boolean": "bool",
}  # fmt: skip

_CLASSES: dict[str, frozenset[str]] = {
    "float32": frozenset({"float32"}),
    "float16": frozenset({"float16"}),
    "bfloat16": frozenset({"bfloat16"}),
    "int8": frozenset({"int8", "uint8"}),
    "int4": frozenset({"int4", "uint4"}),
    "int4-int6": frozenset({"int4", "uint4", "int6", "uint6"}),
    "q8_0": frozenset({"q8_0"}),
    "q4_0": frozenset({"q4_0", "q4_1", "q6_k"}),
    "q4_k": frozenset({"q4_k", "q5_k", "q6_k"}),
    "q2_k": frozenset({"q2_k", "q3_k", "q4_k", "q6_k"}),
}
"""Storage types by claim. The ggml claims are those of llama.cpp's mixes, which keep the output,
some values and some feed-forward tensors at more bits (src/llama-quant.cpp)."""
_MINIMUM_NAMESAKE_RATIO = 0.2
"""Share of a ggml mix that must be of the type that names it; a tied embedding, which a mix keeps
at six bits, can be over half of a small model."""
_STORAGE_ONLY = frozenset({"int4", "int4-int6"})
_GGML_FALLBACKS: dict[str, frozenset[str]] = {
    "q8_0": frozenset(),
    "q4_0": frozenset({"q8_0"}),
    "q4_k": frozenset({"q5_0", "q8_0"}),
    "q2_k": frozenset({"q4_0", "iq4_nl", "q5_0", "q8_0"}),
}
"""What llama.cpp stores instead where a row is no multiple of the type's 256 elements."""
_NOT_WEIGHTS = frozenset({"int32", "uint32", "int64", "uint64", "bool", "string", "str"})
_ANY_DEVICE = frozenset({"AUTO", "MULTI", "HETERO"})


def judge_artifact_size(
    candidate_bytes: int,
    baseline_bytes: int,
    threshold: Threshold,
    *,
    memory_verdict_is_not_applicable: bool,
    memory_cut: Threshold,
) -> Verdict:
    """Decide whether the candidate's files are small enough.

    With a limit, the files must not exceed it. Without one, the file size stands in for the memory
    gate where that is not applicable (a baseline too small to measure): the candidate may take at
    most ``1 - memory_cut`` of the baseline's bytes. Otherwise not applicable.

    Args:
        candidate_bytes: all files of the candidate.
        baseline_bytes: all files of the baseline.
        threshold: relation ``at_most``, unit bytes; may have no value.
        memory_verdict_is_not_applicable: the outcome of ``memory_cut``.
        memory_cut: threshold of ``memory_cut``.

    Returns:
        A verdict; ``error`` for sizes or thresholds that are not positive and finite.

    Raises:
        ValueError: for a threshold of another relation.
    """
    require_relation(SIZE_GATE, threshold, "at_most")
    require_relation("memory_cut", memory_cut, "at_least")
    details: dict[str, JSON] = {
        "candidate_bytes": candidate_bytes,
        "baseline_bytes": baseline_bytes,
    }
    sizes = (candidate_bytes, baseline_bytes)
    fault = threshold_fault(threshold)
    if not fault and not all(math.isfinite(size) and size > 0 for size in sizes):
        fault = f"the files take {candidate_bytes} and {baseline_bytes} bytes"
    stands_in = threshold.value is None and memory_verdict_is_not_applicable
    if not fault and stands_in:
        fault = threshold_fault(memory_cut, positive=False)
    if fault:
        return make_verdict(
            SIZE_GATE,
            "error",
            threshold,
            unit="bytes",
            reason=f"not judged: {fault}",
            advice="check the artifact and the threshold",
            details=details,
        )
    reason = f"{bytes_text(candidate_bytes)}; the baseline takes {bytes_text(baseline_bytes)}"
    if stands_in and memory_cut.value is not None:
        limit = max(0.0, (1 - memory_cut.value) * baseline_bytes)
        threshold = Threshold(limit, "at_most", memory_cut.origin)
        reason += (
            f"; the model is too small to compare memory, so that its files must be "
            f"{percent_text(memory_cut.value)} smaller"
        )
    outcome: Outcome = "not_applicable"
    if threshold.value is None:
        reason += "; no limit is set"
    else:
        outcome = "pass" if candidate_bytes <= threshold.value else "fail"
        reason += f"; at most {bytes_text(threshold.value)} allowed"
    return make_verdict(
        SIZE_GATE,
        outcome,
        threshold,
        unit="bytes",
        reason=reason,
        advice="choose a recipe that stores its weights in fewer bits" if outcome == "fail" else "",
        observed=float(candidate_bytes),
        samples=1,
        details=details,
    )


def judge_precision(
    facts: PrecisionFacts,
    claimed_precision: str,
    *,
    minimum_quantized_ratio: float = MINIMUM_QUANTIZED_RATIO,
    threshold_origin: str = "default",
) -> Verdict:
    """Decide whether the artifact is of the precision, and runs on the device, that it claims.

    Fails if too small a share of the weight elements on disk is of the claimed precision (a model
    that only simulates quantization stores float weights and fails); if the runtime tells what
    precisions it executes and none is the claimed one; if it does not execute on the claimed
    device. Elements of 32- and 64-bit integers are biases, shapes and indices and do not count,
    nor do those of layers that the recipe leaves alone by name.
    ``int4`` is a storage format that runtimes compute in other precisions, hence its execution is
    not checked.

    Args:
        facts: dtype names as ``float32`` or ``f32``, ``uint8`` or ``u8`` and so on.
        claimed_precision: ``int8``, ``int4``, ``int4-int6``, ``float16``, ``bfloat16``,
            ``float32``, or a ggml type (``q4_k`` ...).
        minimum_quantized_ratio: share of weight elements required, in (0, 1].
        threshold_origin: where that was set.

    Returns:
        A verdict; ``error`` for an unknown claim, an artifact without weights, a runtime that
        names no device, or counts that are negative.
    """
    threshold = Threshold(minimum_quantized_ratio, "at_least", threshold_origin)
    weights = _normalized(facts.weight_elements)
    executed = _normalized(facts.executed_precisions)
    claim = _ALIASES.get(claimed_precision.lower(), claimed_precision.lower())
    details: dict[str, JSON] = {
        "claimed_precision": claim,
        "weight_elements": weights,
        "quantized_operators": dict(facts.quantized_operators),
        "executed_precisions": executed,
        "executed_devices": list(facts.executed_devices),
    }
    counted = {name: n for name, n in weights.items() if name not in _NOT_WEIGHTS}
    left_out = facts.left_out_elements
    total = sum(counted.values()) - left_out
    if left_out:
        details["left_out_elements"] = left_out
    fault = threshold_fault(threshold)
    if not fault and claim not in _CLASSES:
        known = list_text(sorted(_CLASSES))
        fault = f'the precision "{claimed_precision}" is unknown; known are {known}'
    if not fault and any(not n >= 0 for n in (*weights.values(), *executed.values())):
        fault = "a count of weights or operators is negative"
    if not fault and (total <= 0 or not math.isfinite(total)):
        fault = "no weights were found in the artifact"
        if left_out:
            fault += " but in the layers that the recipe leaves alone"
    if not fault and not facts.executed_devices:
        fault = "the runtime did not say on which device it executes"
    if fault:
        return make_verdict(
            PRECISION_GATE,
            "error",
            threshold,
            unit="share",
            reason=f"not judged: {fault}",
            advice="check the artifact and the framework's adapter",
            details=details,
        )
    share = sum(counted.get(name, 0) for name in _CLASSES[claim]) / total
    found = sorted(counted.items(), key=lambda item: -item[1])
    held = list_text(f"{percent_text(n / (total + left_out))} {name}" for name, n in found if n)
    apart = f", {count_text(left_out, 'weight')} of layers left alone apart," if left_out else ""
    faults = []
    if share < minimum_quantized_ratio:
        text = (
            f"{percent_text(share)} of its weights{apart} are {claim}, at least "
            f"{percent_text(minimum_quantized_ratio)} required (found: {held})"
        )
        if share == 0 and facts.quantized_operators and claim.startswith("int"):
            text += "; its operators only simulate quantization on wider weights"
        faults.append(text)
    namesake = counted.get(claim, 0) / total
    if claim in _GGML_FALLBACKS and namesake < _MINIMUM_NAMESAKE_RATIO and not faults:
        faults.append(
            f"only {percent_text(namesake)} of its weights are {claim} itself, at least "
            f"{percent_text(_MINIMUM_NAMESAKE_RATIO)} required (found: {held})"
        )
    if faults and claim in _GGML_FALLBACKS and _GGML_FALLBACKS[claim] & counted.keys():
        faults[-1] += (
            "; rows that are no multiple of 256 elements fall back to "
            f"{list_text(sorted(_GGML_FALLBACKS[claim]))} without a word from llama.cpp"
        )
    if (
        executed
        and claim not in _STORAGE_ONLY
        and not any(executed.get(name, 0) for name in _CLASSES[claim])
    ):
        faults.append(f"the runtime executes no operator in {claim} ({list_text(executed)} only)")
    if not _on_device(facts.claimed_device, facts.executed_devices):
        devices = list_text(facts.executed_devices)
        faults.append(f"it was asked to run on {facts.claimed_device} and runs on {devices}")
    outcome: Outcome = "fail" if faults else "pass"
    if faults:
        reason = f"the claim of {claim} does not hold: " + "; ".join(faults)
    else:
        reason = (
            f"{percent_text(share)} of the weights{apart} are {claim}, at least "
            f"{percent_text(minimum_quantized_ratio)} required; runs on "
            f"{list_text(facts.executed_devices)}"
        )
        if executed:
            reason += f" in {list_text(executed)}"
    return make_verdict(
        PRECISION_GATE,
        outcome,
        threshold,
        unit="share",
        reason=reason,
        advice="look at the log of the optimization: which operators were left out, and why",
        observed=share,
        samples=total,
        details=details,
    )


def _normalized(counts: Mapping[str, int]) -> dict[str, int]:
    """Sum counts under the canonical names of their precisions."""
    result: dict[str, int] = {}
    for name, count in counts.items():
        canonical = _ALIASES.get(name.lower(), name.lower())
        result[canonical] = result.get(canonical, 0) + count
    return result


def _on_device(claimed: str, executed: tuple[str, ...]) -> bool:
    """Whether the claimed device is among the executed ones: ``GPU`` covers ``GPU.0``.

    A claim that leaves the choice to the runtime (``AUTO``) holds on every device.
    """

    def device(name: str) -> str:
        return name.upper().removesuffix("EXECUTIONPROVIDER")

    wanted = device(claimed)
    if wanted.split(":")[0] in _ANY_DEVICE:
        return True
    return any(device(name) == wanted or device(name).startswith(f"{wanted}.") for name in executed)
