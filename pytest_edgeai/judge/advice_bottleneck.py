"""Rules for what a profile names: computing, moving bytes, overhead, other processes, threads."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pytest_edgeai.advice_records import Advice, Fix
from pytest_edgeai.judge.advice_lines import model_lines, setting_lines
from pytest_edgeai.judge.advice_situation import (
    LATENCY_GATES,
    SPEED_GATES,
    Rule,
    Situation,
    figures,
    names,
    own_reason,
)
from pytest_edgeai.judge.advice_words import replaced, slow_text
from pytest_edgeai.judge.verdict import bytes_text, count_text, duration_text, percent_text

LARGER_BATCH = 8
"""Times as many samples per call, so that what a call costs beside arithmetic is spent on more."""
IDLE_THREADS_RATIO = 0.6
"""Cores' worth of computing for each thread, below which the threads wait for each other."""
FASTER_RATIO = 0.8
"""Time with more threads over that with fewer, below which they are worth it."""
NARROWER: Mapping[str, Mapping[str, str]] = {
    "llamacpp": {"convert": "q8_0", "q8_0": "q4_k_m"},
    "mlx": {"convert": "int8-g64", "int8-g64": "int4-g64", "mixed-4-6": "int4-g64"},
    "olive": {"int8-genai": "int4-genai"},
    "openvino": {"convert": "int8-weights", "int8-weights": "int4-weights"},
}
"""Framework to the scheme that stores weights in the next fewer bits."""


def cores_of(s: Situation) -> int:
    """Return how many cores' worth of time the host gives to one process."""
    limit = s.host.cpu_limit
    return max(1, min(s.host.logical_cores, math.ceil(limit) if limit else s.host.logical_cores))


def _overhead_bound(s: Situation) -> Advice | None:
    slow = s.failed(*SPEED_GATES)
    found = s.limits("overhead-bound")
    if not slow or found is None or s.profile is None:
        return None
    batch = LARGER_BATCH * s.samples_per_call
    lines: tuple[str, ...] = ()
    remedy = "merge operators: export it with its graph optimized, or choose a smaller graph"
    if s.batch_is_open:
        lines = model_lines(s.model, "batch", batch)
        remedy = f"answer {batch} samples in one call where the product may wait for them"
    return Advice(
        "overhead-bound",
        slow_text(s),
        own_reason(found),
        remedy,
        lines,
        {
            **figures(slow),
            "wall_ns": s.profile.candidate.wall_ns,
            "operators_executed": s.profile.candidate.operators_executed,
            "overhead_share": found.overhead_share,
            **found.evidence,
        },
        None,
        0.8,
        names(slow),
    )


