"""What was measured of a baseline and a candidate: samples and counts, and never a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Int64Array: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
QualityKind: TypeAlias = Literal["proportion", "loss", "perplexity", "corpus", "embedding"]
LEFT_OUT = "left_out"
"""The part of `PairedQuality.resamples` that tells a jackknife."""


@dataclass(frozen=True, eq=False)
class PairedTimings:
    """Interleaved timings of baseline and candidate; every array has shape ``(rounds,)``.

    Attributes:
        baseline_wall_ns: int64, ``perf_counter_ns`` around one baseline call.
        candidate_wall_ns: int64, the same for the candidate.
        baseline_cpu_ns: int64, ``process_time_ns`` around it; ``None`` where CPU time says nothing.
        candidate_cpu_ns: int64, the same for the candidate.
        baseline_preemptions: int64, involuntary context switches during the call.
        candidate_preemptions: int64, the same for the candidate.
        baseline_first: bool, whether the baseline ran first in the round.
        attempt: int64, index of the attempt that the round belongs to.
        core: int64, the core that both ran on; -1 where that was left to the scheduler, empty where
            it is not known.
        wait_before_round: int64, shape ``(waits,)``: for each wait for other processes, the number
            of rounds that had been measured.
        wait_ns: int64, shape ``(waits,)``, how long it lasted.
        warm_up_calls: int64, shape ``(2,)``, baseline first: calls that were made to warm up and
            count for nothing; empty where that is not known.
        warm_up_settled: bool, likewise: whether the calls had settled before the first round.
    """

    baseline_wall_ns: Int64Array
    candidate_wall_ns: Int64Array
    baseline_cpu_ns: Int64Array | None
    candidate_cpu_ns: Int64Array | None
    baseline_preemptions: Int64Array
    candidate_preemptions: Int64Array
    baseline_first: BoolArray
    attempt: Int64Array
    core: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    wait_before_round: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    wait_ns: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    warm_up_calls: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    warm_up_settled: BoolArray = field(default_factory=lambda: np.zeros(0, np.bool_))

    @property
    def rounds(self) -> int:
        """Number of completed rounds."""
        return len(self.baseline_wall_ns)

    def between(self, first: int, end: int) -> PairedTimings:
        """Return the rounds ``first`` to ``end``, the latter excluded, and what each took."""
        chosen = slice(first, end)
        baseline_cpu_ns, candidate_cpu_ns = self.baseline_cpu_ns, self.candidate_cpu_ns
        return PairedTimings(
            self.baseline_wall_ns[chosen],
            self.candidate_wall_ns[chosen],
            None if baseline_cpu_ns is None else baseline_cpu_ns[chosen],
            None if candidate_cpu_ns is None else candidate_cpu_ns[chosen],
            self.baseline_preemptions[chosen],
            self.candidate_preemptions[chosen],
            self.baseline_first[chosen],
            self.attempt[chosen],
            self.core[chosen],
        )


PART_TURNS = 24
"""Turns of the first part of a measurement of stability; each further part doubles the number."""


@dataclass(frozen=True, eq=False)
class TurnSamples:
    """Turns of many calls each that one model took, and what its process held between them.

    Attributes:
        wall_ns: int64 of shape ``(turns, calls)``, ``perf_counter_ns`` around each judged call.
        cpu_ns: likewise, ``process_time_ns``; ``None`` where CPU time says nothing.
        preemptions: likewise, involuntary context switches during the call.
        calls_before: int64 of shape ``(turns + 1,)``, the calls behind each reading of the memory,
            those that led into a turn included.
        memory_bytes: int64 of shape ``(turns + 1,)``: before the first turn, and after each.
    """

    wall_ns: Int64Array
    cpu_ns: Int64Array | None
    preemptions: Int64Array
    calls_before: Int64Array
    memory_bytes: Int64Array


@dataclass(frozen=True, eq=False)
class StabilitySamples:
    """Baseline and candidate over many turns, one after the other in random order.

    Attributes:
        baseline: the baseline's turns.
        candidate: the candidate's, as many; a turn may have another number of calls.
        memory_definition: what the readings of the memory are; the same on both sides.
    """

    baseline: TurnSamples
    candidate: TurnSamples
    memory_definition: str

    @property
    def turns(self) -> int:
        """Number of turns of each model."""
        return len(self.candidate.wall_ns)


@dataclass(frozen=True)
class MemorySamples:
    """Peak memory of fresh processes, one entry per repeat.

    Attributes:
        definition: how the figure was taken, e.g. ``linux-peak-growth-less-code-pages``; figures of
            different definitions are never compared.
        baseline_bytes: model memory of the baseline.
        candidate_bytes: model memory of the candidate.
        baseline_footprint_bytes: absolute peak of the baseline's process.
        candidate_footprint_bytes: absolute peak of the candidate's process.
        baseline_kv_cache_bytes: keys and values of a whole context, part of the model memory;
            ``None`` where there are none, or where the runtime does not say.
        candidate_kv_cache_bytes: likewise.
        baseline_mapped_bytes: model memory where the weights are mapped from their file instead of
            read; ``None`` where that was not measured.
        candidate_mapped_bytes: likewise.
        baseline_steady_bytes: model memory after the runs, which the peak may be far above; empty
            where the platform has no counter of it.
        candidate_steady_bytes: likewise.
        steady_definition: how that was taken; ``None`` likewise.
        baseline_untouched_bytes: part of the model memory that is not resident: weights that the
            runtime maps although it should read them count in full.
        candidate_untouched_bytes: likewise.
    """

    definition: str
    baseline_bytes: tuple[int, ...]
    candidate_bytes: tuple[int, ...]
    baseline_footprint_bytes: tuple[int, ...]
    candidate_footprint_bytes: tuple[int, ...]
    baseline_kv_cache_bytes: int | None = None
    candidate_kv_cache_bytes: int | None = None
    baseline_mapped_bytes: int | None = None
    candidate_mapped_bytes: int | None = None
    baseline_steady_bytes: tuple[int, ...] = ()
    candidate_steady_bytes: tuple[int, ...] = ()
    steady_definition: str | None = None
    baseline_untouched_bytes: int = 0
    candidate_untouched_bytes: int = 0


@dataclass(frozen=True, eq=False)
class TokenComparison:
    """How far two language models agree, token by token; arrays of one shape ``(tokens,)``.

    Attributes:
        blocks: int64, the block of text that each token belongs to.
        baseline_nll: float64, negative log-likelihood of the token in nats.
        candidate_nll: likewise.
        divergence: float64, Kullback-Leibler divergence of the candidate's prediction from the
            baseline's, in nats.
        agrees: bool, whether both would have chosen the same token.
    """

    blocks: Int64Array
    baseline_nll: NDArray[np.float64]
    candidate_nll: NDArray[np.float64]
    divergence: NDArray[np.float64]
    agrees: BoolArray


@dataclass(frozen=True, eq=False)
class PairedQuality:
    """Per-sample results of baseline and candidate on the same evaluation samples.

    Attributes:
        metric: name of the metric.
        kind: ``proportion`` (scores are 0 or 1), ``loss`` (non-negative, lower is better),
            ``perplexity`` (each sample is a block of text, its score the mean negative
            log-likelihood of a token in nats), ``corpus`` (one figure of the whole set, higher is
            better; scores are NaN, `resamples` counts) or ``embedding`` (scores are the share of
            the baseline's nearest neighbors that each model has; `cosines` count).
        baseline_scores: float64, shape ``(samples,)``.
        candidate_scores: float64, shape ``(samples,)``.
        classes: the class of each sample, shape ``(samples,)``, any dtype; ``None``: no classes.
        slices: name of a division of the evaluation data to the part that each sample belongs to,
            integers or strings, shape ``(samples,)``.
        resamples: of a ``corpus``: ``baseline`` and ``candidate`` to the figure of the whole set
            and then of each paired resample, float64, shape ``(1 + resamples,)``. Bootstrap
            resamples, unless `LEFT_OUT` is there: the share of the samples that each leaves out,
            of a delete-a-group jackknife, likewise (0 for the whole set).
        cosines: of an ``embedding``: output name to the cosine between both models' answers, shape
            ``(samples,)``; 0 where the candidate's has no direction.
        parts: what stands for the samples where a class or a slice is judged: the objects of a
            detector, the queries of an embedding; ``None``: the samples themselves.
    """

    metric: str
    kind: QualityKind
    baseline_scores: NDArray[np.float64]
    candidate_scores: NDArray[np.float64]
    classes: NDArray[Any] | None
    slices: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    resamples: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    cosines: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    parts: PairedQuality | None = None


@dataclass(frozen=True)
class OutputSanity:
    """What the outputs of baseline and candidate look like over all evaluation samples.

    Attributes:
        samples: number of samples that both were run on.
        contract_breaches: differences in output names, ranks, shapes or dtypes, one sentence each.
        nan_outputs: candidate output name to NaN elements where the baseline had a number.
        inf_outputs: candidate output name to number of infinite elements, likewise.
        constant_outputs: candidate outputs that never vary although the baseline's do.
        collapsed_classes: classes whose recall fell to zero although the baseline recalled some.
        class_support: class to number of evaluation samples.
    """

    samples: int
    contract_breaches: tuple[str, ...]
    nan_outputs: Mapping[str, int]
    inf_outputs: Mapping[str, int]
    constant_outputs: tuple[str, ...]
    collapsed_classes: tuple[str, ...]
    class_support: Mapping[str, int]


@dataclass(frozen=True)
class LatencySummary:
    """Latency of one model in one configuration, from a plain loop after warm-up.

    Attributes:
        samples: number of timed calls.
        p50_ns: median wall time.
        p95_ns: 95th percentile of wall time.
        p99_ns: 99th percentile of wall time.
        cpu_p50_ns: median CPU time of the process; ``None`` where CPU time says nothing.
        threads: threads that the runtime was given.
        batch: samples per call.
    """

    samples: int
    p50_ns: float
    p95_ns: float
    p99_ns: float
    cpu_p50_ns: float | None
    threads: int
    batch: int
