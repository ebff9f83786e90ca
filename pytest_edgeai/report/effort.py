"""What the gates of a model take in data and time, what there is, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pytest_edgeai.judge.needs import RoundNeed, SampleNeed
from pytest_edgeai.report.quantities import format_quantity

Source: TypeAlias = Literal["measured", "history", "estimate"]

_PHASES = {"decode": "", "prefill": "to read a block ", "first_token": "to answer a prompt "}

_SINGULAR = {
    "evaluation samples": "evaluation sample",
    "samples of a group": "sample of a group",
    "samples per class and slice": "sample per class and slice",
    "objects per class and slice": "object per class and slice",
    "blocks of text": "block of text",
    "rounds": "round",
    "turns": "turn",
    "calls": "call",
}

ESTIMATE_FACTOR = 4
"""How far off an estimate of a call's time may be."""

_SOURCES: dict[Source, str] = {
    "measured": "measured just now",
    "history": "measured in an earlier session",
    "estimate": "an estimate from the model's work and the host's features, right within "
    f"{ESTIMATE_FACTOR}x",
}


@dataclass(frozen=True)
class CallTime:
    """How long one call of a baseline takes.

    Attributes:
        phase: what the call does: ``decode`` (the only one of models that generate no text),
            ``prefill`` or ``first_token``.
        ns: its time.
        source: where that is known from.
    """

    phase: str
    ns: float
    source: Source


@dataclass(frozen=True)
class DataEffort:
    """The evaluation data of one gate.

    Attributes:
        need: what it takes.
        limit: the threshold.
        available: what there is; ``None`` where that is not known yet.
        missing: what has to be added to plan for a pass; ``None`` where no practical number will do
            or what there is is not known.
    """

    need: SampleNeed
    limit: float
    available: int | None
    missing: int | None


@dataclass(frozen=True)
class TimeEffort:
    """The timing of one gate.

    Attributes:
        need: the rounds, turns or calls that it takes.
        phase: what its calls do; see :class:`CallTime`.
        call: the baseline's call; ``None`` where nothing is known of it.
        least_s: seconds of the fewest rounds; ``None`` likewise.
        asked_s: seconds of the rounds that are planned for; ``None`` also where no practical number
            of rounds will do.
        budget_s: seconds that the gate may take.
        missing_s: what the budget lacks; ``None`` where ``asked_s`` is.
    """

    need: RoundNeed
    phase: str
    call: CallTime | None
    least_s: float | None
    asked_s: float | None
    budget_s: float
    missing_s: float | None


@dataclass(frozen=True)
class ProcessEffort:
    """The fresh processes of one gate; they count towards no budget.

    Attributes:
        gate: its name.
        processes: fresh processes in all.
        calls: calls in each.
    """

    gate: str
    processes: int
    calls: int


@dataclass(frozen=True)
class ModelEffort:
    """Everything that the gates of one model take.

    Attributes:
        data: the gates that take evaluation data.
        times: the gates that take timing.
        processes: the gates that take fresh processes.
        unknown: why the available data is not known; empty where it is.
    """

    data: tuple[DataEffort, ...]
    times: tuple[TimeEffort, ...]
    processes: tuple[ProcessEffort, ...]
    unknown: str = ""


Row: TypeAlias = tuple[str, str, str, str]
"""A gate, what it needs, what is available, what is missing."""
HEADINGS: Row = ("gate", "needed", "available", "missing")
NOTHING = "-"
NO_LIMIT = "no limit"
UNKNOWN = "unknown"


def effort_rows(effort: ModelEffort) -> list[Row]:
    """Return one row per gate, in the order of :data:`HEADINGS`."""
    rows: list[Row] = []
    for data in effort.data:
        needed = "no practical number"
        if data.need.asked is not None:
            needed = _counted(data.need.asked, data.need.unit)
        available = UNKNOWN if data.available is None else f"{data.available:,}"
        missing = _nothing_or(data.missing, f"{data.missing:,}" if data.missing else "")
        rows.append((data.need.gate, needed, available, missing))
    for time in effort.times:
        needed = f"no practical number of {time.need.unit}"
        if time.need.asked is not None:
            needed = _counted(time.need.asked, time.need.unit)
            needed += f", {seconds_text(time.asked_s)}" if time.asked_s is not None else ""
        missing = _nothing_or(time.missing_s, seconds_text(time.missing_s or 0.0))
        rows.append((time.need.gate, needed, seconds_text(time.budget_s), missing))
    rows += [
        (
            each.gate,
            f"{each.processes} fresh processes",
            NO_LIMIT,
            NOTHING,
        )
        for each in effort.processes
    ]
    return rows


def _counted(count: int, unit: str) -> str:
    """Return a count with its unit, which is given in the plural."""
    return f"{count:,} {_SINGULAR.get(unit, unit) if count == 1 else unit}"


