"""Percentile and bounds of a load, as stated or as they follow from the baseline's own calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pytest_edgeai.judge.load import DEFAULT_PERCENTILES
from pytest_edgeai.judge.load_queue import CONFIDENCE
from pytest_edgeai.judge.statistics import quantile_samples_needed
from pytest_edgeai.judge.verdict import duration_text
from pytest_edgeai.load_records import LoadBounds, LoadPlan, LoadRun

LATENCY_MULTIPLE = 10.0
"""Bound of a query where nobody sets one, in medians of the baseline's calls: a server with calls
of one length keeps it at p99 up to four fifths of its capacity (M/D/1)."""

TAIL_MULTIPLE = 3.0
"""The same in percentiles of them, which a busy machine makes longer for both sides."""

LEAST_BOUND_NS = 20e6
"""Smallest such bound: what a busy machine lets a process wait for a time slice is no fault of a
model of 0.05 ms."""

FIRST_TOKEN_MULTIPLE = 10.0
INTERVAL_MULTIPLE = 3.0
LEAST_FIRST_TOKEN_NS = 100e6
LEAST_INTERVAL_NS = 10e6
TIMEOUT_MULTIPLE = 100.0
LEAST_TIMEOUT_NS = 10e9


RUNS = 3
"""Runs of each side that a percentile has to leave time for, at about that utilization."""

UTILIZATION = 0.7
RUNS_SHARE = 0.8


def affordable_percentile(call_s: Sequence[float], budget_s: float) -> float:
    """Return the highest of the default percentiles whose runs fit into a budget.

    The lowest of them where none does.

    Args:
        call_s: mean time of a call of each side / its streams.
        budget_s: seconds of all runs.
    """
    for percentile in DEFAULT_PERCENTILES:
        queries = quantile_samples_needed(percentile / 100, CONFIDENCE, over=1)
        if RUNS * queries * sum(call_s) / UTILIZATION <= RUNS_SHARE * budget_s:
            return percentile
    return DEFAULT_PERCENTILES[-1]


def make_bounds(plan: LoadPlan, percentile: float, reference: LoadRun | None) -> LoadBounds:
    """Return the bounds of a load.

    Args:
        plan: what is stated.
        percentile: share of the queries that keep them, in percent.
        reference: calls of the baseline, one after the other; ``None`` where all is stated.
    """
    words: list[str] = []
    latency, first, interval = plan.latency_ns, plan.first_token_ns, plan.interval_ns
    if latency is not None:
        words.append(f"{duration_text(latency)} as stated")
    elif not plan.output_tokens and reference is not None:
        median = float(np.median(reference.service_ns))
        tail = float(np.quantile(reference.service_ns, percentile / 100))
        latency = max(LATENCY_MULTIPLE * median, TAIL_MULTIPLE * tail, LEAST_BOUND_NS)
        words.append(
            f"{duration_text(latency)}, the most of {LATENCY_MULTIPLE:g} times the baseline's "
            f"median call of {duration_text(median)}, {TAIL_MULTIPLE:g} times its "
            f"p{percentile:g} of {duration_text(tail)} and {duration_text(LEAST_BOUND_NS)}"
        )
    token_ns = None if reference is None else reference.token_ns
    if first is None and token_ns is not None:
        first = FIRST_TOKEN_MULTIPLE * float(np.nanmedian(token_ns[:, 0]))
        first_tail = TAIL_MULTIPLE * float(np.nanquantile(token_ns[:, 0], percentile / 100))
        first = max(first, first_tail, LEAST_FIRST_TOKEN_NS)
        words.append(
            f"{duration_text(first)} to the first token, the most of {FIRST_TOKEN_MULTIPLE:g} "
            f"times the baseline's median, {TAIL_MULTIPLE:g} times its p{percentile:g} and "
            f"{duration_text(LEAST_FIRST_TOKEN_NS)}"
        )
    elif first is not None:
        words.append(f"{duration_text(first)} to the first token as stated")
    if interval is None and token_ns is not None and token_ns.shape[1] > 1:
        means = token_ns[:, 1:].mean(axis=1)
        slow = float(np.nanquantile(means, percentile / 100))
        interval = max(INTERVAL_MULTIPLE * plan.streams * slow, LEAST_INTERVAL_NS)
        words.append(
            f"{duration_text(interval)} between tokens, {INTERVAL_MULTIPLE:g} times the baseline's "
            f"p{percentile:g} for each stream and {duration_text(LEAST_INTERVAL_NS)} at least"
        )
    elif interval is not None:
        words.append(f"{duration_text(interval)} between tokens as stated")
    largest = max(bound or 0.0 for bound in (latency, first))
    return LoadBounds(
        percentile=percentile,
        latency_ns=latency,
        first_token_ns=first,
        interval_ns=interval,
        timeout_ns=max(TIMEOUT_MULTIPLE * largest, LEAST_TIMEOUT_NS),
        source=", ".join(words),
    )