def _memory_bound(s: Situation) -> Advice | None:
    slow = s.failed(*SPEED_GATES)
    found = s.limits("memory-bound")
    if not slow or found is None:
        return None
    scheme = NARROWER.get(s.recipe.framework, {}).get(s.recipe.scheme, "")
    recipe = s.with_scheme(scheme) if scheme else None
    lines, fix = replaced(s, recipe)
    remedy = f"store the weights in fewer bits: {scheme}"
    if recipe is None and s.batch_is_open and s.samples_per_call > 1:
        lines = model_lines(s.model, "batch", max(1, s.samples_per_call // 2))
        remedy = "answer fewer samples in one call, so that more of what it moves stays in caches"
    elif recipe is None:
        remedy = "move fewer bytes: fewer or narrower weights, or a smaller input"
    return Advice(
        "memory-bound",
        slow_text(s),
        own_reason(found),
        remedy,
        lines,
        {
            **figures(slow),
            "attained_bytes_per_s": found.attained_bytes_per_s,
            "bandwidth_share": found.bandwidth_share,
            **found.evidence,
        },
        fix,
        0.8,
        names(slow),
    )


def _compute_bound(s: Situation) -> Advice | None:
    slow = s.failed(*SPEED_GATES)
    found = s.limits("compute-bound")
    share = s.profile.candidate.integer_share if s.profile is not None else None
    if not slow or found is None or share is None or share < 0.5:
        return None
    ratio = s.recipe.options.get("prune_ratio", 0.0)
    # Half of the channels is as much as the recipes take away.
    recipe = s.with_options("pruned", prune_ratio=min(0.5, round(ratio + 0.2, 2)))
    lines, fix = replaced(s, recipe if ratio < 0.5 else None)
    return Advice(
        "compute-bound-in-integers",
        slow_text(s),
        f"{own_reason(found)}; {percent_text(share)} of the multiplying time is spent on integers "
        "already",
        "compute less: prune channels, or train a smaller model",
        lines,
        {
            **figures(slow),
            "compute_share": found.compute_share,
            "integer_share_of_time": share,
            **found.evidence,
        },
        fix,
        0.6,
        names(slow),
    )


def _contended(s: Situation) -> Advice | None:
    # A gate of speed that failed was decided all the same: its test holds on a busy machine.
    missed = (*s.undecided(*SPEED_GATES, *LATENCY_GATES), *s.failed(*LATENCY_GATES))
    found = s.limits("contended")
    disturbed = tuple(v for v in missed if v.details.get("contended"))
    if not missed or (found is None and not disturbed):
        return None
    settings: dict[str, object] = {}
    has_cpu_time = any(v.details.get("cpu_ratio") is not None for v in missed)
    if s.threads == 1 and s.clock == "agree" and has_cpu_time:
        settings["clock"] = "cpu-led"
    settings["budget"] = math.ceil(2 * s.budget_s)
    how = " or let CPU time decide," if "clock" in settings else ""
    cause = found.reason if found is not None else ""
    return Advice(
        "contended-host",
        f"{', '.join(names(missed))}: the machine has other work to do",
        cause or f"{len(disturbed)} gates found most calls preempted by other processes",
        f"quiet the machine,{how} and measure longer",
        setting_lines(settings),
        {
            **figures(missed),
            "gates_disturbed": list(names(disturbed)),
            **(found.evidence if found is not None else {}),
        },
        None,
        0.7,
        names(missed),
    )


def _threads_over_cores(s: Situation) -> Advice | None:
    gates = (*SPEED_GATES, *LATENCY_GATES)
    missed = (*s.failed(*gates), *s.undecided(*gates))
    cores = cores_of(s)
    if not missed or s.threads <= cores:
        return None
    settings = {"threads": cores}
    return Advice(
        "more-threads-than-cores",
        f"{', '.join(names(missed))}: not passed",
        f"{s.threads} threads share {count_text(cores, 'core')}, so that they wait for each other",
        f"run with {count_text(cores, 'thread')}",
        setting_lines(settings),
        {**figures(missed), "threads": s.threads, "cores": cores},
        Fix(settings=settings),
        0.85,
        names(missed),
    )


def _idle_threads(s: Situation) -> Advice | None:
    slow = (*s.failed(*SPEED_GATES), *s.failed(*LATENCY_GATES))
    side = s.profile.candidate if s.profile is not None else None
    if not slow or side is None or side.cpu_ns is None or not side.device_is_cpu:
        return None
    threads = side.runtime.threads
    if threads < 2 or threads > cores_of(s) or side.wall_ns <= 0:
        return None
    busy = side.cpu_ns / side.wall_ns
    if busy >= IDLE_THREADS_RATIO * threads:
        return None
    settings = {"threads": max(1, round(busy))}
    return Advice(
        "threads-wait-for-each-other",
        f"{', '.join(names(slow))}: failed with {threads} threads",
        f"{threads} threads compute for {busy:.2g} cores only: a call takes "
        f"{duration_text(side.wall_ns)}, and {duration_text(side.cpu_ns)} of CPU time",
        f"run with {count_text(settings['threads'], 'thread')}",
        setting_lines(settings),
        {**figures(slow), "threads": threads, "cores_busy": busy},
        Fix(settings=settings),
        0.6,
        names(slow),
    )


def _unused_cores(s: Situation) -> Advice | None:
    verdict = next(iter(s.failed("latency_consistency")), None)
    limits = verdict.details.get("limits", {}) if verdict is not None else {}
    over = sorted(name for name, each in limits.items() if each.get("outcome") == "fail")
    one, every = s.stages.get("quantized"), s.stages.get("accelerated")
    if verdict is None or not over or one is None or every is None or one.latency.p50_ns <= 0:
        return None
    ratio = every.latency.p50_ns / one.latency.p50_ns
    cores = cores_of(s)
    if ratio > FASTER_RATIO or not 0 < s.threads < cores:
        return None
    settings = {"threads": cores}
    return Advice(
        "cores-left-idle",
        f"{', '.join(over)} exceeds its limit with {count_text(s.threads, 'thread')}",
        f"with as many threads as the runtime likes a call takes "
        f"{duration_text(every.latency.p50_ns)} instead of {duration_text(one.latency.p50_ns)}",
        f"run with {count_text(cores, 'thread')}, on a device that has them to spare",
        setting_lines(settings),
        {
            "limits_exceeded": over,
            "p50_ns": one.latency.p50_ns,
            "p50_with_every_core_ns": every.latency.p50_ns,
        },
        Fix(settings=settings),
        0.7,
        (verdict.gate,),
    )


def _page_faults(s: Situation) -> Advice | None:
    gates = (*SPEED_GATES, *LATENCY_GATES)
    missed = (*s.failed(*gates), *s.undecided(*gates))
    side = s.profile.candidate if s.profile is not None else None
    if not missed or side is None or not side.major_faults >= 1:
        return None
    memory = s.host.memory_bytes
    size = f"; the machine has {bytes_text(memory)} of memory" if memory else ""
    return Advice(
        "reads-from-disk-in-calls",
        f"{', '.join(names(missed))}: not passed",
        f"a call waits for {side.major_faults:.3g} pages to be read from disk{size}",
        "keep the model in memory: a smaller model, more memory, or weights that are read and "
        "not mapped",
        (),
        {**figures(missed), "major_faults_per_call": side.major_faults, "memory_bytes": memory},
        None,
        0.75,
        names(missed),
    )


def _not_profiled(s: Situation) -> Advice | None:
    slow = s.failed(*SPEED_GATES)
    if not slow or s.profile is not None:
        return None
    return Advice(
        "not-profiled",
        slow_text(s),
        "where the time goes was not measured in this session",
        "let --edge-diagnose name the bottleneck",
        setting_lines({"diagnose": True}),
        figures(slow),
        None,
        0.05,
        names(slow),
    )


RULES = (
    Rule(
        "overhead-bound",
        "The time goes into calling operators and not into them: answer more samples in one call, "
        "or merge operators.",
        _overhead_bound,
        "a profile",
    ),
    Rule(
        "memory-bound",
        "The model waits for bytes from memory: store the weights in fewer bits.",
        _memory_bound,
        "a profile",
    ),
    Rule(
        "compute-bound-in-integers",
        "The model computes in integers at what the host can do: compute less.",
        _compute_bound,
        "a profile",
    ),
    Rule(
        "contended-host",
        "A gate of time is undecided, or a tail failed, and other processes took the cores: quiet "
        "the machine, let CPU time decide, measure longer.",
        _contended,
        "a profile, or preemptions counted while timing",
    ),
    Rule(
        "more-threads-than-cores",
        "More threads than cores: run with as many as there are cores.",
        _threads_over_cores,
        "the host's cores",
    ),
    Rule(
        "threads-wait-for-each-other",
        "The threads compute for far fewer cores than there are threads: run with fewer.",
        _idle_threads,
        "a profile",
    ),
    Rule(
        "cores-left-idle",
        "An absolute limit is exceeded, and more threads are measurably faster: run with more.",
        _unused_cores,
        "the stages",
    ),
    Rule(
        "reads-from-disk-in-calls",
        "Calls wait for pages to be read from disk: keep the model in memory.",
        _page_faults,
        "a profile",
    ),
    Rule(
        "not-profiled",
        "A gate of speed failed, and where the time goes was not measured: use --edge-diagnose.",
        _not_profiled,
    ),
)
