"""Whose turn it is: the pair with the fewest trials for the weight of its case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.contest.cases import Case
from benchmarks.contest.contestants import Contestant


def next_pair(
    contestants: Sequence[Contestant],
    cases: Iterable[Case],
    counts: Mapping[tuple[str, str], int],
) -> tuple[Contestant, Case] | None:
    """Return the next trial; ``None`` where every case has as many as it needs.

    Contestants take turns within a case before the next case begins, so that they meet the same
    state of the machine.

    Args:
        contestants: who takes part.
        cases: that they are asked about, in their order.
        counts: (contestant, case) to the number of trials so far.
    """
    best: tuple[float, int] | None = None
    pair: tuple[Contestant, Case] | None = None
    for case in cases:
        for contestant in contestants:
            done = counts.get((contestant.name, case.name), 0)
            if contestant.why_not(case) or (case.most_trials and done >= case.most_trials):
                continue
            turn = (done / case.weight, done)
            if best is None or turn < best:
                best, pair = turn, (contestant, case)
    return pair
