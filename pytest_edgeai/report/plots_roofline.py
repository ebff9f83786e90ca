"""The roofline: what both models attained against what this host reached at best.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore
architectures", Communications of the ACM 52(4), 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from pytest_edgeai.profile_records import Bottleneck, CandidateProfile
from pytest_edgeai.report.plots import STAND_INS, Plot, add_axes, draw, ruler

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_CACHE_FROM = 1.2
"""How much faster than the memory a cache has to be to get a line of its own."""
_MARKERS = {"baseline": "o", "candidate": "D"}


@dataclass(frozen=True)
class _Place:
    role: str
    intensity: float
    attained: float


def rate(value: float | None, unit: str) -> str:
    """Return a rate with three digits: ``41.3 GFLOP/s``; ``-`` where it is not known."""
    if value is None:
        return "-"
    for factor, prefix in _PREFIXES:
        if abs(value) >= 0.9995 * factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def _place(role: str, found: Bottleneck) -> _Place | None:
    attained, intensity = found.attained_flops_per_s, found.intensity_flops_per_byte
    if not attained or not intensity or attained <= 0 or intensity <= 0:
        return None
    return _Place(role, intensity, attained)


def roofline_plot(key: str, profile: CandidateProfile) -> Plot | None:
    """Return the roofline; ``None`` where the work of neither model is known."""
    peaks = profile.peaks
    pairs = (("baseline", profile.baseline_bottleneck), ("candidate", profile.candidate_bottleneck))
    places = [place for role, found in pairs if (place := _place(role, found)) is not None]
    if not places or peaks.bytes_per_s <= 0 or peaks.float32_flops_per_s <= 0:
        return None
    told = "; ".join(
        f"the {place.role} attained {rate(place.attained, 'FLOP/s')} at {place.intensity:.3g} "
        "operations per byte"
        for place in places
    )
    description = (
        f"{told}. The host reached {rate(peaks.float32_flops_per_s, 'FLOP/s')} in float32"
        + (
            f", {rate(peaks.int8_operations_per_s, 'OP/s')} in int8"
            if peaks.int8_operations_per_s
            else ""
        )
        + f" and {rate(peaks.bytes_per_s, 'B/s')}."
    )
    return draw(key, "Roofline", description, 250, lambda figure: _paint(figure, profile, places))


def _paint(figure: Figure, profile: CandidateProfile, places: list[_Place]) -> None:
    peaks = profile.peaks
    axes = add_axes(figure, 70, 42, 10, 8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    roofs: list[tuple[str, float, Any]] = [("float32", peaks.float32_flops_per_s, "-")]
    if peaks.int8_operations_per_s:
        roofs.append(("int8", peaks.int8_operations_per_s, (0, (4, 2))))
    top = max(roof for _, roof, _ in roofs)
    knees = [roof / peaks.bytes_per_s for _, roof, _ in roofs]
    left = min(*knees, *(place.intensity for place in places)) / 4
    right = max(*knees, *(place.intensity for place in places)) * 6
    bottom = min(*(place.attained for place in places), left * peaks.bytes_per_s) / 2.5
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top * 4)
    for (name, roof, style), knee in zip(roofs, knees, strict=True):
        axes.plot([left, knee, right], [left * peaks.bytes_per_s, roof, roof],
                  color=STAND_INS["ink"], linewidth=1.3, linestyle=style)  # fmt: skip
        axes.annotate(
            f"{name} {rate(roof, 'OP/s')}",
            (right, roof),
            (-2, 3),
            textcoords="offset points",
            ha="right",
        )
    axes.annotate(
        f"memory {rate(peaks.bytes_per_s, 'B/s')}",
        (left, left * peaks.bytes_per_s),
        (12, 0),
        textcoords="offset points",
        va="top",
    )
    cached = profile.candidate_bottleneck.peak_bytes_per_s
    if cached and cached > _CACHE_FROM * peaks.bytes_per_s:
        axes.plot([left, top / cached], [left * cached, top], color=STAND_INS["muted"],
                  linewidth=1.1, linestyle=(0, (1, 1.5)))  # fmt: skip
        axes.annotate(
            f"cache {rate(cached, 'B/s')}",
            (top / cached, top),
            (-2, 4),
            textcoords="offset points",
            color=STAND_INS["muted"],
            ha="right",
        )
    for place in places:
        axes.plot(
            [place.intensity],
            [place.attained],
            marker=_MARKERS[place.role],
            markersize=8,
            color=STAND_INS[place.role],
            linestyle="none",
        )
        inside = place.intensity < (left * right) ** 0.5
        axes.annotate(
            place.role,
            (place.intensity, place.attained),
            (7 if inside else -7, 4 if place.role == "baseline" else -14),
            textcoords="offset points",
            color=STAND_INS[place.role],
            fontweight="bold",
            ha="left" if inside else "right",
        )
    powers = _powers(left, right)
    ruler(axes, "x", powers, [f"{at:g}" for at in powers], "operations per byte moved")
    powers = _powers(bottom, top * 4)
    ruler(axes, "y", powers, [rate(at, "OP/s") for at in powers])


def _powers(low: float, high: float) -> list[float]:
    """Return powers of ten between two numbers, at most five."""
    powers = [10.0**n for n in range(-12, 19) if low <= 10.0**n <= high]
    return powers[:: -(-len(powers) // 5)] if len(powers) > 5 else powers
