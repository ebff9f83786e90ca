"""What the gates of privacy measured, as frozen records that flow from measure to judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NetworkAttempt:
    """Attempts of one kind to reach one destination.

    Attributes:
        step: what was being done: ``import``, ``load`` or ``inference``.
        kind: ``connect``, ``send``, ``lookup`` of a host name, or ``listen``.
        to: the destination: address and port, or the host name that was looked up.
        protocol: ``TCP``, ``UDP``, ``DNS``; empty where the guard cannot tell.
        by: the process that tried, where it was another one than the worker.
        count: how often.
    """

    step: str
    kind: str
    to: str
    protocol: str = ""
    by: str = ""
    count: int = 1


@dataclass(frozen=True)
class NetworkWatch:
    """What a candidate did with the network while it ran without one.

    Attributes:
        guards: what kept it from the network: ``namespace``, ``kernel``, ``python``.
        missing: guard that this platform did not permit to why.
        proved: whether an attempt that was made on purpose at the end was seen and refused.
        attempts: every attempt, in order.
        local_sockets: Unix sockets that it connected to, which are no attempts.
        samples: evaluation samples, or blocks of text, that it answered.
        calls: timed calls beside them.
        watched_s: how long it was watched, from the start of its process on.
        error: why it could not be run to its end; empty where it could.
    """

    guards: tuple[str, ...]
    missing: Mapping[str, str]
    proved: bool
    attempts: tuple[NetworkAttempt, ...]
    local_sockets: tuple[str, ...]
    samples: int
    calls: int
    watched_s: float
    error: str = ""


@dataclass(frozen=True, eq=False)
class MembershipScores:
    """What an attacker sees of samples, float64 of shape ``(samples,)``; more means a member.

    Attributes:
        attack: ``loss`` (the log-probability of the label) or ``modified entropy``, negated.
        members: ``baseline`` and ``candidate`` to the scores of samples that were trained on.
        others: likewise, of the evaluation data, which was not.
    """

    attack: str
    members: Mapping[str, NDArray[np.float64]]
    others: Mapping[str, NDArray[np.float64]]
