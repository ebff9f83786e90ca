"""Rules for candidates that are too large, in memory or on disk."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pytest_edgeai.advice_records import Advice
from pytest_edgeai.judge.advice_lines import gate_lines, model_lines
from pytest_edgeai.judge.advice_situation import (
    CONVOLUTIONS,
    EXCLUSIONS,
    MEMORY_GATES,
    PRECISION_GATE,
    Rule,
    Situation,
    figures,
    names,
)
from pytest_edgeai.judge.advice_words import replaced
from pytest_edgeai.judge.verdict import bytes_text, count_text, list_text, percent_text

FLOAT_SHARE = 0.3
"""Share of the weights' bytes above which those in float are named."""
COMPILED_RATIO = 0.6
"""Memory after the runs over its peak, below which making the model ready is what takes it."""
CACHE_SHARE = 0.3
SPARE_RATIO = 1.1
"""A limit that is proposed leaves room for what versions of the tools add."""
ODD_ROWS_SHARE = 0.25
CONTEXT_STEP = 64
BLOCK = 256
SMALL_BLOCK = 32


def _missed(s: Situation, *gates: str) -> str:
    return "; ".join(f"{v.gate}: {v.reason.split(';')[0]}" for v in s.failed(*gates))


def _float_weights(s: Situation) -> Advice | None:
    missed = s.failed(*MEMORY_GATES, PRECISION_GATE)
    stored = s.weight_bytes()
    total = sum(stored.values())
    floats = sum(size for name, size in stored.items() if name.startswith(("float", "bfloat")))
    if not missed or not total or not s.claimed_precision.startswith(("int", "q")):
        return None
    if floats < FLOAT_SHARE * total or any(name in s.recipe.options for name in EXCLUSIONS):
        return None
    if s.recipe.scheme == "int8-dynamic" and s.count(*CONVOLUTIONS):
        return None
    recipe, remedy = None, "choose a scheme that quantizes more of the weights"
    lookups, listed = s.count("Gather"), s.recipe.options.get("op_types")
    if s.recipe.framework in ("onnxruntime", "olive") and lookups:
        if s.is_static and (listed is None or "Gather" not in listed):
            wanted = [*(listed or ("MatMul", "Gemm")), "Gather"]
            recipe = s.with_options("embeddings", op_types=wanted)
        elif listed is not None and "Gather" not in listed:
            recipe = s.with_options("embeddings", op_types=[*listed, "Gather"])
        remedy = "quantize the embeddings (Gather) too" if recipe else remedy
    elif listed is not None:
        recipe = s.with_options("every-type", op_types=None)
        remedy = "quantize every type of operator that the tool can"
    lines, fix = replaced(s, recipe)
    return Advice(
        "float-weights-left",
        _missed(s, *names(missed)),
        f"{percent_text(floats / total)} of the weights' bytes are still float: "
        f"{bytes_text(floats)} of {bytes_text(total)}",
        remedy,
        lines,
        {**figures(missed), "weight_bytes": stored, "embedding_lookups": lookups},
        fix,
        min(0.85, 0.2 + floats / total),
        names(missed),
    )


def _layers_left_out(s: Situation) -> Advice | None:
    missed = s.failed(*MEMORY_GATES, PRECISION_GATE)
    kept = {name: s.recipe.options[name] for name in EXCLUSIONS if s.recipe.options.get(name)}
    stored = s.weight_bytes()
    total = sum(stored.values())
    floats = sum(size for name, size in stored.items() if name.startswith(("float", "bfloat")))
    if not missed or not kept or not total or floats < FLOAT_SHARE * total:
        return None
    count = sum(len(each) for each in kept.values())
    lines, fix = replaced(s, s.with_options("every-layer", **dict.fromkeys(kept)))
    return Advice(
        "layers-left-out",
        _missed(s, *names(missed)),
        f"the recipe leaves {count_text(count, 'entry' if count == 1 else 'entrie')} of layers "
        f"alone ({', '.join(kept)}), and {percent_text(floats / total)} of the weights' bytes are "
        "float",
        "quantize them too, or fewer of them",
        lines,
        {**figures(missed), **kept, "weight_bytes": stored},
        fix,
        0.7,
        names(missed),
    )


