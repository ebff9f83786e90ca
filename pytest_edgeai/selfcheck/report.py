"""What a self-check found: for a terminal, and as JSON (schema ``pytest-edgeai/self-check/1``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_edgeai.judge.verdict import count_text, duration_text
from pytest_edgeai.records import JSON, HostFacts, to_json
from pytest_edgeai.report.tables import Column, layout
from pytest_edgeai.report.terminal import Line, Style
from pytest_edgeai.report.text import one_line, wrap
from pytest_edgeai.selfcheck.accuracy import PROMISED_RATIO
from pytest_edgeai.selfcheck.noise import Noise
from pytest_edgeai.selfcheck.rates import CaseResult, Rate, Tally
from pytest_edgeai.selfcheck.resolution import ASKED_RATIO, Resolution

SCHEMA = "pytest-edgeai/self-check/1"
GROUPS = {
    "speed": "speed",
    "contended": "speed under load",
    "stability": "stability",
    "accuracy": "accuracy",
    "artifacts": "all others",
}
CALLS_NS = (500_000, 5_000_000, 50_000_000)
NOISY_STEAL_RATIO = 0.02
NOISY_CPU_RATIO = 0.9
SPREAD_FACTOR = 5
"""The slowest measurement is pointed out where it takes more rounds than this times the median."""


@dataclass(frozen=True)
class SelfCheckReport:
    """One self-check.

    Attributes:
        created: ISO 8601 time in UTC.
        tool_version: version of this package.
        host: the machine.
        budget_s: seconds that were allowed.
        seconds: seconds that it took.
        results: every case, in order.
        noise: what disturbed it.
        resolution: what can be told apart; ``None`` where the same model was not measured.
        warnings: configured thresholds that cannot be resolved here.
        notes: what else the reader should know.
    """

    created: str
    tool_version: str
    host: HostFacts
    budget_s: float
    seconds: float
    results: tuple[CaseResult, ...]
    noise: Noise
    resolution: Resolution | None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def wrong(self) -> tuple[CaseResult, ...]:
        """Cases with a false verdict."""
        return tuple(result for result in self.results if result.is_wrong)

    def counts(self, group: str) -> Tally:
        """Return the counts of one group of cases."""
        return sum((r.counts for r in self.results if r.group == group), Tally())


def conclusion(report: SelfCheckReport) -> tuple[str, Style]:
    """Return the answer to "may I trust the gates here?" in a sentence."""
    if report.wrong:
        names = ", ".join(result.name for result in report.wrong)
        return f"Do not trust the gates here: false verdicts in {names}.", "fail"
    failed = [result.name for result in report.results if result.error]
    if failed:
        return f"Not known: {', '.join(failed)} could not be measured.", "fail"
    simulated = report.counts("accuracy")
    answers = sum(result.counts.answers for result in report.results)
    left_out = [r.name for r in report.results if r.not_run and r.group != "uncovered"]
    if not answers:
        return "Not known: no case was run.", "warn"
    text = f"No false verdict in {answers - simulated.answers:,} answers of gates"
    if simulated.answers:
        false = simulated.false_passes + simulated.false_fails
        text += (
            f"; {false:,} in {simulated.answers:,} simulated ones, no more than the "
            f"{PROMISED_RATIO:.0%} that are promised"
        )
    text += "."
    if left_out:
        return f"{text} Not run: {', '.join(left_out)}; give it more time.", "warn"
    measured = report.counts("speed") + report.counts("contended")
    if measured.answers and 2 * measured.undecided > measured.answers:
        return (
            f"{text} But most verdicts on speed are inconclusive: the gates are right here, and "
            "seldom know.",
            "warn",
        )
    return text, "pass"


def render_json(report: SelfCheckReport) -> str:
    """Return the report as JSON."""
    content: dict[str, JSON] = {
        "schema": SCHEMA,
        "created": report.created,
        "tool": {"name": "pytest-edgeai", "version": report.tool_version},
        "host": to_json(report.host),
        "budget_s": report.budget_s,
        "seconds": report.seconds,
        "conclusion": conclusion(report)[0],
        "cases": [{**to_json(result), "rates": _rates(result)} for result in report.results],
        "rates": {
            group: _tally_rates(report.counts(group))
            for group in GROUPS
            if report.counts(group).answers
        },
        "noise": to_json(report.noise),
        "resolution": _resolution_json(report.resolution),
        "warnings": list(report.warnings),
        "notes": list(report.notes),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _rates(result: CaseResult) -> JSON:
    return _tally_rates(result.counts) if result.counts.answers else None


def _tally_rates(counts: Tally) -> dict[str, JSON]:
    return {
        "false_pass": to_json(counts.false_pass),
        "false_fail": to_json(counts.false_fail),
        "inconclusive": to_json(counts.inconclusive),
    }


def _resolution_json(resolution: Resolution | None) -> JSON:
    if resolution is None:
        return None
    seconds = {duration_text(call): resolution.seconds(call) for call in CALLS_NS}
    return {**to_json(resolution), "seconds_for_5_percent": seconds}


def render_terminal(report: SelfCheckReport, width: int, *, ascii_only: bool) -> list[Line]:
    """Return the report in lines of at most ``width`` columns."""
    lines = [*_case_lines(report.results, width, ascii_only), Line("")]
    lines += [*_rate_lines(report, width, ascii_only), Line("")]
    lines += _accuracy_lines(report.results, width, ascii_only)
    for text, style in _sentences(report):
        clean = one_line(text, ascii_only=ascii_only)
        lines += [Line(part, style) for part in wrap(clean, width, hanging=2)]
    return lines


def _case_lines(results: Sequence[CaseResult], width: int, ascii_only: bool) -> list[Line]:
    columns = (
        Column("case", min_width=12),
        Column("false passes", right=True),
        Column("false fails", right=True),
        Column("inconclusive", right=True),
        Column("s", right=True, rank=1),
        Column(""),
    )
    cells: list[tuple[str, ...]] = []
    styles: list[Style] = []
    for result in results:
        counts = result.counts
        said, style = _state(result)
        styles.append(style)
        ran = counts.answers > 0
        cells.append(
            (
                result.name,
                f"{counts.false_passes}/{counts.missed}" if ran else "",
                f"{counts.false_fails}/{counts.met}" if ran else "",
                f"{counts.undecided}/{counts.answers}" if ran else "",
                f"{result.seconds:.1f}" if ran else "",
                said,
            )
        )
    blocks = layout(columns, cells, width, ascii_only=ascii_only)
    title, *rest = [[Line(text) for text in block] for block in blocks]
    lines = [Line(line.text, "title") for line in title]
    for style, block in zip(styles, rest, strict=True):
        lines += [Line(line.text, style) for line in block]
    return lines


def _state(result: CaseResult) -> tuple[str, Style]:
    if result.is_wrong:
        return "FALSE", "fail"
    if result.error:
        return "error", "fail"
    if result.group == "uncovered":
        return "not covered", "warn"
    if result.not_run:
        return "not run", "warn"
    if result.is_undecided:
        return "undecided", "warn"
    return "ok", "plain"


def _rate_lines(report: SelfCheckReport, width: int, ascii_only: bool) -> list[Line]:
    columns = (
        Column("rates, 95% interval", min_width=14),
        Column("false pass", right=True),
        Column("false fail", right=True),
        Column("inconclusive", right=True),
    )
    rows = []
    for group, title in GROUPS.items():
        counts = report.counts(group)
        if counts.answers:
            rates = (counts.false_pass, counts.false_fail, counts.inconclusive)
            rows.append((title, *map(_rate_text, rates)))
    if not rows:
        return []
    blocks = layout(columns, rows, width, ascii_only=ascii_only)
    lines = [Line(text, "title") for text in blocks[0]]
    return lines + [Line(text) for block in blocks[1:] for text in block]


def _accuracy_lines(results: Sequence[CaseResult], width: int, ascii_only: bool) -> list[Line]:
    """Return how often a loss of accuracy was judged rightly, by the number of samples."""
    table = next((r.details["samples"] for r in results if "samples" in r.details), None)
    if table is None:
        return []
    losses = list(next(iter(table.values())))
    columns = [Column("accuracy: judged rightly at a loss of", min_width=14)]
    columns += [Column(f"{float(loss):.0%}", right=True) for loss in losses]
    rows = [
        (f"{int(samples):,} samples", *(_right_text(cells[loss]) for loss in losses))
        for samples, cells in table.items()
    ]
    blocks = layout(columns, rows, width, ascii_only=ascii_only)
    lines = [Line(text, "title") for text in blocks[0]]
    return [*lines, *(Line(text) for block in blocks[1:] for text in block), Line("")]


def _right_text(counts: dict[str, JSON]) -> str:
    answers = counts["met"] + counts["missed"]
    wrong = counts["false_passes"] + counts["false_fails"]
    return f"{(answers - counts['undecided'] - wrong) / answers:.0%}"


def _rate_text(rate: Rate) -> str:
    if not rate.trials:
        return "not asked"
    share = rate.count / rate.trials
    return f"{100 * share:.1f}% [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def _sentences(report: SelfCheckReport) -> Iterator[tuple[str, Style]]:
    for result in report.results:
        for falsehood in result.falsehoods[:3]:
            yield f"FALSE {result.name}: {falsehood}", "fail"
        if result.error:
            yield f"error {result.name}: {result.error}", "fail"
        elif result.group == "uncovered":
            yield f"not covered: a model that {result.truth} ({result.not_run})", "warn"
        elif result.not_run:
            yield f"not run: {result.name} ({result.not_run})", "warn"
    yield from _noise_sentences(report.noise)
    yield from _budget_sentences(report.resolution)
    for warning in report.warnings:
        yield f"WARNING: {warning}", "warn"
    for note in report.notes:
        yield note, "plain"
    yield conclusion(report)


def _noise_sentences(noise: Noise) -> Iterator[tuple[str, Style]]:
    if not noise.measurements and noise.steal_ratio is None:
        return
    parts = []
    unknown = "not stated by this system"
    steal = unknown if noise.steal_ratio is None else f"{noise.steal_ratio:.1%}"
    parts.append(f"stolen by the hypervisor {steal}")
    if noise.busy_ratio is not None:
        parts.append(f"cores busy {noise.busy_ratio:.0%}")
    if noise.cpu_wall_ratio is not None:
        parts.append(f"CPU time {noise.cpu_wall_ratio:.0%} of wall time")
    if noise.measurements:
        parts.append(f"{noise.contended} of {noise.measurements} measurements contended")
    frequency = unknown
    if noise.frequency_mhz is not None:
        frequency = f"{noise.frequency_mhz[0]:.0f} to {noise.frequency_mhz[1]:.0f} MHz"
    parts.append(f"frequency {frequency}")
    noisy = (
        (noise.steal_ratio or 0.0) > NOISY_STEAL_RATIO
        or (noise.cpu_wall_ratio or 1.0) < NOISY_CPU_RATIO
        or noise.contended > 0
    )
    yield f"Noise: {', '.join(parts)}.", "warn" if noisy else "plain"


def _budget_sentences(resolution: Resolution | None) -> Iterator[tuple[str, Style]]:
    if resolution is None:
        yield "Resolution: not measured.", "warn"
        return
    read = f"{resolution.lowest:.3f}x to {resolution.highest:.3f}x"
    yield (
        f"Resolution: {resolution.ratio:.1%} (the same model twice read as {read} in "
        f"{count_text(resolution.trials, 'measurement')}; 3% is the least that is claimed).",
        "plain",
    )
    if resolution.rounds is None:
        yield f"Budget for {ASKED_RATIO:.0%}: no practical number of rounds told it here.", "warn"
        return
    budgets = ", ".join(
        f"{resolution.seconds(call):.0f} s for a call of {duration_text(call)}" for call in CALLS_NS
    )
    yield (
        f"Budget for {ASKED_RATIO:.0%}: {resolution.rounds:,} rounds at the median: {budgets}.",
        "plain",
    )
    most = resolution.most_rounds
    if most is None or most > SPREAD_FACTOR * resolution.rounds:
        worst = "no practical number of rounds" if most is None else f"about {most:,} rounds"
        yield (
            f"The slowest measurement would take {worst}: quiet the machine, or judge "
            "single-threaded models by CPU time (--edge-clock=cpu-led).",
            "warn",
        )
