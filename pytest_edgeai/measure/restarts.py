"""Time pairs of processes, one pair after the other, where a pair by itself can mislead.

With several threads two processes of the same model differ from each other for as long as they
live: on two cores, identical models stood at 0.67 to 1.43 of each other. Rounds of one pair then
say the same wrong thing as often as they are asked, and only another pair says anything new.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager

from pytest_edgeai.measure.latency import interleave
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.measure.timed import Timed
from pytest_edgeai.measure.waiting import Clock, Patience
from pytest_edgeai.records import PairedTimings


def interleave_starts(
    start: Callable[[], AbstractContextManager[tuple[Timed, Timed]]],
    rounds: Rounds,
    *,
    rounds_per_start: int,
    decided: Callable[[PairedTimings], bool],
    is_contended: Callable[[PairedTimings], bool],
    budget_s: float,
    generator: random.Random,
    progress: Callable[[int, float], None],
    waiting: Callable[[int, float], None],
    clock: Clock | None = None,
) -> tuple[PairedTimings, bool]:
    """Add rounds of pair after pair until the question is decided or the budget is spent.

    Each pair is an attempt of its own. After a pair whose rounds were contended nothing is run for
    a while, as within the rounds of a single pair.

    Args:
        start: starts baseline and candidate in new processes, which end with the context.
        rounds: what was measured before; grows in place.
        rounds_per_start: rounds of each pair.
        decided: asked after each pair.
        is_contended: asked about the rounds of the last pair.
        budget_s: longest time, starts and pauses included.
        generator: source of the random order.
        progress: called with the rounds so far and the seconds spent.
        waiting: called before each wait, with the rounds so far and its seconds.
        clock: another than the system's.

    Returns:
        All rounds, and whether the budget was spent without a decision.
    """
    clock = clock or Clock()
    begin = clock.now_s()
    deadline = begin + budget_s
    patience = Patience(budget_s)
    while True:
        before = len(rounds)
        started = clock.now_s()
        with start() as (baseline, candidate):
            timings, spent = interleave(
                baseline,
                candidate,
                rounds,
                decided=lambda timings: False,
                most_rounds=rounds_per_start,
                is_contended=is_contended,
                budget_s=deadline - clock.now_s(),
                generator=generator,
                progress=lambda count, seconds: progress(count, started - begin + seconds),  # noqa: B023
                clock=clock,
            )
        if not spent and decided(timings):
            return timings, False
        if spent or clock.now_s() >= deadline:
            return timings, True
        contended = is_contended(timings.between(before, len(rounds)))
        wait_s = min(patience.wait_s(contended=contended), deadline - clock.now_s())
        if wait_s > 0:
            waiting(len(rounds), wait_s)
            clock.sleep(wait_s)
            rounds.note_wait(wait_s)
