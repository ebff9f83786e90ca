"""The tables of the contest, in Markdown, from the record alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence

from benchmarks.contest.cases import (
    BY_NAME,
    CASES,
    DRAWN_SAMPLES,
    LOSSES,
    THRESHOLDS,
    cell_truth,
    fault_cases,
)
from benchmarks.contest.contestants import CONTESTANTS, Contestant
from benchmarks.contest.counting import (
    Counts,
    count_cases,
    count_draws,
    count_trials,
    verdict_seconds,
)
from benchmarks.contest.goals import goal_rows
from benchmarks.contest.trials import Record

QUIET = ("same",)
LOADED = ("same-busy-core", "same-busy-machine")
NOTHING = "–"
Entry = tuple[Contestant, str]


def entries(record: Record) -> list[Entry]:
    """Return those who took part, a line for each variant, in their fixed order."""
    seen = {(trial.contestant, trial.variant) for trial in record.trials}
    return [
        (contestant, variant)
        for contestant in CONTESTANTS
        for variant in contestant.variants
        if (contestant.name, variant) in seen
        or any(t.contestant == contestant.name and t.outcome == "drawn" for t in record.trials)
    ]


def percent(value: float) -> str:
    """Return a share as a percentage with as many digits as it needs."""
    return f"{100 * value:.1f}".removesuffix(".0") + "%"


def rate_text(counts: Counts) -> str:
    """Return the wrong ones of all: ``2/40, 5% [0.6, 16.9]``, and how many were undecided."""
    if not counts.trials:
        return NOTHING
    wrong = counts.wrong_rate
    text = f"{counts.wrong:,}/{counts.trials:,}, {percent(wrong.count / wrong.trials)} "
    text += f"[{100 * wrong.low:.1f}, {100 * wrong.high:.1f}]"
    return f"{text}, {counts.undecided:,} undecided" if counts.undecided else text


def short_text(counts: Counts) -> str:
    """Return the wrong ones of all, and how many were undecided: ``2/40``, ``0/40 (3)``."""
    if not counts.trials:
        return NOTHING
    text = f"{counts.wrong}/{counts.trials}"
    return f"{text} ({counts.undecided})" if counts.undecided else text


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a pipe in a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines
    )


def seconds_text(seconds: Sequence[float]) -> str:
    """Return the median and the longest."""
    if not seconds:
        return NOTHING
    return f"{statistics.median(seconds):.1f} (longest {max(seconds):.1f})"


def main_table(record: Record) -> str:
    """Return the table of the contest: one line for each contestant."""
    header = (
        "contestant",
        "false alarms, same model",
        "false alarms, same model, beside bursts",
        "misses, 15% slower",
        "misses, 6% less accurate, n = 1,000, 95% asked",
        "the same, 98% asked",
        "faults of cases 4 to 8 that pass",
        "cannot judge",
        "seconds per verdict on speed",
    )
    rows = []
    for contestant, variant in entries(record):
        draws = record.of(contestant.name, "draws", variant)
        drawn = [
            count_draws(draws, threshold=threshold, loss=0.06, samples=1000)[0]
            for threshold in THRESHOLDS
        ]
        faults = count_cases(record, contestant, variant, fault_cases())
        unjudged = [case for case in fault_cases() if contestant.why_not(case)]
        rows.append(
            (
                contestant.title(variant),
                rate_text(_named(record, contestant, variant, QUIET)),
                rate_text(_named(record, contestant, variant, LOADED)),
                rate_text(_named(record, contestant, variant, ("slower-15",))),
                *(rate_text(counts) for counts in drawn),
                rate_text(faults),
                f"{len(unjudged)} of {len(fault_cases())} faults" if unjudged else "nothing",
                seconds_text(verdict_seconds(record, contestant, variant)),
            )
        )
    return markdown(header, rows)


def _named(record: Record, contestant: Contestant, variant: str, names: Iterable[str]) -> Counts:
    return count_cases(record, contestant, variant, (BY_NAME[name] for name in names))


def case_table(record: Record) -> str:
    """Return a line for each case: false alarms or misses of all trials of each contestant."""
    shown = entries(record)
    header = ("case", "planted", "wrong is a", *(c.title(variant) for c, variant in shown))
    rows = []
    for case in CASES:
        if case.kind == "draws":
            continue
        cells = []
        for contestant, variant in shown:
            counts = count_trials(case, record.of(contestant.name, case.name, variant))
            cells.append("cannot" if contestant.why_not(case) else short_text(counts))
        wrong = "false alarm" if case.truth == "met" else "miss"
        rows.append((f"`{case.name}`", case.what, wrong, *cells))
    return markdown(header, rows)


def draws_table(record: Record, threshold: float) -> str:
    """Return wrong and undecided verdicts on drawn pairs against one threshold."""
    shown = [
        (contestant, variant)
        for contestant, variant in entries(record)
        if record.of(contestant.name, "draws", variant)
    ]
    if not shown:
        return "Not run."
    header = ("samples", "loss", "wrong is a", *(c.title(variant) for c, variant in shown))
    rows = []
    for samples in DRAWN_SAMPLES:
        for loss in LOSSES:
            cells = []
            for contestant, variant in shown:
                trials = record.of(contestant.name, "draws", variant)
                counts, _ = count_draws(trials, threshold=threshold, loss=loss, samples=samples)
                cells.append(_draws_text(counts))
            truth = cell_truth(loss, threshold)
            wrong = "false alarm" if truth == "met" else "miss"
            rows.append((f"{samples:,}", percent(loss), wrong, *cells))
    return markdown(header, rows)


def _draws_text(counts: Counts) -> str:
    if not counts.trials:
        return NOTHING
    wrong = counts.wrong_rate
    text = (
        f"{percent(counts.wrong / counts.trials)} [{100 * wrong.low:.1f}, {100 * wrong.high:.1f}]"
    )
    if counts.undecided:
        text += f", {percent(counts.undecided / counts.trials)} undecided"
    return text


def setup_table(record: Record) -> str:
    """Return who takes part in which version, what each was given, and how it was set up."""
    rows = []
    for contestant in CONTESTANTS:
        version = record.versions.get(contestant.shown, "")
        absent = record.absent.get(contestant.name)
        setup = f"not installed: {absent}" if absent else contestant.setup
        rows.append((f"{contestant.name} {version}".strip(), contestant.got, setup))
    return markdown(("contestant", "was given", "was set up as"), rows)


def cannot_table(record: Record) -> str:
    """Return what each contestant cannot judge, and why."""
    rows = []
    for contestant in CONTESTANTS:
        reasons: dict[str, list[str]] = {}
        for case in CASES:
            reason = contestant.why_not(case)
            if reason:
                reasons.setdefault(reason, []).append(f"`{case.name}`")
        for reason, names in reasons.items():
            rows.append((contestant.name, ", ".join(names), reason))
    return markdown(("contestant", "cannot judge", "because"), rows)


def wrong_table(record: Record, contestant: Contestant) -> str:
    """Return every kind of wrong verdict of one contestant, with what it last said."""
    rows = []
    for case in CASES:
        if case.kind == "draws":
            continue
        for variant in contestant.variants:
            trials = record.of(contestant.name, case.name, variant)
            wrong = [trial for trial in trials if count_trials(case, [trial]).wrong]
            if wrong:
                rows.append((f"`{case.name}`", f"{len(wrong)}/{len(trials)}", wrong[-1].reason))
    if not rows:
        return "No verdict of pytest-edgeai was wrong in the cases that are not drawn."
    return markdown(("case", "wrong", "what it said"), rows)


def circumstances(record: Record) -> str:
    """Return when, where and with what."""
    days = sorted({trial.when[:10] for trial in record.trials if trial.when})
    loads = [trial.load for trial in record.trials if trial.load is not None]
    when = NOTHING if not days else days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    versions = ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items()))
    load = f"{statistics.median(loads):.1f}" if loads else NOTHING
    count = sum(1 for _ in record.trials)
    return (
        f"{when}, on {record.host}; {versions}. {count:,} answers; the load average before a trial "
        f"was {load} at the median; a baseline's call is {record.repetitions} products. Written "
        f"{time.strftime('%Y-%m-%d', time.gmtime())} by `python -m benchmarks.contest`."
    )


def all_tables(record: Record) -> str:
    """Return everything that the record says."""
    ours = CONTESTANTS[0]
    parts = [
        circumstances(record),
        "### The contest",
        main_table(record),
        "### The goals",
        markdown(("goal", "found", ""), goal_rows(record)),
        "### Case by case",
        "Wrong verdicts of all trials; in parentheses, how many trials were undecided.",
        case_table(record),
        *(
            part
            for threshold in THRESHOLDS
            for part in (
                f"### Accuracy on drawn pairs, more than {percent(threshold)} asked",
                draws_table(record, threshold),
            )
        ),
        "### Where pytest-edgeai is wrong",
        wrong_table(record, ours),
        "### Who was given what",
        setup_table(record),
        "### What cannot be judged",
        cannot_table(record),
    ]
    return "\n\n".join(parts) + "\n"
