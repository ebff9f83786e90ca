"""Quantities as people read them, chosen by the unit that a gate declares."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_edgeai.records import Relation, Verdict

NOTHING = "-"
"""Stands for a quantity that was not observed."""

_SHARE_SUFFIXES = ("_retained", "_accurate", "_cut", "_share", "_fraction", "_rate", "_coverage")
_BYTE_SCALES = ((1, "B"), (2**10, "KiB"), (2**20, "MiB"), (2**30, "GiB"), (2**40, "TiB"))
_NS_SCALES = ((1, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s"))
_RELATIONS: dict[Relation, tuple[str, str]] = {
    "more_than": (">", ">"),
    "at_least": ("≥", ">="),
    "at_most": ("≤", "<="),
}
_MAX_DECIMALS = 9


@dataclass(frozen=True)
class Scale:
    """How one quantity is written.

    Attributes:
        factor: what a value is divided by.
        suffix: what follows the number, its leading blank included.
        fixed_decimals: decimals of every number; ``None`` keeps three significant digits.
        threshold_decimals: decimals that a threshold shows at least.
    """

    factor: float
    suffix: str
    fixed_decimals: int | None = None
    threshold_decimals: int = 0

    def decimals(self, value: float) -> int:
        """Return the decimals that ``value`` is shown with by default."""
        if self.fixed_decimals is not None:
            return self.fixed_decimals
        size = abs(value / self.factor)
        if size == 0 or not math.isfinite(size):
            return 0 if self.suffix in ("", " B", " ns") else 2
        if size >= 0.995:
            return 2 if size < 9.995 else 1 if size < 99.95 else 0
        return min(_MAX_DECIMALS, 1 - math.floor(math.log10(size)))

    def number(self, value: float, decimals: int) -> str:
        """Return ``value`` in this scale without its unit."""
        if math.isnan(value):
            return NOTHING
        if math.isinf(value):
            return "∞" if value > 0 else "-∞"
        scaled = value / self.factor
        if abs(scaled) >= 1e15:
            return f"{scaled:.3g}"
        text = f"{scaled:.{decimals}f}"
        return text.removeprefix("-") if not text.strip("-0.") else text


def _stepped(value: float, scales: tuple[tuple[float, str], ...]) -> Scale:
    """Return the largest scale in which ``value`` does not fall below one, as it is rounded."""
    chosen = scales[0]
    for factor, suffix in scales[1:]:
        # 0.9995 of a unit would be shown as 1000 or 1024 of the smaller one.
        if abs(value) >= 0.9995 * factor:
            chosen = (factor, suffix)
    whole = chosen[1] in ("B", "ns")
    return Scale(chosen[0], f" {chosen[1]}", 0 if whole else None)


def _counted(unit: str, value: float) -> str:
    """Return the name of a counted ``unit`` (``classes``) in singular or plural."""
    if value != 1:
        return unit
    if unit.endswith(("sses", "xes", "ches", "shes")):
        return unit[:-2]
    return unit[:-1] if unit.endswith("s") and not unit.endswith("ss") else unit


def scale_of(unit: str, gate: str, value: float) -> Scale:
    """Return how a value of ``unit`` is written.

    Args:
        unit: ``ratio``, ``share``, ``times``, ``bytes``, ``ns``, ``s`` or any other word, which
            then stands behind the number.
        gate: name of the gate; decides only how a ``ratio`` reads, by its ending: retentions and
            cuts as percentages, all others as multiples. ``share`` and ``times`` say it outright.
        value: the value that the magnitude of the unit is chosen by.
    """
    if not math.isfinite(value):
        value = 0.0
    if unit == "share" or (unit == "ratio" and gate.endswith(_SHARE_SUFFIXES)):
        return Scale(0.01, "%", 1)
    if unit in ("ratio", "times"):
        return Scale(1, "×", None, threshold_decimals=1)
    if unit == "bytes":
        return _stepped(value, _BYTE_SCALES)
    if unit == "ns":
        return _stepped(value, _NS_SCALES)
    if unit == "s":
        steps = tuple((factor / 1e9, suffix) for factor, suffix in _NS_SCALES)
        return _stepped(value, steps)
    name = _counted(unit, value)
    return Scale(1, f" {name}" if name else "", 0 if float(value).is_integer() else None)


def _keeps_side(value: float, limit: float, scale: Scale, decimals: int) -> bool:
    """Return whether the shown number stands to the limit as the value does."""
    if not math.isfinite(value):
        return True
    scaled_limit = limit / scale.factor
    shown = float(f"{value / scale.factor:.{decimals}f}")
    if value == limit or math.isclose(value, limit, rel_tol=1e-9):
        return True
    return (shown > scaled_limit) == (value > limit) and shown != scaled_limit


def _plain(text: str, ascii_only: bool) -> str:
    if not ascii_only:
        return text
    return text.replace("×", "x").replace("µ", "u").replace("∞", "inf")


def format_quantity(
    value: float | None, unit: str, *, gate: str = "", ascii_only: bool = False
) -> str:
    """Return one quantity with its unit: ``2.75×``, ``98.7%``, ``5.62 MiB``, ``4.12 ms``."""
    if value is None or math.isnan(value):
        return NOTHING
    scale = scale_of(unit, gate, value)
    return _plain(scale.number(value, scale.decimals(value)) + scale.suffix, ascii_only)


def format_estimate(
    observed: float | None,
    interval: tuple[float | None, float | None] | None,
    unit: str,
    *,
    gate: str = "",
    threshold: float | None = None,
    ascii_only: bool = False,
) -> tuple[str, str]:
    """Return the observed value with its unit, and its interval in the same unit without it.

    All three numbers have the same decimals: as many as it takes that none of them is rounded onto
    or across the threshold. 1.996 against 2.0 reads ``1.996×``, not ``2.00×``.
    """
    low, high = interval or (None, None)
    known = [v for v in (observed, low, high) if v is not None and math.isfinite(v)]
    if not known:
        shown = NOTHING if observed is None else format_quantity(observed, unit, gate=gate)
        return _plain(shown, ascii_only), ""
    reference = observed if observed is not None and math.isfinite(observed) else known[0]
    scale = scale_of(unit, gate, reference)
    decimals = scale.decimals(reference)
    if threshold is not None and math.isfinite(threshold):
        while decimals < _MAX_DECIMALS and not all(
            _keeps_side(v, threshold, scale, decimals) for v in known
        ):
            decimals += 1
    text = NOTHING
    if observed is not None:
        text = scale.number(observed, decimals) + scale.suffix
    bounds = ""
    if interval is not None:
        left = "(-∞" if low is None else "[" + scale.number(low, decimals)
        right = "∞)" if high is None else scale.number(high, decimals) + "]"
        bounds = f"{left}, {right}"
    return _plain(text, ascii_only), _plain(bounds, ascii_only)


def format_threshold(
    threshold: float | None,
    relation: Relation,
    unit: str,
    *,
    gate: str = "",
    ascii_only: bool = False,
) -> str:
    """Return a limit with its relation: ``≥ 2.0×``, ``> 95%``, ``≤ 8 MiB``; empty without one.

    As many decimals are shown as the limit was written with, up to nine; sizes, which are often
    computed or converted, to one part in two thousand.
    """
    if threshold is None or math.isnan(threshold):
        return ""
    sign = _RELATIONS[relation][ascii_only]
    if math.isinf(threshold):
        return f"{sign} {_plain('∞' if threshold > 0 else '-∞', ascii_only)}"
    scale = scale_of(unit, gate, threshold)
    decimals = scale.threshold_decimals
    exact = threshold / scale.factor
    tolerance = 5e-4 if unit == "bytes" else 1e-9
    while decimals < _MAX_DECIMALS and not math.isclose(
        float(f"{exact:.{decimals}f}"), exact, rel_tol=tolerance, abs_tol=1e-12
    ):
        decimals += 1
    return _plain(f"{sign} {scale.number(threshold, decimals)}{scale.suffix}", ascii_only)


def verdict_estimate(verdict: Verdict, *, ascii_only: bool = False) -> tuple[str, str]:
    """Return what a verdict observed, and its interval, as :func:`format_estimate` writes them."""
    return format_estimate(
        verdict.observed,
        verdict.interval,
        verdict.unit,
        gate=verdict.gate,
        threshold=verdict.threshold,
        ascii_only=ascii_only,
    )


def verdict_threshold(verdict: Verdict, *, ascii_only: bool = False) -> str:
    """Return the limit of a verdict as :func:`format_threshold` writes it."""
    return format_threshold(
        verdict.threshold, verdict.relation, verdict.unit, gate=verdict.gate, ascii_only=ascii_only
    )
