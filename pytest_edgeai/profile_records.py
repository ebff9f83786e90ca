"""What a model does with the time of its calls, and what its host could do at best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pytest_edgeai.records import RuntimeOptions

BottleneckName: TypeAlias = Literal[
    "compute-bound", "memory-bound", "overhead-bound", "contended", "unknown"
]


@dataclass(frozen=True)
class OperatorTime:
    """What one operator took over all profiled calls.

    Attributes:
        name: its name in the graph that the runtime executes.
        operator: its type, in the runtime's own words.
        calls: how often it ran.
        time_ns: time in it, over all of them.
        precision: what it computed in, where the runtime says so; empty otherwise.
    """

    name: str
    operator: str
    calls: int
    time_ns: int
    precision: str = ""


@dataclass(frozen=True)
class Profile:
    """One model's calls, looked into.

    Attributes:
        framework: the framework that ran it.
        runtime: how it was run.
        calls: profiled calls.
        wall_ns: median wall time of a call without a profiler.
        cpu_ns: median CPU time of a call of the whole process without a profiler; ``None`` where it
            is not valid.
        profiled_wall_ns: median wall time of a call with the profiler; ``None`` without one.
        operators: what each operator took, the longest first; empty where the runtime has no
            profiler.
        operators_source: the profiler that said so; empty where there is none.
        core_shares: for each logical core, the share of the calls' time that the process ran on it.
        minor_faults: page faults without input or output, per call.
        major_faults: page faults that read from disk, per call.
        voluntary_switches: context switches that the process asked for, per call.
        involuntary_switches: context switches that it did not ask for, per call.
        counters: further counters in the runtime's own words, per call.
        flops_per_call: floating-point operations of one call; ``None`` where they are not known.
        bytes_per_call: bytes of weights and activations that one call reads and writes; likewise.
        workload_note: what the two figures are, or why they are not known.
        operators_executed: operators of one call, for what the runtime spends on each.
    """

    framework: str
    runtime: RuntimeOptions
    calls: int
    wall_ns: float
    cpu_ns: float | None
    profiled_wall_ns: float | None
    operators: tuple[OperatorTime, ...]
    operators_source: str
    core_shares: Mapping[str, float]
    minor_faults: float
    major_faults: float
    voluntary_switches: float
    involuntary_switches: float
    counters: Mapping[str, float] = field(default_factory=dict)
    flops_per_call: float | None = None
    bytes_per_call: float | None = None
    workload_note: str = ""
    operators_executed: int = 0


@dataclass(frozen=True)
class HostPeaks:
    """What this host reached at best, measured in the same session with the same threads.

    Attributes:
        threads: threads that computed.
        float32_flops_per_s: of a product of large float32 matrices.
        int8_operations_per_s: of a product of 8-bit matrices; ``None`` where nothing computed one.
        bytes_per_s: of reading and writing arrays far larger than the caches.
        method: how they were measured, one sentence each.
    """

    threads: int
    float32_flops_per_s: float
    int8_operations_per_s: float | None
    bytes_per_s: float
    method: tuple[str, ...]


@dataclass(frozen=True)
class Bottleneck:
    """What limits a model on this host, as its measurements say.

    Attributes:
        name: the limit.
        reason: why, with its figures, in one plain sentence.
        attained_flops_per_s: operations per second; ``None`` where the work is not known.
        attained_bytes_per_s: bytes per second; likewise.
        intensity_flops_per_byte: operations per byte moved; likewise.
        compute_share: attained operations over the peak; likewise.
        bandwidth_share: attained bytes over the peak; likewise.
        overhead_share: share of the wall time outside of operators; ``None`` without a profiler.
        evidence: further figures that decided.
    """

    name: BottleneckName
    reason: str
    attained_flops_per_s: float | None = None
    attained_bytes_per_s: float | None = None
    intensity_flops_per_byte: float | None = None
    compute_share: float | None = None
    bandwidth_share: float | None = None
    overhead_share: float | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CandidateProfile:
    """Baseline and candidate, looked into side by side.

    Attributes:
        baseline: the baseline's calls.
        candidate: the candidate's calls.
        peaks: of this host.
        baseline_bottleneck: what limits the baseline.
        candidate_bottleneck: what limits the candidate.
    """

    baseline: Profile
    candidate: Profile
    peaks: HostPeaks
    baseline_bottleneck: Bottleneck
    candidate_bottleneck: Bottleneck
