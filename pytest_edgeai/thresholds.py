"""Read thresholds and resolve them: marker > command line > environment > manifest > default."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Any

from pytest_edgeai.descriptors import GateDescriptor
from pytest_edgeai.errors import UserError, unknown_word
from pytest_edgeai.records import Threshold

SIZE_UNITS: Mapping[str, int] = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)\s*", re.IGNORECASE)
SWITCHED_OFF = "off"
LARGEST = sys.float_info.max


def parse_limit(
    gate: GateDescriptor, raw: Any, where: str, *, switches: bool = True
) -> float | None:
    """Return the limit that ``raw`` states for ``gate``, in its unit; ``None`` where it is off.

    A number, a number in a string (from the command line), ``false`` or ``"off"`` to switch the
    gate off, and for sizes also a string such as ``"50 MB"`` (SI) or ``"48 MiB"`` (IEC 80000-13).
    Errors offer to switch the gate off where it ``switches``.

    Raises:
        UserError: not a finite number, or a limit that the gate cannot have.
    """
    allowed = _allowed(gate) + (", or false to switch the gate off" if switches else "")
    if raw is False or (isinstance(raw, str) and raw.strip().lower() == SWITCHED_OFF):
        return None
    value = math.nan
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        value = float(raw) if abs(raw) <= LARGEST else math.inf
    elif isinstance(raw, str):
        size = _SIZE.fullmatch(raw)
        if gate.unit == "bytes" and size and size[2].lower() in SIZE_UNITS:
            value = float(size[1]) * SIZE_UNITS[size[2].lower()]
        else:
            try:
                value = float(raw)
            except ValueError:
                raise UserError(f"{raw!r} is not a number", where=where, allowed=allowed) from None
    else:
        raise UserError(f"{raw!r} is not a number", where=where, allowed=allowed)
    if not math.isfinite(value):
        raise UserError(f"{raw!r} is not finite", where=where, allowed=allowed)
    if not gate.lowest <= value <= gate.highest or (gate.positive and value <= 0):
        raise UserError(f"{raw!r} is out of range", where=where, allowed=allowed)
    return value


def _allowed(gate: GateDescriptor) -> str:
    if gate.unit == "bytes":
        return 'a number of bytes above 0, a size such as "50 MB" or "48 MiB"'
    if gate.lowest == gate.highest:
        return f"{gate.lowest:g}"
    low = f"from {gate.lowest:g}" if math.isfinite(gate.lowest) else ""
    high = f"up to {gate.highest:g}" if math.isfinite(gate.highest) else ""
    parts = ("a number", "above 0" if gate.positive else low, high)
    return " ".join(part for part in parts if part)


def unknown_gate(name: str, gates: Mapping[str, GateDescriptor], where: str) -> UserError:
    """Return the error for a gate that does not exist."""
    return unknown_word("gate", name, sorted(gates), where=where)


def marker_limit(gate: GateDescriptor, overrides: Mapping[str, Any], where: str) -> float | None:
    """Return the limit that a marker's or a call's keyword sets; ``None`` where it sets none.

    The keyword is the gate's own relation (``at_least``, ``more_than`` or ``at_most``), so that a
    reader sees which way the limit works.

    Raises:
        UserError: a keyword that the gate does not have, or a limit that it cannot have.
    """
    for keyword in overrides:
        if keyword != gate.relation:
            raise UserError(
                f'unknown argument "{keyword}" for gate "{gate.name}"',
                where=where,
                allowed=gate.relation,
            )
    if gate.relation not in overrides:
        return None
    limit = parse_limit(
        gate, overrides[gate.relation], f"{where} {gate.name} {gate.relation}", switches=False
    )
    if limit is None:
        raise UserError(f'"{gate.name}" cannot be switched off here', where=where)
    return limit


def resolve_threshold(
    gate: GateDescriptor,
    *,
    marker: float | None,
    command_line: Mapping[str, str],
    command_line_origin: str,
    model_table: Mapping[str, Any],
    defaults_table: Mapping[str, Any],
    manifest_name: str,
) -> tuple[Threshold, bool]:
    """Return the threshold of ``gate`` for one model, and whether the gate is switched on."""
    layers: list[tuple[Any, str]] = []
    if marker is not None:
        layers.append((marker, "marker"))
    if gate.name in command_line:
        layers.append((command_line[gate.name], command_line_origin))
    layers += [
        (table[gate.name], manifest_name)
        for table in (model_table, defaults_table)
        if gate.name in table
    ]
    if not layers:
        return Threshold(gate.threshold, gate.relation), True
    raw, origin = layers[0]
    limit = parse_limit(gate, raw, f"{origin} {gate.name}")
    return Threshold(limit, gate.relation, origin), limit is not None
