"""The gates of language models, and what they add to the verdicts that every model gets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pytest_edgeai import measurements, timing
from pytest_edgeai.judge.perplexity import (
    agreement_details,
    agreement_text,
    judge_kl_divergence,
    judge_token_agreement,
)
from pytest_edgeai.judge.speed import judge_speed, speed_decided
from pytest_edgeai.judge.verdict import bytes_text
from pytest_edgeai.language_measurements import token_comparison
from pytest_edgeai.measure.language import Phase
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import MemorySamples, PairedTimings, Threshold, TokenComparison, Verdict
from pytest_edgeai.workbench import Workbench

_WORDS = {"decode": "decoding", "prefill": "prefill", "first_token": "prompt to first token"}


def decide_prefill(bench: Workbench, candidate: PlannedCandidate, threshold: Threshold) -> Verdict:
    """Reading a whole block into an empty cache, timed in turns like every speed."""
    return _phase_speed(bench, candidate, threshold, "prefill", "prefill")


def decide_time_to_first_token(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Reading a prompt and choosing the first token, timed in turns like every speed."""
    return _phase_speed(bench, candidate, threshold, "first_token", "time_to_first_token")


def decide_token_agreement(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """How often both models would have chosen the same token."""
    return judge_token_agreement(_comparison(bench, candidate), threshold)


def decide_kl_divergence(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """How far the candidate's predictions diverge from the baseline's."""
    return judge_kl_divergence(_comparison(bench, candidate), threshold)


def with_agreement(bench: Workbench, candidate: PlannedCandidate, verdict: Verdict) -> Verdict:
    """Return the verdict on perplexity with agreement and divergence stated beside it."""
    if bench.model(candidate.model.name).language is None or verdict.observed is None:
        return verdict
    comparison = token_comparison(bench, candidate)
    if not np.isfinite(comparison.divergence).all():
        return verdict
    return replace(
        verdict,
        reason=f"{verdict.reason}; {agreement_text(comparison)}",
        details={**verdict.details, **agreement_details(comparison)},
    )


def with_token_rates(
    bench: Workbench,
    candidate: PlannedCandidate,
    verdict: Verdict,
    timings: PairedTimings,
    phase: Phase,
) -> Verdict:
    """Return a verdict on speed with the tokens per second of a language model stated beside it."""
    plan = bench.model(candidate.model.name).language
    if plan is None or not timings.rounds:
        return verdict
    tokens = plan.tokens_per_call(phase)
    baseline, other = (
        tokens * 1e9 / float(np.median(wall_ns))
        for wall_ns in (timings.baseline_wall_ns, timings.candidate_wall_ns)
    )
    depth = plan.prompt_tokens if phase == "decode" else 0
    after = f" after {depth} tokens" if depth else f" of {tokens} tokens"
    return replace(
        verdict,
        reason=(
            f"{verdict.reason}; {_WORDS[phase]}{after}: {other:,.0f} tokens/s instead of "
            f"{baseline:,.0f}"
        ),
        details={
            **verdict.details,
            "phase": phase,
            "tokens_per_call": tokens,
            "cached_tokens": depth,
            "baseline_tokens_per_s": baseline,
            "candidate_tokens_per_s": other,
        },
    )


def with_cache_and_mapping(verdict: Verdict, samples: MemorySamples) -> Verdict:
    """Return a verdict on memory with a language model's cache and mapped figures beside it."""
    details = {
        name: value
        for name in (
            "baseline_kv_cache_bytes",
            "candidate_kv_cache_bytes",
            "baseline_mapped_bytes",
            "candidate_mapped_bytes",
        )
        if (value := getattr(samples, name)) is not None
    }
    if not details:
        return verdict
    words = ""
    if samples.candidate_kv_cache_bytes is not None:
        words += f"; {bytes_text(samples.candidate_kv_cache_bytes)} of it are the KV cache"
    if samples.candidate_mapped_bytes is not None and samples.baseline_mapped_bytes is not None:
        words += (
            f"; with mapped weights {bytes_text(samples.candidate_mapped_bytes)} instead of "
            f"{bytes_text(samples.baseline_mapped_bytes)}"
        )
    elif samples.candidate_mapped_bytes is not None:
        words += f"; with mapped weights {bytes_text(samples.candidate_mapped_bytes)}"
    return replace(
        verdict, reason=f"{verdict.reason}{words}", details={**verdict.details, **details}
    )


def _phase_speed(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold, phase: Phase, gate: str
) -> Verdict:
    mode, threads = bench.session.settings.clock, candidate.threads(bench.session.settings.threads)
    timings, spent = timing.timings(
        bench,
        candidate,
        lambda rounds: speed_decided(rounds, threshold, mode=mode, threads=threads),
        phase,
    )
    verdict = judge_speed(
        timings, threshold, budget_spent=spent, mode=mode, threads=threads, gate=gate
    )
    return with_token_rates(bench, candidate, verdict, timings, phase)


def _comparison(bench: Workbench, candidate: PlannedCandidate) -> TokenComparison:
    measurements.quality(bench, candidate)
    return token_comparison(bench, candidate)
