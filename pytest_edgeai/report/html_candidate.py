"""One candidate on the page: its gates, why, how it was timed, what limits it, what to change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pytest_edgeai.advice_records import Advice, FixAttempt
from pytest_edgeai.judge.verdict import worst_by_gate
from pytest_edgeai.records import Outcome, Stage, Verdict
from pytest_edgeai.report.bars import bar_of
from pytest_edgeai.report.content import CandidateReport, ModelReport
from pytest_edgeai.report.html_parts import (
    Column,
    badge,
    bullets,
    code_block,
    facts,
    figure,
    folded,
    mark,
    picture,
    table,
    verdict_picture,
)
from pytest_edgeai.report.markup import Child, Markup, element, join
from pytest_edgeai.report.page_content import CandidateFiles, Link, quantile_rows
from pytest_edgeai.report.plots_latency import latency_plot
from pytest_edgeai.report.plots_stages import stages_plot
from pytest_edgeai.report.proposal import proposal
from pytest_edgeai.report.quantities import (
    NOTHING,
    format_quantity,
    verdict_estimate,
    verdict_threshold,
)
from pytest_edgeai.report.ranking import gates_not_run, may_be_promoted
from pytest_edgeai.report.terminal import score_title, stage_cells
from pytest_edgeai.report.wording import (
    NOT_RUN,
    OUTCOME_WORDS,
    interval_title,
    making_sentence,
    remarks,
    uniform,
)

MOST_PARTS = 12
"""Classes or slices of one division that are shown at once; the rest is folded."""

_DECISIONS: Mapping[str, Outcome] = {"pass": "pass", "fail": "fail"}


def gates_section(candidate: CandidateReport) -> Markup | None:
    """Return the table of the gates; nothing where none was required or ran."""
    verdicts = worst_by_gate(candidate.verdicts)
    missing = gates_not_run(candidate)
    if not verdicts and not missing:
        return None
    columns = (
        Column("gate", "code"),
        Column("observed", "number"),
        Column(interval_title(verdicts.values()), "number"),
        Column("against its threshold", "picture"),
        Column("threshold"),
        Column("verdict", "outcome"),
    )
    same = uniform(candidate)
    rows: list[list[Child]]
    if same is not None:
        title, outcome = same
        rows = [[title, NOTHING, None, None, None, badge(outcome) if outcome else _not_run()]]
    else:
        rows = [list(_gate_row(gate, verdict)) for gate, verdict in verdicts.items()]
        rows += [[gate, NOTHING, None, None, None, _not_run()] for gate in missing]
    return join((table(columns, rows, label="Gates"), _reasons(candidate)))


def _not_run() -> Markup:
    return mark(NOT_RUN, "?", "doubt")


def _gate_row(gate: str, verdict: Verdict) -> Iterator[Child]:
    observed, interval = verdict_estimate(verdict)
    threshold = verdict_threshold(verdict)
    if threshold and verdict.threshold_origin != "default":
        threshold += f" ({verdict.threshold_origin})"
    yield gate
    yield observed
    yield interval
    yield verdict_picture(verdict)
    yield threshold
    yield badge(verdict.outcome)


def _reasons(candidate: CandidateReport) -> Markup | None:
    items = []
    for remark in remarks(candidate):
        known = f" Known failure: {remark.known_failure}" if remark.known_failure else ""
        items.append(
            join(
                (
                    element("strong", remark.title),
                    f": {OUTCOME_WORDS[remark.outcome]}. {remark.reason}{known}",
                    element("p", f"What to do: {remark.advice}") if remark.advice else None,
                )
            )
        )
    return bullets(items)


def passed_reasons(candidate: CandidateReport) -> Markup | None:
    """Return why each gate passed, folded; nothing where none did."""
    items = [
        join((element("strong", gate), f": {verdict.reason}"))
        for gate, verdict in worst_by_gate(candidate.verdicts).items()
        if verdict.outcome == "pass" and verdict.reason
    ]
    found = bullets(items)
    return folded("Why the other gates passed", found) if found else None


def advice_section(advice: Iterable[Advice]) -> Markup | None:
    """Return what to change, the most promising first; nothing without advice."""
    items = [
        join(
            (
                element("strong", found.remedy),
                element("p", "; ".join(filter(None, (found.symptom, found.cause)))),
                code_block(found.manifest_lines, f"edgeai.toml for {found.rule}"),
                element("p", f"Rule {found.rule}.", class_="muted"),
            )
        )
        for found in advice
    ]
    return (
        element("ol", *(element("li", item) for item in items), class_="advice") if items else None
    )


def fixes_section(candidate: CandidateReport) -> Markup | None:
    """Return what the applied remedies changed; nothing where none was applied."""
    fixes = candidate.fixes
    if not fixes:
        return None
    columns = (
        Column("remedy", "code"),
        Column("changed", "code"),
        Column("gates, before → with it"),
        Column("kept", "outcome"),
        Column("time", "number"),
    )
    rows = [
        (
            fix.rule,
            "; ".join(fix.applied),
            fix.problem or ", ".join(_change(gate, fix) for gate in fix.after),
            mark("kept", "✓", "good") if fix.kept else mark("taken back", "–", "muted"),
            f"{fix.seconds:.0f} s",
        )
        for fix in fixes
    ]
    notes = dict.fromkeys(fix.note for fix in fixes if fix.note)
    parts = [table(columns, rows, label="Remedies that were applied"), bullets(notes)]
    proposed = proposal(candidate) if any(fix.kept for fix in fixes) else None
    if proposed is not None:
        sentence = proposed.sentence[:1].upper() + proposed.sentence[1:]
        parts += [element("p", sentence), code_block(proposed.lines, "Lines that were kept")]
    return join(parts)


def _change(gate: str, fix: FixAttempt) -> str:
    before, after = fix.before.get(gate, (None, None, None))[0], fix.after[gate][0]
    shown = [NOTHING if value is None else f"{value:.4g}" for value in (before, after)]
    outcome = fix.outcome_after.get(gate, "")
    return f"{gate} {shown[0]} → {shown[1]}{f' ({outcome})' if outcome else ''}"


def latency_figure(key: str, files: CandidateFiles) -> Markup | None:
    """Return both latency distributions; nothing where they were not timed."""
    if files.latencies is None:
        return None
    columns = (Column(""), Column("baseline", "number"), Column("candidate", "number"))
    return figure(
        latency_plot(key, files.latencies),
        "Latency of both models, called in turns",
        table(
            columns,
            quantile_rows(files.latencies),
            label="Latency of both models",
            layout="stays",
        ),
    )


def own_stages(model: ModelReport, candidate: CandidateReport) -> tuple[Stage, ...]:
    """Return the stages of a candidate, its baseline first where one was measured."""
    if not candidate.stages or any(stage.name == "baseline" for stage in candidate.stages):
        return candidate.stages
    return (*filter(None, (model.baseline_stage,)), *candidate.stages)


def validation_text(candidate: CandidateReport) -> str:
    """Return what the gates said, in a few words."""
    worst = worst_by_gate(candidate.verdicts)
    gates = dict.fromkeys((*candidate.required_gates, *worst))
    good = sum(gate in worst and worst[gate].outcome == "pass" for gate in gates)
    idle = sum(gate in worst and worst[gate].outcome == "not_applicable" for gate in gates)
    beside = f", {idle} not applicable" if idle else ""
    return f"{good} of {len(gates) - idle} gates pass{beside}"


def stages_figure(
    key: str, model: ModelReport, candidate: CandidateReport, *, drawn: bool
) -> Markup | None:
    """Return the stages as a waterfall with all their metrics; nothing where none was measured."""
    stages = own_stages(model, candidate)
    if not stages:
        return None
    baseline = next((stage for stage in stages if stage.name == "baseline"), None)
    columns = (
        Column("stage"),
        Column("latency p50", "number"),
        Column("vs baseline", "number"),
        Column("threads", "number"),
        Column("size", "number"),
        Column(score_title(stages), "number"),
        Column("memory", "number"),
        Column("steady", "number"),
    )
    rows = [[stage.name, *stage_cells(stage, baseline)] for stage in stages]
    worst = worst_by_gate(candidate.verdicts)
    shown = {
        gate: verdict_estimate(worst[gate])[0] if gate in worst else NOTHING
        for gate in ("speedup", "artifact_size", "accuracy_retained", "memory_cut")
    }
    rows.append(
        [
            "validation",
            NOTHING,
            shown["speedup"],
            NOTHING,
            shown["artifact_size"],
            f"{shown['accuracy_retained']} retained",
            f"{shown['memory_cut']} saved",
            NOTHING,
        ]
    )
    data = table(columns, rows, label="Stages", layout="scrolls")
    text = validation_text(candidate)
    plot = stages_plot(key, stages, text, ships=may_be_promoted(candidate)) if drawn else None
    caption = "From the baseline to what ships"
    if plot is None:
        return folded(f"{caption}: the stages", data)
    return figure(plot, caption, data)


def retention_section(candidate: CandidateReport) -> Markup | None:
    """Return what each class and slice retains, the worst first; nothing where none was judged."""
    verdict = worst_by_gate(candidate.verdicts).get("slice_retained")
    divisions = verdict.details.get("divisions") if verdict else None
    if verdict is None or not isinstance(divisions, Mapping):
        return None
    parts = []
    for division, found in divisions.items():
        if isinstance(found, Mapping) and found:
            parts.append(element("h5", str(division)))
            parts.append(_division(str(division), found, verdict))
    return join(parts) if parts else None


def _division(division: str, found: Mapping[str, Any], verdict: Verdict) -> Markup:
    parts = [(name, part) for name, part in found.items() if isinstance(part, Mapping)]
    parts.sort(key=lambda item: _retained(item[1], math.inf))
    limit = verdict.threshold or 0.0
    reach = max(abs(_retained(part, limit) - limit) for _, part in parts) if parts else 0.0
    rows = [[name, *_part(part, verdict, reach)] for name, part in parts]
    columns = (
        Column(division, "code"),
        Column("retained", "number"),
        Column("against the threshold", "picture"),
        Column("samples", "number"),
        Column("baseline", "number"),
        Column("candidate", "number"),
    )
    label = f"What each of {division} retains"
    first = table(columns, rows[:MOST_PARTS], label=label, layout="scrolls")
    if len(rows) <= MOST_PARTS:
        return first
    rest = table(columns, rows[MOST_PARTS:], label=f"{label}, the others", layout="scrolls")
    return join((first, folded(f"The other {len(rows) - MOST_PARTS}, which retain more", rest)))


def _retained(part: Mapping[str, Any], unknown: float) -> float:
    value = part.get("retained")
    return unknown if value is None else float(value)


def _part(part: Mapping[str, Any], verdict: Verdict, reach: float) -> Iterator[Child]:
    retained = part.get("retained")
    yield format_quantity(retained, "share")
    outcome = _DECISIONS.get(str(part.get("decision")), "inconclusive")
    yield picture(bar_of(retained, None, verdict.threshold, verdict.relation, reach), outcome)
    yield f"{part.get('samples', 0):,}"
    for side in ("baseline", "candidate"):
        value = part.get(side)
        yield NOTHING if value is None else f"{value:.4g}"


def making_section(candidate: CandidateReport) -> Markup:
    """Return how the candidate was made."""
    recipe, made = candidate.recipe, candidate.artifact
    options = ", ".join(f"{key} = {value}" for key, value in recipe.options.items())
    pairs: list[tuple[str, Child]] = [
        ("target", candidate.target),
        ("recipe", f"{recipe.framework}, {recipe.scheme}"),
        ("options", options),
        ("why this recipe", recipe.reason),
    ]
    if made is not None:
        pairs += [
            ("size", format_quantity(made.size_bytes, "bytes")),
            ("precision", made.claimed_precision),
            ("made in", f"{made.seconds:.1f} s{', from the cache' if made.from_cache else ''}"),
            ("tools", ", ".join(f"{tool} {version}" for tool, version in made.versions.items())),
            ("SHA-256", element("code", made.sha256)),
            ("framework said", making_sentence(candidate).removeprefix("made: ")),
        ]
    return facts(pairs)


def links_list(links: Iterable[Link]) -> Markup | None:
    """Return links to the evidence; nothing without any."""
    made = [element("a", link.title, href=link.href) for link in links]
    return element("p", join(made, " · "), class_="links") if made else None
