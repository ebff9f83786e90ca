"""Name what limits a model on this host: the roofline model, with what stands beside its two roofs.

Williams, Waterman and Patterson 2009 (https://doi.org/10.1145/1498765.1498785): a kernel attains at
most the peak of its operations, or as many as its bytes let through. Both roofs are measured in the
same session, see :mod:`pytest_edgeai.measure.peaks`. A model that comes near neither may be held up
by its runtime, or by others on the machine; both are measured too. What none of the measurements
explains is ``unknown``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pytest_edgeai.judge.timings import CONTENDED_IDLE_SHARE
from pytest_edgeai.judge.verdict import bytes_text, count_text, duration_text
from pytest_edgeai.profile_records import Bottleneck, BottleneckName, HostPeaks, Profile

WAITING_SHARE = 0.25
"""Share of the wall time in which a thread was ready to run and waited for a core, from which on a
model is contended. With as many busy neighbors as cores the scheduler's fair share makes it a half;
on a machine at rest it was under 0.02. See docs/profile.md."""

STEAL_SHARE = 0.10
"""Share of the cores' time that the hypervisor gave to others, from which on a model is contended:
the resolution of a speed ratio, 3%, is lost several times over."""

OVERHEAD_SHARE = 0.5
"""Share of the wall time that the runtime spends beside arithmetic, from which on that limits."""

BOUND_SHARE = 0.4
"""Share of a roof from which on it limits. Convolutions and products of optimized runtimes sustain
about 0.4 of the peak of a large product; see docs/profile.md for what planted models reach."""

MOST_SHARE = 1.5
"""Share of the bytes' roof above which the count of bytes cannot be right: what operators hand to
each other was fused away, or stayed in registers."""

_INTEGER_SHARE = 0.5
_SHORTEST_NS = 1.0


@dataclass(frozen=True)
class _Roofs:
    """What was attained, in shares of what the host reaches; ``None`` for what is not known."""

    flops_per_s: float | None
    bytes_per_s: float | None
    compute_share: float | None
    bandwidth_share: float | None
    peak_flops_per_s: float
    peak_bytes_per_s: float | None
    precision: str


def find_bottleneck(profile: Profile, peaks: HostPeaks) -> Bottleneck:
    """Return what limits a model; never raises, and never guesses.

    Args:
        profile: its calls.
        peaks: of the host, with as many threads as the model has.
    """
    if not _is_positive(profile.wall_ns) or profile.wall_ns < _SHORTEST_NS:
        return Bottleneck("unknown", "no call was timed")
    contention, evidence = _contention(profile)
    if not contention:
        return _limit(profile, peaks, profile.wall_ns, evidence)
    quiet = profile.cpu_ns is not None and _is_positive(profile.cpu_ns)
    if not quiet or profile.cpu_ns is None:
        found = Bottleneck("unknown", "", evidence=evidence)
    else:
        threads = max(1, min(profile.runtime.threads or profile.cores, profile.cores))
        busy_ns = min(profile.wall_ns, max(profile.cpu_ns / threads, 1.0))
        found = _limit(profile, peaks, busy_ns, evidence)
    reason = contention
    if found.name != "unknown":
        reason += f"; by its CPU time it is {found.name}: {found.reason}"
    return replace(found, name="contended", reason=reason, beneath=found.name)


def bandwidth_at(peaks: HostPeaks, size: float) -> float:
    """Return the bytes per second that the host reaches over a working set of ``size`` bytes.

    Linear in the logarithms between two measured sizes, and that of the nearest one beyond them.
    """
    points = sorted(peaks.bytes_per_s_by_size.items())
    if not points:
        return peaks.bytes_per_s
    if size <= points[0][0]:
        return points[0][1]
    for (low, low_rate), (high, high_rate) in itertools.pairwise(points):
        if size <= high:
            part = math.log(size / low) / math.log(high / low)
            return math.exp((1 - part) * math.log(low_rate) + part * math.log(high_rate))
    return points[-1][1]


def _contention(profile: Profile) -> tuple[str, dict[str, float]]:
    """Return why a profile is one of contention, empty where it is not, and its figures."""
    evidence: dict[str, float] = {}
    reasons: list[str] = []
    threads = max(1, min(profile.runtime.threads or profile.cores, profile.cores))
    mean_ns = profile.mean_wall_ns
    if profile.waiting_ns is not None and mean_ns is not None and _is_positive(mean_ns):
        share = min(1.0, profile.waiting_ns / (mean_ns * threads))
        evidence["waiting_share"] = share
        if share >= WAITING_SHARE:
            whose = "its thread was" if threads == 1 else "its threads were"
            reasons.append(f"{share:.0%} of the time {whose} ready to run and waited for a core")
    elif (
        threads == 1
        and profile.device_is_cpu
        and profile.mean_cpu_ns is not None
        and mean_ns is not None
        and _is_positive(mean_ns)
    ):
        share = max(0.0, 1 - profile.mean_cpu_ns / mean_ns)
        evidence["idle_share"] = share
        if share > CONTENDED_IDLE_SHARE:
            reasons.append(f"{share:.0%} of the wall time was no CPU time of its process")
    if profile.steal_share is not None:
        evidence["steal_share"] = profile.steal_share
        if profile.steal_share >= STEAL_SHARE:
            reasons.append(
                f"the hypervisor gave {profile.steal_share:.0%} of the cores' time to others"
            )
    if profile.others_share is not None:
        evidence["others_share"] = profile.others_share
        if reasons:
            reasons.append(f"other processes ran {profile.others_share:.0%} of the cores' time")
    return "; ".join(reasons), evidence


def _limit(
    profile: Profile, peaks: HostPeaks, time_ns: float, evidence: Mapping[str, float]
) -> Bottleneck:
    """Return what limits a model whose calls take ``time_ns``, were nobody else on the machine."""
    overhead, how, figures = _overhead(profile, peaks, time_ns)
    roofs = _roofs(profile, peaks, time_ns)
    name, reason = _name(profile, roofs, overhead, how)
    intensity = None
    if profile.flops_per_call is not None and profile.bytes_per_call:
        intensity = profile.flops_per_call / profile.bytes_per_call
    return Bottleneck(
        name=name,
        reason=reason,
        attained_flops_per_s=roofs.flops_per_s,
        attained_bytes_per_s=roofs.bytes_per_s,
        intensity_flops_per_byte=intensity,
        compute_share=roofs.compute_share,
        bandwidth_share=roofs.bandwidth_share,
        overhead_share=overhead,
        evidence={**evidence, **figures},
        peak_flops_per_s=roofs.peak_flops_per_s if profile.device_is_cpu else None,
        peak_bytes_per_s=roofs.peak_bytes_per_s if profile.device_is_cpu else None,
        peak_precision=roofs.precision if profile.device_is_cpu else "",
    )


def _roofs(profile: Profile, peaks: HostPeaks, time_ns: float) -> _Roofs:
    precision, peak_flops = "float32", peaks.float32_flops_per_s
    is_integer = (profile.integer_share or 0.0) >= _INTEGER_SHARE
    if is_integer and peaks.int8_operations_per_s is not None:
        precision, peak_flops = "int8", peaks.int8_operations_per_s
    flops_per_s = bytes_per_s = compute = bandwidth = peak_bytes = None
    if profile.flops_per_call is not None:
        flops_per_s = profile.flops_per_call / time_ns * 1e9
        compute = flops_per_s / peak_flops if _is_positive(peak_flops) else None
    if profile.bytes_per_call is not None:
        bytes_per_s = profile.bytes_per_call / time_ns * 1e9
        peak_bytes = bandwidth_at(peaks, profile.bytes_per_call)
        bandwidth = bytes_per_s / peak_bytes if _is_positive(peak_bytes) else None
    if not profile.device_is_cpu:
        compute = bandwidth = None
    return _Roofs(flops_per_s, bytes_per_s, compute, bandwidth, peak_flops, peak_bytes, precision)


def _overhead(
    profile: Profile, peaks: HostPeaks, time_ns: float
) -> tuple[float | None, str, dict[str, float]]:
    """Return the share of a call beside arithmetic, how it was found, and its figures.

    Two measurements tell it, and the larger one counts: the time outside of operators, and what the
    runtime spends on as many operators of nothing.
    """
    found: list[tuple[float, str]] = []
    figures: dict[str, float] = {}
    if profile.operator_ns is not None:
        share = _outside(profile.operator_ns, time_ns)
        if profile.profiled_wall_ns is not None and _is_positive(profile.profiled_wall_ns):
            # What disturbed the plain calls alone is no overhead, and what the profiler itself
            # costs neither: of both the smaller.
            share = min(share, _outside(profile.operator_ns, profile.profiled_wall_ns))
        figures["outside_share"] = share
        found.append((share, f"{share:.0%} of a call is spent outside of operators"))
    cost = peaks.runtime_costs.get(profile.framework)
    if cost is not None:
        count = profile.operators_executed
        spent_ns = cost.call_ns + count * cost.operator_ns
        share = min(1.0, spent_ns / time_ns)
        figures["runtime_cost_share"] = share
        found.append(
            (
                share,
                f"{share:.0%} of a call is what {profile.framework} spends beside arithmetic: "
                f"{count_text(count, 'operator')} at {duration_text(cost.operator_ns)} and "
                f"{duration_text(cost.call_ns)} for the call",
            )
        )
    if not found:
        return None, "", figures
    share, how = max(found)
    return share, how, figures


def _outside(operator_ns: float, wall_ns: float) -> float:
    return min(1.0, max(0.0, 1 - operator_ns / wall_ns))


def _name(
    profile: Profile, roofs: _Roofs, overhead: float | None, how: str
) -> tuple[BottleneckName, str]:
    if overhead is not None and overhead >= OVERHEAD_SHARE:
        return "overhead-bound", how
    if not profile.device_is_cpu:
        return "unknown", (
            f"it ran on {profile.runtime.device}, and the peaks that were measured are the CPU's"
        )
    compute, bandwidth = roofs.compute_share, roofs.bandwidth_share
    is_counted = bandwidth is not None and bandwidth <= MOST_SHARE
    near: list[tuple[float, BottleneckName, str]] = []
    if compute is not None and compute >= BOUND_SHARE:
        near.append((compute, "compute-bound", _compute_text(roofs, compute)))
    if bandwidth is not None and is_counted and bandwidth >= BOUND_SHARE:
        near.append((bandwidth, "memory-bound", _bandwidth_text(profile, roofs, bandwidth)))
    if near:
        _, name, reason = max(near)
        return name, reason
    if compute is None and bandwidth is None:
        return "unknown", f"the work of a call is not known: {profile.workload_note or 'no figure'}"
    parts = []
    if compute is not None:
        parts.append(_compute_text(roofs, compute))
    if bandwidth is not None and is_counted:
        parts.append(_bandwidth_text(profile, roofs, bandwidth))
    if overhead is not None:
        parts.append(how)
    if bandwidth is not None and not is_counted:
        parts.append("more bytes than can have moved, so operators were fused")
    return "unknown", f"nothing limits it by itself: {'; '.join(parts)}"


def _compute_text(roofs: _Roofs, share: float) -> str:
    unit = "GFLOP/s" if roofs.precision == "float32" else f"GOP/s in {roofs.precision}"
    return f"{share:.0%} of the host's {roofs.peak_flops_per_s / 1e9:.3g} {unit}"


def _bandwidth_text(profile: Profile, roofs: _Roofs, share: float) -> str:
    assert roofs.peak_bytes_per_s is not None
    over = f" over {bytes_text(profile.bytes_per_call)}" if profile.bytes_per_call else ""
    return f"{share:.0%} of the host's {roofs.peak_bytes_per_s / 1e9:.3g} GB/s{over}"


def _is_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
