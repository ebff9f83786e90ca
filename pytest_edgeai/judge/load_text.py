"""What the load gate says: figures of runs, in words and as details of the verdict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pytest_edgeai.judge.load_queue import CONFIDENCE, keeps_bounds, late, utilization
from pytest_edgeai.judge.statistics import quantile_samples_needed
from pytest_edgeai.judge.verdict import duration_text, percent_text
from pytest_edgeai.load_records import LoadBounds, LoadRun, LoadSamples
from pytest_edgeai.records import JSON


def per_second(rate: float) -> str:
    """Format a rate: ``182/s``."""
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


def rate_text(samples: LoadSamples, required: float) -> str:
    """Say which run proved the rate."""
    proved = [
        run
        for run in samples.candidate
        if run.scenario == "Server"
        and run.target_per_second >= required * (1 - 1e-9)
        and keeps_bounds(run, samples.bounds)
    ]
    if not proved:
        return per_second(required)
    best = max(proved, key=lambda run: run.target_per_second)
    return (
        f"{per_second(best.target_per_second)} ({best.queries:,} queries, "
        f"p{samples.bounds.percentile:g} {duration_text(quantile_ns(best, samples.bounds))})"
    )


def tail_text(runs: Sequence[LoadRun], bounds: LoadBounds) -> str:
    """Say how many queries were late, and at which latency the percentile lay."""
    queries = sum(run.queries for run in runs)
    missed = sum(int(late(run, bounds).sum()) for run in runs)
    slowest = max(quantile_ns(run, bounds) for run in runs)
    return (
        f"{missed:,} of {queries:,} queries were late ({percent_text(missed / queries)}, "
        f"{percent_text(1 - bounds.quantile)} may be), p{bounds.percentile:g} "
        f"{duration_text(slowest)}"
    )


def needs_text(samples: LoadSamples) -> str:
    """Say what the next run would have taken, where the budget did not hold it."""
    if not samples.needed_s:
        return ""
    least = quantile_samples_needed(samples.bounds.quantile, CONFIDENCE)
    takes = duration_text(samples.needed_s * 1e9)
    return (
        f"; p{samples.bounds.percentile:g} takes {least} queries by LoadGen's early stopping: one "
        f"more run takes {takes}, the budget of {samples.plan.budget_s:.0f} s held "
        f"{samples.spent_s:.0f} s of runs"
    )


def quantile_ns(run: LoadRun, bounds: LoadBounds) -> float:
    """Return a run's latency at the percentile, in ns."""
    return float(np.quantile(run.latency_ns, bounds.quantile))


def load_details(samples: LoadSamples, sustained: tuple[float, float | None]) -> dict[str, JSON]:
    """Return the figures of all runs for the report."""
    bounds, plan = samples.bounds, samples.plan
    details: dict[str, JSON] = {
        "expected_per_second": samples.expected_per_second,
        "expected_source": samples.expected_source,
        "required_per_second": samples.required_per_second,
        "sustained_per_second": sustained[0],
        "not_sustained_per_second": sustained[1],
        "percentile": bounds.percentile,
        "bounds": bounds.source,
        "latency_limit_ns": bounds.latency_ns,
        "streams": plan.streams,
        "loadgen": samples.version,
        "spent_s": samples.spent_s,
        "budget_s": plan.budget_s,
        "raised": sum(int(run.failed.sum()) for run in samples.candidate),
        "timed_out": sum(
            int((run.service_ns > bounds.timeout_ns).sum()) for run in samples.candidate
        ),
        "timeout_ns": bounds.timeout_ns if np.isfinite(bounds.timeout_ns) else None,
        "baseline_runs": [run_details(run, bounds) for run in samples.baseline],
        "candidate_runs": [run_details(run, bounds) for run in samples.candidate],
    }
    if plan.output_tokens:
        details |= {
            "first_token_limit_ns": bounds.first_token_ns,
            "token_interval_limit_ns": bounds.interval_ns,
            "output_tokens": plan.output_tokens,
            "stream_processes": plan.streams,
        }
    return details


def run_details(run: LoadRun, bounds: LoadBounds) -> dict[str, JSON]:
    """Return the figures of one run; latencies in ns."""
    figures: dict[str, JSON] = {
        "scenario": run.scenario,
        "queries": run.queries,
        "seconds": run.seconds,
        "loadgen_result": run.summary.get("Result is", "none"),
    }
    if not run.queries:
        return figures
    if run.scenario == "Offline":
        figures["samples_per_second"] = run.queries / run.seconds
        return figures
    for percentile in sorted({50.0, 99.0, bounds.percentile}):
        figures[f"p{percentile:g}_ns"] = float(np.quantile(run.latency_ns, percentile / 100))
    if run.scenario == "Server":
        figures |= {
            "target_per_second": run.target_per_second,
            "late": int(late(run, bounds).sum()),
            "utilization": utilization(run),
            "sustained": keeps_bounds(run, bounds),
        }
    if run.token_ns is not None and np.isfinite(run.token_ns).all(axis=1).any():
        waited = run.issue_delay_ns + run.token_ns[:, 0]
        for percentile in sorted({50.0, 99.0, bounds.percentile}):
            share = percentile / 100
            figures[f"first_token_p{percentile:g}_ns"] = float(np.nanquantile(waited, share))
            if run.token_ns.shape[1] > 1:
                between = run.token_ns[:, 1:]
                figures[f"token_interval_p{percentile:g}_ns"] = float(
                    np.nanquantile(between, share)
                )
    return figures
