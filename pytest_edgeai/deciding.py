"""The shipped gates: what each measures and which rule judges it."""

from __future__ import annotations

from pytest_edgeai import measurements, timing
from pytest_edgeai.energy_measurements import try_energy
from pytest_edgeai.judge.artifact import judge_artifact_size, judge_precision
from pytest_edgeai.judge.embedding import TAIL_LIMIT
from pytest_edgeai.judge.latency import (
    DEFAULT_PERCENTILE,
    judge_latency_consistency,
    minimum_rounds,
)
from pytest_edgeai.judge.memory import judge_memory, judge_memory_footprint
from pytest_edgeai.judge.outputs import judge_output_sanity
from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.judge.slices import judge_slices
from pytest_edgeai.judge.speed import judge_speed, speed_decided
from pytest_edgeai.language_deciding import (
    with_agreement,
    with_cache_and_mapping,
    with_token_rates,
)
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import PairedTimings, Threshold, Verdict
from pytest_edgeai.stages import try_stages
from pytest_edgeai.workbench import Workbench

BOOTSTRAP_SEED = 0
COSINE_TAIL = "cosine_p5"
CONSISTENCY_PERCENTILE = "latency_consistency_percentile"
LATENCY_LIMITS = {
    0.50: "latency_p50_limit_ms",
    0.95: "latency_p95_limit_ms",
    0.99: "latency_p99_limit_ms",
}


def tail_limit(bench: Workbench, candidate: PlannedCandidate) -> float:
    """Return the limit of the 5th percentile of embeddings' cosines, as stated or by default."""
    stated = bench.session.gate_setting(candidate, COSINE_TAIL)
    return TAIL_LIMIT if stated is None else float(stated)


def decide_accuracy_retained(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Paired predictions on the same samples; non-inferiority by the paired score test."""
    scores, _ = measurements.quality(bench, candidate)
    verdict = judge_accuracy(scores, threshold, tail_limit=tail_limit(bench, candidate))
    return with_agreement(bench, candidate, verdict)


def decide_slice_retained(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """The same paired predictions, class by class and slice by slice."""
    scores, _ = measurements.quality(bench, candidate)
    return judge_slices(scores, threshold)


def decide_speedup(bench: Workbench, candidate: PlannedCandidate, threshold: Threshold) -> Verdict:
    """Interleaved timings, judged by the sequential test on wall and CPU time."""
    mode, threads = bench.session.settings.clock, candidate.threads(bench.session.settings.threads)
    timings, spent = timing.timings(
        bench,
        candidate,
        lambda rounds: speed_decided(rounds, threshold, mode=mode, threads=threads),
    )
    verdict = judge_speed(timings, threshold, budget_spent=spent, mode=mode, threads=threads)
    try_stages(bench, candidate)
    try_energy(bench, candidate)
    return with_token_rates(bench, candidate, verdict, timings, "decode")


def decide_latency_consistency(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """The tail of the same interleaved timings, and absolute limits where some are set."""
    limits_ns = {
        quantile: float(limit_ms) * 1e6
        for quantile, key in LATENCY_LIMITS.items()
        if (limit_ms := bench.session.gate_setting(candidate, key)) is not None
    }
    stated = bench.session.gate_setting(candidate, CONSISTENCY_PERCENTILE)
    percentile = DEFAULT_PERCENTILE if stated is None else float(stated)
    next_look = minimum_rounds(percentile)

    def judge(timings: PairedTimings, *, budget_spent: bool) -> Verdict:
        return judge_latency_consistency(
            timings,
            threshold,
            absolute_limits_ns=limits_ns,
            budget_spent=budget_spent,
            seed=BOOTSTRAP_SEED,
            percentile=percentile,
        )

    def decided(timings: PairedTimings) -> bool:
        # Looks at doubling numbers of rounds keep the error of repeated looking small.
        nonlocal next_look
        if timings.rounds < next_look:
            return False
        next_look = 2 * timings.rounds
        return judge(timings, budget_spent=False).outcome != "inconclusive"

    timings, spent = timing.timings(bench, candidate, decided)
    return judge(timings, budget_spent=spent)


def decide_memory_cut(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Model memory of fresh processes, decided by the worst case of the repeats."""
    samples = measurements.memory(bench, candidate)
    return with_cache_and_mapping(judge_memory(samples, threshold), samples)


def decide_memory_footprint(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Absolute peak of the candidate's process."""
    return judge_memory_footprint(measurements.memory(bench, candidate), threshold)


def decide_artifact_size(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Bytes on disk; also stands in for the memory gate of a model too small to measure.

    The limit of a target's packages says nothing about this model: of both, the stricter counts.
    """
    memory_cut, judged = bench.session.threshold(candidate, "memory_cut")
    is_stated = threshold.value is not None and threshold != bench.session.package_limit(candidate)
    too_small = False
    if judged and not is_stated:
        memory = judge_memory(measurements.memory(bench, candidate), memory_cut)
        too_small = memory.outcome == "not_applicable"
        if too_small and threshold.value is not None and memory_cut.value is not None:
            baseline_bytes = bench.model(candidate.model.name).facts.size_bytes
            if (1 - memory_cut.value) * baseline_bytes < threshold.value:
                threshold = Threshold(None, threshold.relation, threshold.origin)
    return judge_artifact_size(
        bench.artifact(candidate).size_bytes,
        bench.model(candidate.model.name).facts.size_bytes,
        threshold,
        memory_verdict_is_not_applicable=too_small,
        memory_cut=memory_cut,
    )


def decide_output_sanity(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Every output of every evaluation sample, compared with the baseline's."""
    _, sanity = measurements.quality(bench, candidate)
    return judge_output_sanity(sanity)


def decide_precision_proof(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """The artifact's stored weights, and what the runtime says it executes and where."""
    facts = measurements.precision(bench, candidate)
    claimed = bench.artifact(candidate).claimed_precision
    if threshold.value is None:
        return judge_precision(facts, claimed)
    return judge_precision(
        facts, claimed, minimum_quantized_ratio=threshold.value, threshold_origin=threshold.origin
    )