def _not_the_weights(s: Situation) -> Advice | None:
    missed = (*s.failed("memory_cut"), *s.undecided("memory_cut"))
    if not missed or s.memory is None or not s.memory.baseline_bytes or not s.artifact_bytes:
        return None
    limit = missed[0].threshold
    baseline = statistics.median(s.memory.baseline_bytes)
    if limit is None or baseline <= 0:
        return None
    attainable = (s.facts.size_bytes - s.artifact_bytes) / baseline
    if attainable >= limit:
        return None
    lines: tuple[str, ...] = ()
    low = missed[0].interval[0] if missed[0].interval is not None else None
    if low is not None and low >= 0.05:
        lines = gate_lines(s.model, "memory_cut", math.floor(100 * low) / 100)
    return Advice(
        "memory-is-not-the-weights",
        _missed(s, "memory_cut") or "memory_cut is undecided",
        f"of the baseline's {bytes_text(baseline)} only {bytes_text(s.facts.size_bytes)} are "
        f"weights; narrower ones save {bytes_text(s.facts.size_bytes - s.artifact_bytes)}, which "
        f"is {percent_text(max(0.0, attainable))}",
        "shrink what passes between the layers (smaller input or batch), or ask for what weights "
        "can give",
        lines,
        {
            **figures(missed),
            "baseline_bytes": baseline,
            "baseline_file_bytes": s.facts.size_bytes,
            "artifact_bytes": s.artifact_bytes,
            "attainable_cut": attainable,
        },
        None,
        0.7,
        names(missed),
    )


def _not_weights_in_file(s: Situation) -> Advice | None:
    missed = s.failed("artifact_size")
    held = sum(s.weight_bytes().values())
    if not missed or not s.artifact_bytes or not held or held >= s.artifact_bytes / 2:
        return None
    limit = math.ceil(SPARE_RATIO * s.artifact_bytes)
    return Advice(
        "file-is-not-the-weights",
        _missed(s, "artifact_size"),
        f"of its {bytes_text(s.artifact_bytes)} only {bytes_text(held)} are weights: the rest is "
        "the graph, its names and scales, which narrower weights do not shrink",
        "ask for a size that a model this small can have",
        gate_lines(s.model, "artifact_size", limit),
        {**figures(missed), "artifact_bytes": s.artifact_bytes, "weight_bytes": held},
        None,
        0.7,
        names(missed),
    )


def _compiling(s: Situation) -> Advice | None:
    missed = s.failed("memory_cut")
    memory = s.memory
    if not missed or memory is None or not memory.candidate_steady_bytes:
        return None
    peak = statistics.median(memory.candidate_bytes)
    steady = statistics.median(memory.candidate_steady_bytes)
    if peak <= 0 or steady > COMPILED_RATIO * peak:
        return None
    recipe = None
    if s.recipe.framework == "openvino" and not s.is_weights_only:
        recipe = s.with_scheme("int8-weights")
    lines, fix = replaced(s, recipe)
    return Advice(
        "compiling-holds-memory",
        _missed(s, "memory_cut"),
        f"its peak is {bytes_text(peak)} while the model is made ready, and {bytes_text(steady)} "
        "after the runs",
        "compile it before it is deployed (OpenVINO's model cache, ONNX Runtime's optimized model)"
        + (", or compress the weights alone, which compiles with less" if recipe else ""),
        lines,
        {**figures(missed), "peak_bytes": peak, "steady_bytes": steady},
        fix,
        0.75,
        names(missed),
    )


