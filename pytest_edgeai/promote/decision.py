"""Whether the verdicts of one candidate allow its promotion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_edgeai.judge.verdict import worst_by_gate
from pytest_edgeai.records import PROMOTABLE_OUTCOMES, Outcome, Verdict


def blocked_by(
    required_gates: Sequence[str], verdicts: Iterable[Verdict], *, allow_proxy: bool
) -> tuple[str, ...]:
    """Return the required gates that block promotion, in their order and without repeats.

    A gate blocks unless its verdict is ``pass`` or ``not_applicable``, or ``proxy`` where
    ``allow_proxy`` accepts it. A gate without a verdict blocks: unmeasured is not passed. Of
    several verdicts of one gate (reruns) the worst counts.

    Args:
        required_gates: names of every gate that the candidate has to pass.
        verdicts: what was decided in this session; those of other gates do not count.
        allow_proxy: whether ``--edge-allow-proxy`` is given.
    """
    allowed: frozenset[Outcome] = PROMOTABLE_OUTCOMES
    if allow_proxy:
        allowed |= {"proxy"}
    worst = worst_by_gate(verdicts)
    return tuple(
        gate
        for gate in dict.fromkeys(required_gates)
        if gate not in worst or worst[gate].outcome not in allowed
    )
