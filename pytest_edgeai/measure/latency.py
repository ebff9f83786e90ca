"""Time models in turns, so that every disturbance of a shared machine meets all of them alike.

A model that has waited for its turn finds its weights gone from the caches, so its first call costs
up to 0.5 ms more than in a loop: twice the time of a small quantized model, and nothing next to
the large one that it is compared with. Every turn therefore begins with calls that are not judged
(:mod:`~.lead_in`) and ends with the one that is. More judged calls in a turn would come cheaper,
but successive calls share their disturbances: with five of them the signs of the CPU channel had an
autocorrelation of 0.3 to 0.5 (0 to 0.03 with one), and its error rate is promised for independent
signs only.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence

import numpy as np

from pytest_edgeai.measure.lead_in import lead_in_calls
from pytest_edgeai.measure.rounds import Rounds, paired
from pytest_edgeai.measure.taking import run_round, taking_rounds
from pytest_edgeai.measure.timed import CallTimes, Timed
from pytest_edgeai.measure.waiting import JUDGED_ROUNDS, Clock, Patience
from pytest_edgeai.measure.warmup import MOST_NS, WarmUp, settle
from pytest_edgeai.records import Int64Array, LatencySummary, PairedTimings

WARM_UP_CALLS = 10
"""Calls that make a model warm again that was warm before a pause, or as many as fit into
:data:`WARM_AGAIN_NS`."""

WARM_AGAIN_NS = 250_000_000
WARM_UP_SHARE = 0.25
"""Share of a budget that warming up one model takes at most."""

ROUNDS_PER_ATTEMPT = 300
ROUNDS_BETWEEN_LOOKS = 5
PAUSE_BETWEEN_ATTEMPTS_S = 2.0
BURST_CALLS = 256
BURST_NS = 60_000_000


def settled(models: Sequence[Timed], *, limit_s: float = MOST_NS / 1e9) -> list[WarmUp]:
    """Run each model until its calls have settled, one model after the other; see :func:`settle`.

    Args:
        models: the models.
        limit_s: longest time of the calls of each, but for two windows.
    """

    def clocks(model: Timed) -> Callable[[int], tuple[Int64Array, Int64Array | None]]:
        def run(calls: int) -> tuple[Int64Array, Int64Array | None]:
            times = model.time_calls(calls)
            return times.wall_ns, times.cpu_ns if model.cpu_time_is_valid else None

        return run

    return [settle(clocks(model), limit_ns=min(MOST_NS, limit_s * 1e9)) for model in models]


def warm_up(models: Sequence[Timed], *, limit_s: float = MOST_NS / 1e9) -> list[int]:
    """Run each model until its calls have settled.

    Args:
        models: the models.
        limit_s: longest time of the calls of each, but for two windows.

    Returns:
        for each model, the calls that begin each of its turns.
    """
    return [lead_in_calls(known.call_ns) for known in settled(models, limit_s=limit_s)]


def _warm_again(models: Sequence[Timed], warm_ups: Sequence[WarmUp], rounds: Rounds) -> None:
    """Run models some calls that were warm before a pause, and note how many."""
    for index, (model, known) in enumerate(zip(models, warm_ups, strict=True)):
        calls = max(2, min(WARM_UP_CALLS, int(WARM_AGAIN_NS / max(known.call_ns, 1.0))))
        model.time_calls(calls)
        rounds.warm_up_calls[index] += calls


def run_bursts(
    models: Sequence[Timed], generator: random.Random, *, rounds: int, time_limit_s: float
) -> Rounds:
    """Time models in turns of many calls: what a plain loop over each would take, side by side.

    The latencies of a report come from here. They decide nothing: calls of one turn share their
    disturbances, which medians bear and sequential tests do not.

    Args:
        models: the models; they are warmed up, each for a quarter of the time at most.
        generator: source of the random order.
        rounds: turns of each model.
        time_limit_s: after so long no round is begun, but for the first three.

    Returns:
        Up to :data:`BURST_CALLS` calls of each turn, as many as fit into :data:`BURST_NS`.
    """
    warm_ups = settled(models, limit_s=WARM_UP_SHARE * time_limit_s)
    durations = [max(known.call_ns, 1.0) for known in warm_ups]
    lead_in = [lead_in_calls(call_ns) for call_ns in durations]
    kept = [max(1, min(BURST_CALLS, int(BURST_NS / call_ns))) for call_ns in durations]
    measured = Rounds.of(len(models))
    deadline = time.monotonic() + time_limit_s
    while len(measured) < rounds and (len(measured) < 3 or time.monotonic() < deadline):
        run_round(models, lead_in, measured, generator, 0, kept)
    return measured


def _say_nothing(rounds: int, wait_s: float) -> None:
    """Tell nobody about a wait."""


def interleave(
    baseline: Timed,
    candidate: Timed,
    rounds: Rounds,
    *,
    decided: Callable[[PairedTimings], bool],
    is_contended: Callable[[PairedTimings], bool],
    budget_s: float,
    generator: random.Random,
    progress: Callable[[int, float], None],
    waiting: Callable[[int, float], None] = _say_nothing,
    most_rounds: float = math.inf,
    clock: Clock | None = None,
) -> tuple[PairedTimings, bool]:
    """Add rounds until the question is decided or the budget is spent; no round is ever dropped.

    Attempts of :data:`ROUNDS_PER_ATTEMPT` rounds are spaced apart and carry their evidence over, so
    that a burst of contention does not fill a whole measurement. Where the rounds since the last
    question were contended, nothing is run for a while (:class:`~.waiting.Patience`); what was
    measured is kept, and the models are made warm again. Contention is told from the clocks and
    counters of the rounds themselves.

    Args:
        baseline: the baseline; it is warmed up.
        candidate: the candidate, likewise.
        rounds: what was measured before; grows in place.
        decided: asked every few rounds.
        is_contended: asked about :data:`~.waiting.JUDGED_ROUNDS` rounds and a few at a time.
        budget_s: longest time, pauses included.
        generator: source of the random order.
        progress: called with the rounds so far and the seconds spent.
        waiting: called before each wait, with the rounds so far and its seconds.
        most_rounds: rounds that are added at most, after which nothing is left to be decided.
        clock: another than the system's.

    Returns:
        All rounds, and whether the budget was spent without a decision.
    """
    clock = clock or Clock()
    models = (baseline, candidate)
    cpu_time_is_valid = baseline.cpu_time_is_valid and candidate.cpu_time_is_valid
    started = clock.now_s()
    deadline = started + budget_s
    attempt = rounds.attempt[-1] + 1 if rounds.attempt else 0
    next_look = len(rounds) + ROUNDS_BETWEEN_LOOKS
    judged = len(rounds)
    patience = Patience(budget_s)
    warm_ups = settled(models, limit_s=WARM_UP_SHARE * budget_s)
    _note(warm_ups, rounds)
    durations = [known.call_ns for known in warm_ups]
    lead_in = [lead_in_calls(call_ns) for call_ns in durations]
    last = len(rounds) + most_rounds
    with taking_rounds(models, lead_in, durations, rounds, generator) as taker:
        while True:
            end = int(min(len(rounds) + ROUNDS_PER_ATTEMPT, last))
            while len(rounds) < end:
                taker.take(end, attempt)
                spent = clock.now_s() >= deadline
                if not spent and len(rounds) < min(next_look, last):
                    continue
                next_look = len(rounds) + max(ROUNDS_BETWEEN_LOOKS, len(rounds) // 50)
                timings = paired(rounds, cpu_time_is_valid=cpu_time_is_valid)
                progress(len(rounds), clock.now_s() - started)
                known = decided(timings) or len(rounds) >= last
                if (known or spent) and taker.finish():
                    # Not asked again: some questions may be asked at certain rounds only.
                    timings = paired(rounds, cpu_time_is_valid=cpu_time_is_valid)
                if known or spent:
                    return timings, not known
                if len(rounds) < judged + JUDGED_ROUNDS:
                    continue
                contended = is_contended(timings.between(judged, len(rounds)))
                judged = len(rounds)
                wait_s = min(patience.wait_s(contended=contended), deadline - clock.now_s())
                if wait_s > 0:
                    taker.finish()
                    waiting(len(rounds), wait_s)
                    clock.sleep(wait_s)
                    rounds.note_wait(wait_s)
                    _warm_again(models, warm_ups, rounds)
            if clock.now_s() + PAUSE_BETWEEN_ATTEMPTS_S >= deadline:
                return paired(rounds, cpu_time_is_valid=cpu_time_is_valid), True
            clock.sleep(PAUSE_BETWEEN_ATTEMPTS_S)
            _warm_again(models, warm_ups, rounds)
            attempt += 1


def _note(warm_ups: Sequence[WarmUp], rounds: Rounds) -> None:
    """Add what a warm-up took to what earlier ones of the same rounds did."""
    calls = rounds.warm_up_calls or [0] * len(warm_ups)
    rounds.warm_up_calls = [
        before + known.calls for before, known in zip(calls, warm_ups, strict=True)
    ]
    all_settled = rounds.warm_up_settled or [True] * len(warm_ups)
    rounds.warm_up_settled = [
        before and known.settled for before, known in zip(all_settled, warm_ups, strict=True)
    ]


def summarize(
    rounds: Rounds, index: int, *, cpu_time_is_valid: bool, threads: int, batch: int
) -> LatencySummary:
    """Return the latency summary of one model of interleaved rounds."""
    return summarize_times(
        CallTimes(
            np.asarray(rounds.wall_ns[index], dtype=np.int64),
            np.asarray(rounds.cpu_ns[index], dtype=np.int64),
            np.asarray(rounds.preemptions[index], dtype=np.int64),
        ),
        cpu_time_is_valid=cpu_time_is_valid,
        threads=threads,
        batch=batch,
    )


def summarize_times(
    times: CallTimes, *, cpu_time_is_valid: bool, threads: int, batch: int
) -> LatencySummary:
    """Return the latency summary of consecutive calls."""
    p50, p95, p99 = (float(value) for value in np.percentile(times.wall_ns, (50, 95, 99)))
    cpu = float(np.median(times.cpu_ns)) if cpu_time_is_valid else None
    return LatencySummary(len(times.wall_ns), p50, p95, p99, cpu, threads, batch)
