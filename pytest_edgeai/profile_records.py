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
        operators_executed: operators of one call, for what the runtime spends on each; 0 where
            nobody tells.
        operators_note: what the times of the operators are, or why there are none.
        operator_ns: median time in operators of one profiled call; ``None`` without a profiler.
        integer_share: share of the time in operators that multiply which is spent in those that
            multiply integers; ``None`` where the runtime does not tell.
        mean_wall_ns: mean wall time of the calls without a profiler, of which a neighbor shows
            where the median hides it; ``None`` where it was not taken.
        mean_cpu_ns: likewise of the CPU time.
        waiting_ns: time per call that threads of the process were ready to run and waited for a
            core, summed over them; ``None`` where the system does not tell.
        steal_share: share of the cores' time that the hypervisor gave to others; likewise.
        others_share: share of the cores' time that other processes ran meanwhile; likewise.
        core_source: how ``core_shares`` were found, or why they were not.
        moved_share: share of the calls' time whose core is not known, since a thread moved.
        samples_per_call: samples that went into a call.
        device_is_cpu: whether it ran on the CPU, which is what the peaks are of.
        cores: logical cores that it could run on.
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
    operators_note: str = ""
    operator_ns: float | None = None
    integer_share: float | None = None
    mean_wall_ns: float | None = None
    mean_cpu_ns: float | None = None
    waiting_ns: float | None = None
    steal_share: float | None = None
    others_share: float | None = None
    core_source: str = ""
    moved_share: float = 0.0
    samples_per_call: int = 1
    device_is_cpu: bool = True
    cores: int = 1


@dataclass(frozen=True)
class RuntimeCost:
    """What a runtime spends on this host beside arithmetic.

    Attributes:
        call_ns: on a call, whatever is in it.
        operator_ns: on each operator of it.
    """

    call_ns: float
    operator_ns: float


@dataclass(frozen=True)
class HostPeaks:
    """What this host reached at best, measured in the same session with the same threads.

    Attributes:
        threads: threads that computed.
        float32_flops_per_s: of a product of large float32 matrices.
        int8_operations_per_s: of a product of 8-bit matrices; ``None`` where nothing computed one.
        bytes_per_s: of reading and writing arrays far larger than the caches.
        method: how they were measured, one sentence each.
        bytes_per_s_by_size: bytes that are gone through again and again to the best bytes per
            second, smallest first: what fits into a cache comes from it.
        runtime_costs: framework to what it spends beside arithmetic.
    """

    threads: int
    float32_flops_per_s: float
    int8_operations_per_s: float | None
    bytes_per_s: float
    method: tuple[str, ...]
    bytes_per_s_by_size: Mapping[int, float] = field(default_factory=dict)
    runtime_costs: Mapping[str, RuntimeCost] = field(default_factory=dict)


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
        beneath: what would limit it without its neighbors, by its CPU time; only where ``name`` is
            ``contended``.
        peak_flops_per_s: the peak that ``compute_share`` refers to; ``None`` where it is not known.
        peak_bytes_per_s: the peak that ``bandwidth_share`` refers to, for as many bytes as the
            model goes through in a call; likewise.
        peak_precision: ``float32`` or ``int8``, what the first of the two is of.
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
    beneath: BottleneckName = "unknown"
    peak_flops_per_s: float | None = None
    peak_bytes_per_s: float | None = None
    peak_precision: str = ""


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
