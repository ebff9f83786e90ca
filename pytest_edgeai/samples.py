"""What was measured of a baseline and a candidate: samples and counts, and never a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Int64Array: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]


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
    """

    baseline_wall_ns: Int64Array
    candidate_wall_ns: Int64Array
    baseline_cpu_ns: Int64Array | None
    candidate_cpu_ns: Int64Array | None
    baseline_preemptions: Int64Array
    candidate_preemptions: Int64Array
    baseline_first: BoolArray
    attempt: Int64Array

    @property
    def rounds(self) -> int:
        """Number of completed rounds."""
        return len(self.baseline_wall_ns)


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
        kind: ``proportion`` (scores are 0 or 1), ``loss`` (non-negative, lower is better) or
            ``perplexity`` (each sample is a block of text, its score the mean negative
            log-likelihood of a token in nats).
        baseline_scores: float64, shape ``(samples,)``.
        candidate_scores: float64, shape ``(samples,)``.
        classes: the class of each sample, shape ``(samples,)``, any dtype; ``None``: no classes.
    """

    metric: str
    kind: Literal["proportion", "loss", "perplexity"]
    baseline_scores: NDArray[np.float64]
    candidate_scores: NDArray[np.float64]
    classes: NDArray[Any] | None


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
