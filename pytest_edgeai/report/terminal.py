"""The report at the end of a pytest run, as lines that carry their meaning in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from pytest_edgeai.judge.verdict import worst_by_gate
from pytest_edgeai.records import Outcome, Stage, Verdict
from pytest_edgeai.report.content import CandidateReport, ModelReport, Report
from pytest_edgeai.report.profile_text import bottleneck_sentence
from pytest_edgeai.report.proposal import proposal
from pytest_edgeai.report.quantities import (
    NOTHING,
    format_quantity,
    verdict_estimate,
    verdict_threshold,
)
from pytest_edgeai.report.ranking import gates_not_run
from pytest_edgeai.report.tables import Column, layout
from pytest_edgeai.report.text import display_width, one_line, wrap
from pytest_edgeai.report.wording import (
    NOT_RUN,
    OUTCOME_WORDS,
    decision,
    host_sentence,
    interval_title,
    making_sentence,
    remarks,
    target_sentence,
    top_advice,
    uniform,
)

Style: TypeAlias = Literal["pass", "fail", "warn", "title", "plain"]

MIN_WIDTH = 40
"""Narrower terminals get lines of this width."""

_ROW_STYLES: dict[Outcome, Style] = {
    "pass": "plain",
    "not_applicable": "plain",
    "proxy": "warn",
    "inconclusive": "warn",
    "fail": "fail",
    "error": "fail",
}


@dataclass(frozen=True)
class Line:
    """One line of the terminal.

    Attributes:
        text: printable characters without a line end.
        style: what the line says, for the colors; the words say it too. Rows of a table are
            ``plain`` where all is well.
    """

    text: str
    style: Style = "plain"


@dataclass(frozen=True)
class _Page:
    """How wide and in which characters to write."""

    width: int
    ascii_only: bool

    def clean(self, text: str) -> str:
        return one_line(text, ascii_only=self.ascii_only)

    def prose(
        self, text: str, style: Style = "plain", *, indent: int = 0, hanging: int = 0
    ) -> Iterator[Line]:
        for line in wrap(self.clean(text), self.width - indent, hanging=hanging):
            yield Line(" " * indent + line, style)

    def table(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str]],
        styles: Sequence[Style],
        *,
        indent: int = 2,
    ) -> list[list[Line]]:
        blocks = layout(
            [replace(column, title=self.clean(column.title)) for column in columns],
            [[self.clean(cell) for cell in row] for row in rows],
            self.width,
            indent=indent,
            ascii_only=self.ascii_only,
        )
        return [
            [Line(text, style) for text in block]
            for block, style in zip(blocks, ("plain", *styles), strict=True)
        ]


def render_terminal(report: Report, width: int, *, ascii_only: bool = False) -> list[Line]:
    """Return the report for a terminal of ``width`` columns.

    Args:
        report: the finished session.
        width: columns that no line exceeds; fewer than ``MIN_WIDTH`` count as ``MIN_WIDTH``.
        ascii_only: write only ASCII, for a stream that cannot encode ``×`` or ``≥``.
    """
    page = _Page(max(width, MIN_WIDTH), ascii_only)
    lines: list[Line] = []
    for index, host in enumerate(report.hosts):
        if index == 0 or host.facts != report.hosts[index - 1].facts:
            lines += page.prose(f"measured on {host_sentence(host)}", hanging=2)
        style: Style = "warn" if host.proxy else "plain"
        lines += page.prose(target_sentence(host), style, indent=2, hanging=2)
    for model in report.models:
        lines += [Line(""), *_model(page, model)]
    decisions = list(_decisions(page, report))
    if decisions:
        lines += [Line(""), *decisions]
    if report.notes:
        lines.append(Line(""))
        for note in report.notes:
            lines += page.prose(f"note: {note}", "warn", hanging=2)
    lines += [Line(""), *page.prose(f"evidence: {report.evidence_directory}", hanging=2)]
    return lines


def _model(page: _Page, model: ModelReport) -> Iterator[Line]:
    heading = model.name
    # Without a task, the tables of the model could not be read: its path is not known either.
    if model.task:
        heading += f": {model.task}, baseline {model.baseline_path.as_posix()}"
        own = (_baseline_of(candidate) for candidate in model.candidates)
        names = [model.baseline_framework, *(stage.framework for stage in own if stage)]
        if frameworks := ", ".join(filter(None, dict.fromkeys(names))):
            heading += f" in {frameworks}"
        if model.baseline_precision:
            heading += f" ({model.baseline_precision})"
    yield from page.prose(heading, "title", hanging=2)
    if model.problem:
        yield from page.prose(model.problem, "fail", indent=2, hanging=2)
    yield from _gates(page, model)
    yield from _stages(page, model)


def _heading(model: ModelReport, candidate: CandidateReport) -> str:
    targets = {c.target for c in model.candidates}
    return f"{candidate.id} for {candidate.target}" if len(targets) > 1 else candidate.id


def _gates(page: _Page, model: ModelReport) -> Iterator[Line]:
    """One table for all candidates, so that the same gate is found in the same place."""
    verdicts = [v for c in model.candidates for v in worst_by_gate(c.verdicts).values()]
    if not verdicts:
        return
    origins = list(dict.fromkeys(_origin(v) for v in verdicts if _origin(v)))
    columns = (
        Column("gate", min_width=14),
        Column("observed", right=True, min_width=8),
        Column(interval_title(verdicts), min_width=14, rank=2),
        Column("threshold", rank=1),
        Column("verdict", min_width=10),
    )
    groups = [_gate_rows(page, candidate, ()) for candidate in model.candidates]
    natural = sum(
        max(display_width(page.clean(text)) for text in (column.title, *cells))
        for column, *cells in zip(
            columns, *(row for rows, _ in groups for row in rows), strict=True
        )
    )
    # Where the origins make the table too wide they move below it: figures keep to one line.
    marks = bool(origins) and natural + 4 + 2 * (len(columns) - 1) > page.width
    if marks:
        groups = [_gate_rows(page, candidate, origins) for candidate in model.candidates]
    every_row = [row for rows, _ in groups for row in rows]
    every_style = [style for _, styles in groups for style in styles]
    blocks = iter(page.table(columns, every_row, every_style, indent=4))
    yield Line("")
    yield from next(blocks)
    for candidate, (rows, _) in zip(model.candidates, groups, strict=True):
        yield from page.prose(_heading(model, candidate), "title", indent=2, hanging=2)
        for _ in rows:
            yield from next(blocks)
    if marks:
        told = ", ".join(f"[{i + 1}] set by {origin}" for i, origin in enumerate(origins))
        yield from page.prose(told, indent=4)


def _gate_rows(
    page: _Page, candidate: CandidateReport, marked: Sequence[str]
) -> tuple[list[list[str]], list[Style]]:
    """Return the rows of one candidate with their styles.

    Args:
        page: where they are written.
        candidate: whose gates they are.
        marked: the origins of thresholds that are told by their number below the table.
    """
    verdicts = worst_by_gate(candidate.verdicts)
    missing = gates_not_run(candidate)
    same = uniform(candidate)
    if same is not None:
        title, outcome = same
        word = OUTCOME_WORDS[outcome] if outcome else NOT_RUN
        return [[title, NOTHING, "", "", word]], [_ROW_STYLES[outcome] if outcome else "warn"]
    rows = []
    for gate, verdict in verdicts.items():
        threshold = verdict_threshold(verdict, ascii_only=page.ascii_only)
        if origin := _origin(verdict):
            threshold += f" [{marked.index(origin) + 1}]" if marked else f" ({origin})"
        estimate = verdict_estimate(verdict, ascii_only=page.ascii_only)
        rows.append([gate, *estimate, threshold, OUTCOME_WORDS[verdict.outcome]])
    rows += [[gate, NOTHING, "", "", NOT_RUN] for gate in missing]
    styles: list[Style] = [_ROW_STYLES[verdict.outcome] for verdict in verdicts.values()]
    return rows, styles + ["warn"] * len(missing)


def _origin(verdict: Verdict) -> str:
    """Return where the threshold was set; empty for a default, and where there is none."""
    shown = bool(verdict_threshold(verdict)) and verdict.threshold_origin != "default"
    return verdict.threshold_origin if shown else ""


def stage_cells(stage: Stage, baseline: Stage | None, *, ascii_only: bool = False) -> list[str]:
    """Return p50, ratio to the baseline, threads, size, score, peak and steady memory."""
    latency = stage.latency
    ratio = None
    if baseline is not None and latency.p50_ns > 0:
        ratio = baseline.latency.p50_ns / latency.p50_ns
    return [
        format_quantity(latency.p50_ns, "ns", ascii_only=ascii_only),
        format_quantity(ratio, "times", ascii_only=ascii_only),
        str(latency.threads) if latency.threads else "auto",
        format_quantity(stage.size_bytes, "bytes"),
        NOTHING if stage.score is None else f"{stage.score:.4f}",
        format_quantity(stage.memory_bytes, "bytes"),
        format_quantity(stage.steady_bytes, "bytes"),
    ]


def stage_groups(
    model: ModelReport,
) -> list[tuple[CandidateReport | None, Stage | None, tuple[Stage, ...]]]:
    """Return the stages of a model in groups, each with the baseline that its ratios refer to.

    The stages of one candidate are timed in turns with its own baseline, and candidates of several
    frameworks can have several. Only where one candidate was measured, the baseline stands apart,
    in a group without a candidate.
    """
    measured = [candidate for candidate in model.candidates if candidate.stages]
    own = {candidate.id: _baseline_of(candidate) for candidate in measured}
    shared = model.baseline_stage
    if len(measured) == 1:
        shared = own[measured[0].id] or shared
    groups: list[tuple[CandidateReport | None, Stage | None, tuple[Stage, ...]]] = []
    if shared is not None and (len(measured) < 2 or None in own.values()):
        groups.append((None, shared, (shared,)))
    for candidate in measured:
        stages = candidate.stages
        if len(measured) == 1:
            stages = tuple(stage for stage in stages if stage.name != "baseline")
        if stages:
            groups.append((candidate, own[candidate.id] or shared, stages))
    return groups


def _baseline_of(candidate: CandidateReport) -> Stage | None:
    return next((stage for stage in candidate.stages if stage.name == "baseline"), None)


def score_title(stages: Sequence[Stage]) -> str:
    """Return the heading of the scores: the metric where all stages share one."""
    metrics = {stage.metric for stage in stages if stage.score is not None}
    return metrics.pop() if len(metrics) == 1 else "score"


def _stages(page: _Page, model: ModelReport) -> Iterator[Line]:
    groups = stage_groups(model)
    if not groups:
        return
    every = [stage for _, _, stages in groups for stage in stages]
    # Words, so that a long name is wrapped and not shortened.
    score = score_title(every).replace("_", " ")
    longest = max((display_width(word) for word in score.split()), default=0)
    columns = (
        Column("stage", min_width=11),
        Column("latency p50", right=True, min_width=8),
        Column("vs baseline", right=True, min_width=8),
        Column("threads", right=True, min_width=7, rank=3),
        Column("size", right=True, min_width=8, rank=1),
        Column(score, right=True, min_width=max(6, min(12, longest)), rank=2),
        Column("memory", right=True, min_width=8, rank=4),
        Column("steady", right=True, min_width=8, rank=5),
    )
    rows = [
        [stage.name, *stage_cells(stage, baseline, ascii_only=page.ascii_only)]
        for _, baseline, stages in groups
        for stage in stages
    ]
    blocks = iter(page.table(columns, rows, ["plain"] * len(rows), indent=4))
    yield Line("")
    yield from next(blocks)
    for candidate, _, stages in groups:
        if candidate is not None:
            yield from page.prose(_heading(model, candidate), "title", indent=2, hanging=2)
        for _ in stages:
            yield from next(blocks)


def _decisions(page: _Page, report: Report) -> Iterator[Line]:
    previous_was_long = False
    for index, (model, candidate) in enumerate((m, c) for m in report.models for c in m.candidates):
        made = decision(model, candidate)
        reasons = remarks(candidate)
        if index and (reasons or previous_was_long):
            yield Line("")
        previous_was_long = bool(reasons)
        yield from page.prose(made.sentence, "pass" if made.ship else "fail", hanging=2)
        if not made.ship and (advice := top_advice(candidate)):
            previous_was_long = True
            yield from page.prose(f"top advice: {advice}", "title", indent=2, hanging=2)
        if proposed := proposal(candidate):
            previous_was_long = True
            yield from page.prose(proposed.sentence, indent=2, hanging=2)
            for line in proposed.lines:
                yield from page.prose(line, indent=6, hanging=2)
        if limit := bottleneck_sentence(candidate):
            previous_was_long = True
            yield from page.prose(f"profile: {limit}", "plain", indent=2, hanging=2)
        for remark in reasons:
            text = f"{remark.title}: {OUTCOME_WORDS[remark.outcome]}. {remark.reason}"
            yield from page.prose(text, _ROW_STYLES[remark.outcome], indent=2, hanging=2)
            if remark.advice:
                yield from page.prose(remark.advice, indent=4)
            if remark.known_failure:
                yield from page.prose(f"Known failure: {remark.known_failure}", indent=4)
        if how := making_sentence(candidate):
            previous_was_long = True
            yield from page.prose(how, "plain", indent=2, hanging=2)
    for model in report.models:
        if not model.candidates:
            if previous_was_long:
                yield Line("")
            previous_was_long = False
            yield from page.prose(f"DO NOT SHIP: {model.name} was not gated", "fail", hanging=2)
