"""What MLPerf LoadGen measured of models under load, as frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.samples import BoolArray, Int64Array

Scenario: TypeAlias = Literal["SingleStream", "MultiStream", "Server", "Offline"]
Side: TypeAlias = Literal["baseline", "candidate"]


@dataclass(frozen=True)
class LoadPlan:
    """What is asked of a model under load.

    Attributes:
        ratio: share of the expected rate that is to be sustained, the gate's threshold.
        percentile: the percentile that the bounds are for; ``None`` chooses by the budget.
        queries_per_second: expected rate; ``None`` takes what the baseline sustains.
        latency_ns: bound of a query's latency; ``None`` for a multiple of the baseline's.
        first_token_ns: bound of the time to the first token; likewise, language models alone.
        interval_ns: bound of the mean time between the tokens of a request; likewise.
        streams: queries that may be answered at once.
        output_tokens: tokens of an answer; 0 for a model of tensors.
        budget_s: seconds of LoadGen's runs together.
        has_every_scenario: whether MultiStream is driven however long it takes.
    """

    ratio: float
    percentile: float | None
    queries_per_second: float | None
    latency_ns: float | None
    first_token_ns: float | None
    interval_ns: float | None
    streams: int
    output_tokens: int
    budget_s: float
    has_every_scenario: bool

    @property
    def is_relative(self) -> bool:
        """Whether the expected rate is the baseline's own."""
        return self.queries_per_second is None

    @property
    def states_bounds(self) -> bool:
        """Whether every bound that applies is stated, so that none follows from the baseline."""
        if self.output_tokens:
            return self.first_token_ns is not None and self.interval_ns is not None
        return self.latency_ns is not None


@dataclass(frozen=True)
class LoadBounds:
    """The bounds that a query has to keep, and where they come from.

    Attributes:
        percentile: share of the queries that keep them, in percent.
        latency_ns: from the scheduled time to the end of the answer; ``None`` for no bound.
        first_token_ns: from the scheduled time to the first token; likewise.
        interval_ns: mean time between the tokens of a request; likewise.
        timeout_ns: a call that takes longer counts as a time-out.
        source: where they come from, in words.
    """

    percentile: float
    latency_ns: float | None
    first_token_ns: float | None
    interval_ns: float | None
    timeout_ns: float
    source: str

    @property
    def quantile(self) -> float:
        """The percentile as a share."""
        return self.percentile / 100


@dataclass(frozen=True, eq=False)
class LoadRun:
    """One run of one scenario; one entry of each array is one query, in the order of a lane.

    Attributes:
        scenario: LoadGen's scenario.
        target_per_second: rate of the Server scenario; 0 for the others.
        seconds: length of the run.
        is_valid: LoadGen's own word, ``Result is : VALID``, of every lane.
        streams: queries that are answered at once, over all lanes.
        lane: which worker answered; queries of a lane wait for one another.
        scheduled_ns: when a query was due, from the first of its lane on.
        issue_delay_ns: from there until it was issued.
        latency_ns: from the time that it was due until it was answered.
        service_ns: wall time of the call.
        undisturbed_ns: the same without what other processes took of it.
        failed: whether the call raised.
        token_ns: shape ``(queries, tokens)``: time to the first token without the wait, then the
            times between tokens; ``None`` for a model of tensors.
        messages: what was raised, the first few, and how often.
        summary: the lines of ``mlperf_log_summary.txt``.
        logs: paths of LoadGen's logs.
        tells_contention: whether ``undisturbed_ns`` says anything.
    """

    scenario: Scenario
    target_per_second: float
    seconds: float
    is_valid: bool
    streams: int
    lane: Int64Array
    scheduled_ns: Int64Array
    issue_delay_ns: Int64Array
    latency_ns: Int64Array
    service_ns: Int64Array
    undisturbed_ns: Int64Array
    failed: BoolArray
    token_ns: NDArray[np.float64] | None = None
    messages: Mapping[str, int] = field(default_factory=dict)
    summary: Mapping[str, str] = field(default_factory=dict)
    logs: tuple[str, ...] = ()
    tells_contention: bool = True

    @property
    def queries(self) -> int:
        """Number of queries."""
        return len(self.latency_ns)

    @property
    def lanes(self) -> int:
        """Number of workers that answered."""
        return int(self.lane.max()) + 1 if len(self.lane) else 1


@dataclass(frozen=True, eq=False)
class LoadSamples:
    """Everything that was driven for one candidate.

    Attributes:
        plan: what was asked.
        bounds: the bounds that followed.
        expected_per_second: the expected rate; ``None`` where the baseline sustained none.
        expected_source: where it comes from, in words.
        baseline: runs of the baseline, in order; empty where nothing was asked of it.
        candidate: runs of the candidate, in order.
        paired: for runs of the candidate at the rate that decides, by index, the run of the
            baseline with the same arrivals at the expected rate.
        hang: why the candidate's process had to be ended; empty where it had not.
        needed_s: seconds that the next run would have taken, where the budget did not hold it.
        spent_s: seconds of all runs.
        version: of LoadGen.
    """

    plan: LoadPlan
    bounds: LoadBounds
    expected_per_second: float | None
    expected_source: str
    baseline: tuple[LoadRun, ...]
    candidate: tuple[LoadRun, ...]
    paired: Mapping[int, int]
    hang: str
    needed_s: float
    spent_s: float
    version: str

    @property
    def required_per_second(self) -> float | None:
        """The rate that the candidate has to sustain."""
        expected = self.expected_per_second
        return None if expected is None else self.plan.ratio * expected
