"""What limits a candidate on this host, in one sentence."""

from __future__ import annotations

import math

from pytest_edgeai.profile_records import CandidateProfile, Profile
from pytest_edgeai.report.content import CandidateReport
from pytest_edgeai.report.quantities import NOTHING, format_quantity

WORTH_TELLING = 0.2
"""Share of the operators' time from which on a type of operator is named."""


def operator_shares(profile: Profile) -> dict[str, float]:
    """Return operator type to its share of the time in operators, the largest first."""
    total = sum(each.time_ns for each in profile.operators)
    times: dict[str, int] = {}
    for each in profile.operators:
        times[each.operator] = times.get(each.operator, 0) + each.time_ns
    ordered = sorted(times.items(), key=lambda item: (-item[1], item[0]))
    return {name: time_ns / total for name, time_ns in ordered} if total else {}


def operator_text(profile: Profile) -> str:
    """Return which type of operator takes most of the time; empty where nobody tells."""
    shares = operator_shares(profile)
    if not shares:
        return ""
    name, share = next(iter(shares.items()))
    return f"{share:.0%} of the operators' time in {name}" if share >= WORTH_TELLING else ""


def bottleneck_sentence(candidate: CandidateReport) -> str:
    """Return what limits a candidate, with its figures; empty where that was not looked into."""
    return "" if candidate.profile is None else profile_sentence(candidate.profile)


def profile_sentence(profile: CandidateProfile) -> str:
    """Return what limits the candidate, and the baseline where that is something else."""
    found = profile.candidate_bottleneck
    parts = [f"{found.name}: {found.reason}"]
    if where := operator_text(profile.candidate):
        parts.append(where)
    elif not profile.candidate.operators_source:
        parts.append(f"no times of operators: {profile.candidate.operators_note}")
    if profile.baseline_bottleneck.name != found.name:
        parts.append(f"the baseline is {profile.baseline_bottleneck.name}")
    return "; ".join(parts)


def profile_rows(profile: CandidateProfile) -> list[tuple[str, str, str]]:
    """Return a table of both models: the figure, the baseline's and the candidate's."""
    left, right = _cells(profile.baseline), _cells(profile.candidate)
    limits = (profile.baseline_bottleneck, profile.candidate_bottleneck)
    rows: list[tuple[str, str, str]] = [("limit", limits[0].name, limits[1].name)]
    rows += [(name, left[name], right[name]) for name in left]
    for name, shares in (
        ("share of the peak of operations", [limit.compute_share for limit in limits]),
        ("share of the peak of bytes", [limit.bandwidth_share for limit in limits]),
        ("share beside arithmetic", [limit.overhead_share for limit in limits]),
    ):
        cells = [NOTHING if share is None else f"{share:.0%}" for share in shares]
        rows.append((name, cells[0], cells[1]))
    tops = [operator_text(side) or NOTHING for side in (profile.baseline, profile.candidate)]
    return [*rows, ("longest operators", tops[0], tops[1])]


def _cells(side: Profile) -> dict[str, str]:
    cores = [f"{core}: {share:.0%}" for core, share in side.core_shares.items() if share >= 0.005]
    return {
        "wall time": format_quantity(side.wall_ns, "ns"),
        "CPU time": format_quantity(side.cpu_ns, "ns"),
        "ready and waiting for a core": format_quantity(side.waiting_ns, "ns"),
        "operators": f"{side.operators_executed:,}" if side.operators_executed else NOTHING,
        "operations": _count(side.flops_per_call),
        "bytes moved (estimated)": format_quantity(side.bytes_per_call, "bytes"),
        "page faults": _count(side.minor_faults + side.major_faults),
        "context switches": _count(side.voluntary_switches + side.involuntary_switches),
        "time on each core": ", ".join(cores) or NOTHING,
    }


def _count(value: float | None) -> str:
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