def _nothing_or(missing: float | None, text: str) -> str:
    return UNKNOWN if missing is None else text if missing else NOTHING


def effort_remarks(effort: ModelEffort) -> Iterator[str]:
    """Yield what the rows rest on, one sentence each."""
    for data in effort.data:
        need = data.need
        parts = []
        if need.least is not None and need.expected:
            parts.append(f"{need.least:,} can pass at all")
        parts += [
            f"{'no practical number' if count is None else f'{count:,}'} where "
            f"{_percent(float(value))} is retained"
            for value, count in need.expected.items()
        ]
        text = ", ".join(parts)
        if need.expected:
            text += f" (9 passes in 10, {need.note})"
        yield f"{need.gate}: {text or need.note}"
    if effort.unknown:
        yield f"available data: {effort.unknown}"
    notes: dict[str, list[str]] = {}
    for time in effort.times:
        text = time.need.note
        if time.need.asked != time.need.least:
            text = f"{_counted(time.need.least, time.need.unit)} at least, {text}"
        notes.setdefault(text, []).append(time.need.gate)
    for text, gates in notes.items():
        yield f"{', '.join(gates)}: {text}"
    for each in effort.processes:
        yield f"{each.gate}: {_counted(each.calls, 'calls')} in each process"
    calls: dict[Source, list[str]] = {}
    for call in dict.fromkeys(time.call for time in effort.times if time.call is not None):
        text = f"{_PHASES[call.phase]}{format_quantity(call.ns, 'ns')}"
        calls.setdefault(call.source, []).append(text)
    for source, texts in calls.items():
        yield f"a call of the baseline takes {', '.join(texts)} ({_SOURCES[source]})"
    if any(time.call is None for time in effort.times):
        yield "the time of a call is not known before it is measured: the file does not tell"


def may_lack_time(effort: ModelEffort) -> bool:
    """Return whether a gate's budget could be too small, for all that estimates are good for."""
    return any(
        time.call is None
        or (
            time.call.source == "estimate"
            and time.asked_s is not None
            and ESTIMATE_FACTOR * time.asked_s > time.budget_s
        )
        for time in effort.times
    )


def missing_text(effort: ModelEffort) -> str:
    """Return what is missing and what to do about it, in one sentence; empty where nothing is."""
    parts = [text for data in effort.data if (text := _missing_data(data))]
    short = [time for time in effort.times if time.missing_s]
    if short:
        worst = max(short, key=lambda time: time.asked_s or 0.0)
        near = " near its threshold" if worst.need.asked != worst.need.least else ""
        assert worst.asked_s is not None
        guess = " (an estimate)" if worst.call and worst.call.source == "estimate" else ""
        parts.append(
            f"{worst.need.gate}{near} takes about {seconds_text(worst.asked_s)} of measuring"
            f"{guess}, and {seconds_text(worst.budget_s)} are allowed: raise --edge-budget to "
            f"{budget_for(worst.asked_s):g}"
        )
    return "; ".join(parts)


def _missing_data(data: DataEffort) -> str:
    need, have = data.need, data.available
    if have is None or need.least is None or not need.is_required:
        return ""
    limit = f"{need.gate} > {data.limit:g}" if need.expected else need.gate
    first = _counted(have, need.unit)
    if have < need.least:
        if not need.expected:
            return f"{first} can never pass {limit}: add {need.least - have:,}"
        text = f"{first} can never pass {limit}: add {need.least - have:,} to pass at all"
    elif data.missing:
        text = f"{first} may not decide {limit}: add"
    elif need.asked is None:
        return f"no practical number of {need.unit} shows {limit}, if the candidate loses anything"
    else:
        return ""
    more = [
        f"{count - have:,} where {_percent(float(value))} is retained"
        for value, count in need.expected.items()
        if count is not None and count > have
    ]
    return f"{text}{', ' if have < need.least and more else ' ' if more else ''}{', '.join(more)}"


def row_text(row: Row) -> str:
    """Return a row without its gate, as a sentence."""
    _, needed, available, missing = row
    parts = [f"{needed} needed"]
    if available != NO_LIMIT:
        parts.append(f"{available} available")
    if missing != NOTHING:
        parts.append(f"{missing} missing")
    return ", ".join(parts)


def seconds_text(seconds: float) -> str:
    """Return a duration with two digits: ``0.42 s``, ``3.1 s``, ``180 s``."""
    if seconds >= 10:
        return f"{math.ceil(round(seconds, 6)):,} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2g} s"


def budget_for(seconds: float) -> float:
    """Return a round budget that is enough: the next number of two digits."""
    if seconds <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return float(f"{math.ceil(round(seconds / step, 6)) * step:.6g}")


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"
