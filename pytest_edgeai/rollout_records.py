"""A roll-out as it is planned and as it went, as frozen records that flow from measure to judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

RolloutAction: TypeAlias = Literal["stay", "advance", "complete", "roll_back"]
RolloutEnd: TypeAlias = Literal["completed", "rolled_back", "unfinished"]


@dataclass(frozen=True)
class RolloutPolicy:
    """How the traffic moves to a new version, and what moves it back.

    Attributes:
        shares: share of the requests that the new version gets, stage by stage; the last is 1.
        stage_requests: requests that the new version answers in a stage before the next one begins.
        baseline_requests: requests that the old version answers before the first stage.
        window_requests: requests to the new version between two looks.
        error_ratio: share of failed requests that is accepted of the new version.
        latency_factor: a request is slow where it takes more than this times the old version's p95.
        slow_ratio: share of slow requests that is accepted of the new version.
        false_alarm: chance that a version within both shares is rolled back all the same.
    """

    shares: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    stage_requests: int = 30
    baseline_requests: int = 60
    window_requests: int = 10
    error_ratio: float = 0.01
    latency_factor: float = 2.0
    slow_ratio: float = 0.05
    false_alarm: float = 0.001


@dataclass(frozen=True, eq=False)
class RolloutTraffic:
    """The requests of one roll-out, in their order.

    Attributes:
        stage: int64 of shape ``(requests,)``: 0 before the first stage, then 1 and up; -1 after the
            new version was rolled back.
        is_new: bool, likewise: whether it was sent to the new version.
        failed: bool: whether the version that it was sent to failed to answer it.
        lost: bool: whether its sender got no answer from either version.
        seconds: float64: until the version that it was sent to had answered or failed.
    """

    stage: NDArray[np.int64]
    is_new: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    seconds: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RolloutRun:
    """One simulated roll-out.

    Attributes:
        name: which (``gradual ramp``, ``gradual ramp, the new version is killed`` ...).
        fault: what was planted; empty for the candidate as it is.
        end: how it ended.
        reason: what decided that, one sentence.
        traffic: its requests.
        back_s: from the planted fault to the last request that went to the new version; ``None``
            where nothing was planted or nothing was rolled back.
    """

    name: str
    fault: str
    end: RolloutEnd
    reason: str
    traffic: RolloutTraffic
    back_s: float | None = None