def _batch(s: Situation) -> Advice | None:
    missed = s.failed("memory_cut", "memory_footprint")
    if not missed or s.memory is None or not s.artifact_bytes or not s.memory.candidate_bytes:
        return None
    held = statistics.median(s.memory.candidate_bytes)
    if s.samples_per_call < 2 or not s.batch_is_open or s.artifact_bytes >= held / 2:
        return None
    fewer = max(1, s.samples_per_call // 4)
    return Advice(
        "batch-holds-memory",
        _missed(s, *names(missed)),
        f"{s.samples_per_call} samples go into a call, and of {bytes_text(held)} only "
        f"{bytes_text(s.artifact_bytes)} are weights",
        f"answer {count_text(fewer, 'sample')} in one call",
        model_lines(s.model, "batch", fewer),
        {**figures(missed), "samples_per_call": s.samples_per_call, "model_bytes": held},
        None,
        0.65,
        names(missed),
    )


def _context(s: Situation) -> Advice | None:
    missed = s.failed("memory_cut", "memory_footprint")
    memory, tokens = s.memory, s.context_length
    if not missed or memory is None or not tokens or not memory.candidate_bytes:
        return None
    cache, held = memory.candidate_kv_cache_bytes, max(memory.candidate_bytes)
    if not cache or held <= 0 or cache < CACHE_SHARE * held:
        return None
    fewer = _context_that_fits(s, missed, cache, held, tokens)
    lines = model_lines(s.model, "context_length", fewer) if fewer else ()
    return Advice(
        "context-too-long",
        _missed(s, *names(missed)),
        f"keys and values of {tokens:,} tokens take {bytes_text(cache)}, "
        f"{percent_text(cache / held)} of its memory",
        f"serve a context of {fewer:,} tokens" if fewer else "serve a shorter context",
        lines,
        {**figures(missed), "kv_cache_bytes": cache, "context_length": tokens},
        None,
        min(0.9, 0.2 + cache / held),
        names(missed),
    )


def _context_that_fits(
    s: Situation, missed: Sequence[object], cache: int, held: int, tokens: int
) -> int:
    """Return the longest context, in steps of 64 tokens, with which memory_cut would hold.

    The cache grows with the context, and the rest does not; half of the context where that is no
    matter of ``memory_cut``; 0 where no context would do.
    """
    verdict = next(iter(s.failed("memory_cut")), None)
    memory = s.memory
    if verdict is None or verdict.threshold is None or memory is None:
        return max(CONTEXT_STEP, tokens // 2 // CONTEXT_STEP * CONTEXT_STEP)
    base_cache, base_held = memory.baseline_kv_cache_bytes or 0, min(memory.baseline_bytes)
    keep = 1 - verdict.threshold
    slope = cache - keep * base_cache
    room = keep * (base_held - base_cache) - (held - cache)
    if slope <= 0 or room <= 0:
        return 0
    fewer = int(min(1.0, room / slope) * tokens) // CONTEXT_STEP * CONTEXT_STEP
    return fewer if 0 < fewer < tokens else 0


def _not_mapped(s: Situation) -> Advice | None:
    missed = s.failed("memory_footprint")
    if not missed or s.memory is None or not s.memory.candidate_bytes:
        return None
    mapped, held = s.memory.candidate_mapped_bytes, statistics.median(s.memory.candidate_bytes)
    if mapped is None or mapped > 0.7 * held:
        return None
    return Advice(
        "weights-not-mapped",
        _missed(s, "memory_footprint"),
        f"read into memory the model takes {bytes_text(held)}, with its weights mapped from their "
        f"file {bytes_text(mapped)}",
        "map the weights where it is served (mmap); the gate reads them, so that both sides are "
        "alike, and its limit has to allow for that",
        (),
        {**figures(missed), "model_bytes": held, "mapped_bytes": mapped},
        None,
        0.5,
        names(missed),
    )


def _odd_rows(s: Situation) -> Advice | None:
    missed = s.failed(*MEMORY_GATES, PRECISION_GATE)
    if not missed or s.recipe.framework != "llamacpp" or s.recipe.scheme not in ("q4_k_m", "q2_k"):
        return None
    total = sum(s.facts.row_elements.values())
    odd = {row: count for row, count in s.facts.row_elements.items() if row % BLOCK}
    share = sum(odd.values()) / total if total else 0.0
    if share < ODD_ROWS_SHARE:
        return None
    fits = all(row % SMALL_BLOCK == 0 for row in s.facts.row_elements)
    lines, fix = replaced(s, s.with_scheme("q4_0") if fits else None)
    rows = list_text((f"{row}" for row in sorted(odd)), 3)
    return Advice(
        "rows-fall-back",
        _missed(s, *names(missed)),
        f"{percent_text(share)} of its weights lie in rows of {rows}, no multiple of {BLOCK}, and "
        "llama.cpp stores them in more bits without a word",
        f"choose a scheme with blocks of {SMALL_BLOCK}: q4_0" if fits else "choose another scheme",
        lines,
        {**figures(missed), "odd_rows_share": share, "rows": sorted(odd)},
        fix,
        min(0.9, 0.3 + share / 2),
        names(missed),
    )


RULES = (
    Rule(
        "float-weights-left",
        "30% of the weights' bytes or more are still float, embeddings above all: quantize them "
        "too.",
        _float_weights,
        "the artifact's weights",
    ),
    Rule(
        "layers-left-out",
        "The recipe leaves so many layers alone that most of the weights are float: quantize more.",
        _layers_left_out,
        "the artifact's weights",
    ),
    Rule(
        "memory-is-not-the-weights",
        "The baseline's memory is not its weights, so that narrower ones cannot save enough.",
        _not_the_weights,
        "memory of fresh processes",
    ),
    Rule(
        "file-is-not-the-weights",
        "Less than half of a small artifact is weights: ask for a size that it can have.",
        _not_weights_in_file,
        "the artifact's weights",
    ),
    Rule(
        "compiling-holds-memory",
        "Making the model ready takes far more memory than running it: compile it before it is "
        "deployed, or compress the weights alone.",
        _compiling,
        "memory of fresh processes",
    ),
    Rule(
        "batch-holds-memory",
        "Several samples go into a call, and most of the memory is not weights: fewer samples.",
        _batch,
        "memory of fresh processes",
    ),
    Rule(
        "context-too-long",
        "Keys and values of the context take 30% of the memory or more: a shorter context.",
        _context,
        "memory of fresh processes",
    ),
    Rule(
        "weights-not-mapped",
        "Mapped from their file the weights take far less memory: map them where it is served.",
        _not_mapped,
        "memory with mapped weights",
    ),
    Rule(
        "rows-fall-back",
        "Rows of the weights do not fit llama.cpp's blocks of 256: a scheme with blocks of 32.",
        _odd_rows,
        "the model's file",
    ),
)
