"""What limits a candidate on this host, and what it takes in energy, as parts of the page."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_edgeai.energy_records import EnergyReport
from pytest_edgeai.judge.energy import joules_text
from pytest_edgeai.profile_records import CandidateProfile, HostPeaks, Profile
from pytest_edgeai.report.html_parts import Column, bullets, facts, figure, folded, table
from pytest_edgeai.report.markup import Child, Markup, element, join
from pytest_edgeai.report.plots_roofline import rate, roofline_plot
from pytest_edgeai.report.profile_text import profile_rows
from pytest_edgeai.report.quantities import NOTHING, format_estimate, format_quantity

MOST_OPERATORS = 10


def profile_section(key: str, profile: CandidateProfile, *, drawn: bool) -> Markup:
    """Return the bottlenecks with their reasons, the roofline and the longest operators."""
    found = bullets(
        join((element("strong", f"The {side} is {limit.name}"), f": {limit.reason}"))
        for side, limit in (
            ("baseline", profile.baseline_bottleneck),
            ("candidate", profile.candidate_bottleneck),
        )
    )
    plot = roofline_plot(key, profile) if drawn else None
    data = _calls(profile)
    caption = "Attained work against this host's measured peaks"
    shown = figure(plot, caption, data, beside=True)
    return join(
        (
            found,
            shown if shown is not None else folded("Calls, looked into", data),
            _operators("candidate", profile.candidate),
            _operators("baseline", profile.baseline),
            folded("How the peaks were measured", _peaks(profile.peaks)),
        )
    )


def _calls(profile: CandidateProfile) -> Markup:
    limits = (profile.baseline_bottleneck, profile.candidate_bottleneck)
    rows: list[tuple[Child, ...]] = [
        *profile_rows(profile),
        ("operations/s", *(rate(limit.attained_flops_per_s, "OP/s") for limit in limits)),
        ("bytes/s", *(rate(limit.attained_bytes_per_s, "B/s") for limit in limits)),
        ("calls", f"{profile.baseline.calls:,}", f"{profile.candidate.calls:,}"),
    ]
    columns = (Column(""), Column("baseline", "number"), Column("candidate", "number"))
    told = [row for row in rows if set(row[1:]) != {NOTHING}]
    return table(columns, told, label="Calls of both models", layout="stays")


def _operators(side: str, profile: Profile) -> Markup | None:
    total = sum(operator.time_ns for operator in profile.operators)
    if not total or not profile.calls:
        return None
    columns = (
        Column("operator", "code"),
        Column("type", "code"),
        Column("computes in"),
        Column("times", "number"),
        Column("time", "number"),
        Column("share", "number"),
    )
    rows = [
        (
            operator.name,
            operator.operator,
            operator.precision or NOTHING,
            f"{operator.calls:,}",
            format_quantity(operator.time_ns, "ns"),
            f"{operator.time_ns / total:.1%}",
        )
        for operator in profile.operators[:MOST_OPERATORS]
    ]
    count = len(profile.operators)
    many = f"the {MOST_OPERATORS} longest of {count}" if count > MOST_OPERATORS else f"all {count}"
    note = profile.operators_source + (f"; {profile.operators_note}" * bool(profile.operators_note))
    return folded(
        f"Operators of the {side}: {many}",
        table(columns, rows, label=f"Operators of the {side}", layout="scrolls"),
        element("p", f"Measured by {note}.", class_="muted"),
    )


def _peaks(peaks: HostPeaks) -> Markup:
    listed = facts(
        (
            ("threads", str(peaks.threads)),
            ("float32", rate(peaks.float32_flops_per_s, "FLOP/s")),
            (
                "int8",
                rate(peaks.int8_operations_per_s, "OP/s") if peaks.int8_operations_per_s else "",
            ),
            ("memory", rate(peaks.bytes_per_s, "B/s")),
            *(
                (f"from {format_quantity(size, 'bytes')}", rate(speed, "B/s"))
                for size, speed in peaks.bytes_per_s_by_size.items()
            ),
        )
    )
    return join((listed, bullets(peaks.method)))


def energy_section(energy: EnergyReport) -> Markup:
    """Return energy per inference of both models; every figure of an estimate says that it is."""
    method = energy.method
    mark = "" if method.measured else " (estimate)"
    ratio, interval = format_estimate(energy.ratio, energy.interval, "times")
    both = (("baseline", energy.baseline_joules), ("candidate", energy.candidate_joules))
    read = ", ".join(f"{name} ({where})" for name, where in method.domains.items())
    pairs: list[tuple[str, Child]] = [
        ("what it is", method.what),
        ("why no measurement", method.not_measured),
        *((f"{side}, per inference", f"{joules_text(joules)}{mark}") for side, joules in both),
        (
            "candidate / baseline",
            f"{ratio}{mark}, {energy.confidence:.0%} interval {interval}, {energy.pairs} pairs",
        ),
        ("read from", read),
        ("not readable", "; ".join(method.unreadable)),
    ]
    if energy.idle_watts is not None:
        pairs.append(("idle", f"{energy.idle_watts:.3g} W{mark}"))
    if energy.above_idle_ratio is not None:
        above = format_quantity(energy.above_idle_ratio, "times")
        pairs.append(("ratio above idle", f"{above}{mark}"))
    return facts((*pairs, *_carbon(energy, mark)))


def _carbon(energy: EnergyReport, mark: str) -> Iterator[tuple[str, Child]]:
    if energy.carbon is None:
        return
    factor = energy.carbon
    yield (
        "carbon",
        f"{factor.grams_per_kwh:.4g} g CO2e per kWh in {factor.name}, by {factor.source}",
    )
    for side, grams in (
        ("baseline", energy.baseline_grams_per_million),
        ("candidate", energy.candidate_grams_per_million),
    ):
        if grams is not None:
            yield f"{side}, per million inferences", f"{grams:.3g} g CO2e{mark}"
