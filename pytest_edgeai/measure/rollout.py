"""Simulate a roll-out: a splitter between an old and a new server, under real requests."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pytest_edgeai.rollout_records import (
    RolloutAction,
    RolloutEnd,
    RolloutPolicy,
    RolloutRun,
    RolloutTraffic,
)

AFTER_ROLLBACK_REQUESTS = 20
FAULT_AFTER_REQUESTS = 5
"""Requests that the new version answers well before a fault is planted."""

Decide = Callable[[RolloutTraffic, RolloutPolicy], tuple[RolloutAction, str]]


class Version(Protocol):
    """What answers requests."""

    def ask(self, body: bytes) -> tuple[bool, float]:
        """Send one request; return whether it was answered, and the seconds that took."""


@dataclass(frozen=True)
class PlantedFault:
    """A fault of the new version.

    Attributes:
        words: what it does, for reports (``it is killed``).
        plant: makes it happen.
    """

    words: str
    plant: Callable[[], None]


@dataclass
class _Log:
    stage: list[int] = field(default_factory=list)
    is_new: list[bool] = field(default_factory=list)
    failed: list[bool] = field(default_factory=list)
    lost: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def traffic(self) -> RolloutTraffic:
        return RolloutTraffic(
            np.asarray(self.stage, dtype=np.int64),
            np.asarray(self.is_new, dtype=np.bool_),
            np.asarray(self.failed, dtype=np.bool_),
            np.asarray(self.lost, dtype=np.bool_),
            np.asarray(self.seconds, dtype=np.float64),
        )


def roll_out(
    name: str,
    old: Version,
    new: Version,
    bodies: Sequence[bytes],
    policy: RolloutPolicy,
    *,
    decide: Decide,
    fault: PlantedFault | None,
    generator: random.Random,
    limit_s: float,
    progress: Callable[[str], None],
) -> RolloutRun:
    """Move the traffic from ``old`` to ``new`` stage by stage, until the end or back.

    A request that the new version fails is answered by the old one, as a splitter does; its sender
    loses nothing as long as one of them answers. After a rollback some requests more show that the
    old version serves them all.

    Args:
        name: name of the run.
        old: the version in service.
        new: the version that is rolled out.
        bodies: requests, sent in turn.
        policy: the plan.
        decide: says what to do after each request.
        fault: is planted once the new version has answered some requests; ``None`` for none.
        generator: chooses the version of each request by the stage's share.
        limit_s: longest time.
        progress: called with what is going on, stage by stage.
    """
    log = _Log()
    requests = itertools.cycle(bodies)
    started = time.monotonic()
    planted_at: float | None = None
    last_new_at = started
    stage = 0
    served_by_new = 0

    def send(share: float, mark: int) -> None:
        nonlocal served_by_new, last_new_at
        body = next(requests)
        to_new = generator.random() < share
        answered, seconds = (new if to_new else old).ask(body)
        rescued = answered or (to_new and old.ask(body)[0])
        log.stage.append(mark)
        log.is_new.append(to_new)
        log.failed.append(not answered)
        log.lost.append(not rescued)
        log.seconds.append(seconds)
        if to_new:
            served_by_new += 1
            last_new_at = time.monotonic()

    def run(end: RolloutEnd, reason: str) -> RolloutRun:
        back_s = last_new_at - planted_at if planted_at and end == "rolled_back" else None
        return RolloutRun(name, fault.words if fault else "", end, reason, log.traffic(), back_s)

    progress(f"{name}: all requests to the old version")
    while time.monotonic() - started < limit_s:
        send(policy.shares[stage - 1] if stage else 0.0, stage)
        if fault is not None and planted_at is None and served_by_new >= FAULT_AFTER_REQUESTS:
            planted_at = time.monotonic()
            fault.plant()
        action, reason = decide(log.traffic(), policy)
        if action == "complete":
            return run("completed", reason)
        if action == "roll_back":
            progress(f"{name}: back to the old version")
            for _ in range(AFTER_ROLLBACK_REQUESTS):
                send(0.0, -1)
            return run("rolled_back", reason)
        if action == "advance":
            stage += 1
            progress(f"{name}: {policy.shares[stage - 1]:.0%} of the requests to the new version")
    return run("unfinished", f"{limit_s:g} s were over")
