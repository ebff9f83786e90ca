"""One model on the page: how its candidates compare, and each of them in detail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pytest_edgeai.judge.verdict import worst_by_gate
from pytest_edgeai.report.content import CandidateReport, ModelReport
from pytest_edgeai.report.html_candidate import (
    advice_section,
    fixes_section,
    gates_section,
    latency_figure,
    links_list,
    making_section,
    passed_reasons,
    retention_section,
    stages_figure,
)
from pytest_edgeai.report.html_parts import (
    Column,
    facts,
    figure,
    folded,
    mark,
    table,
)
from pytest_edgeai.report.html_profile import energy_section, profile_section
from pytest_edgeai.report.html_search import TITLES, search_section
from pytest_edgeai.report.markup import Child, Markup, element, join
from pytest_edgeai.report.page_content import PageContent, Place, RankedModel
from pytest_edgeai.report.plots import Plot
from pytest_edgeai.report.plots_pareto import Candidate, Limit, Standing, pareto_plot
from pytest_edgeai.report.quantities import (
    NOTHING,
    format_estimate,
    format_quantity,
    verdict_estimate,
)
from pytest_edgeai.report.ranking import OBJECTIVES, figures_of, may_be_promoted
from pytest_edgeai.report.wording import candidate_name, decision

MOST_ROWS = 20
"""Candidates of one model that its table shows at once; the others are folded."""
MOST_BLOCKERS = 4


def model_anchor(model: int) -> str:
    """Return the id of a model's section."""
    return f"model-{model + 1}"


def candidate_anchor(place: Place) -> str:
    """Return the id of a candidate's section."""
    return f"model-{place[0] + 1}-candidate-{place[1] + 1}"


def pareto_of(number: int, ranked: RankedModel) -> Plot | None:
    """Return the Pareto plot of a model; ``None`` for fewer than two points of candidates."""
    model = ranked.report
    candidates = [
        Candidate(index + 1, figures_of(candidate), _standing(ranked, index))
        for index, candidate in enumerate(model.candidates)
    ]
    trials = [trial.figures for search in model.searches.values() for trial in search.trials]
    if sum("speedup" in each.figures for each in candidates) + len(trials) < 2:
        return None
    return pareto_plot(
        f"{model_anchor(number)}-pareto", candidates, _limits(model.candidates), trials
    )


def _standing(ranked: RankedModel, index: int) -> Standing:
    if index == ranked.best:
        return "recommended"
    if index in ranked.front:
        return "front"
    return "dominated" if may_be_promoted(ranked.report.candidates[index]) else "blocked"


def _limits(candidates: Sequence[CandidateReport]) -> Mapping[str, Limit]:
    """Return what the gates of the objectives ask for, where all candidates are asked the same."""
    asked: dict[str, set[Limit]] = {}
    for candidate in candidates:
        for gate, verdict in worst_by_gate(candidate.verdicts).items():
            if gate in OBJECTIVES and verdict.threshold is not None:
                asked.setdefault(gate, set()).add(Limit(verdict.threshold, verdict.relation))
    return {gate: next(iter(limits)) for gate, limits in asked.items() if len(limits) == 1}


def model_section(
    content: PageContent,
    number: int,
    ranked: RankedModel,
    detailed: frozenset[Place],
    drawn: frozenset[Place],
) -> Markup:
    """Return everything about one model.

    Args:
        content: the page.
        number: index of the model.
        ranked: the model.
        detailed: places of the candidates that are shown in detail.
        drawn: places of the candidates that have plots of their own.
    """
    model = ranked.report
    baseline = " ".join(
        part
        for part in (
            model.baseline_path.as_posix(),
            f"in {model.baseline_framework}" if model.baseline_framework else "",
            f"({model.baseline_precision})" if model.baseline_precision else "",
        )
        if part
    )
    parts: list[Child] = [
        element("h2", model.name, id=f"{model_anchor(number)}-title"),
        facts(
            (
                ("task", model.task),
                ("baseline", baseline if model.task else ""),
                ("SHA-256", element("code", model.sha256) if model.sha256 else ""),
            )
        ),
        element("p", model.problem, class_="bad") if model.problem else None,
    ]
    if len(model.candidates) > 1 or (model.candidates and model.searches):
        parts.append(_comparison(content, number, ranked, detailed))
    order = [index for index in ranked.order if (number, index) in detailed]
    for position, index in enumerate(order):
        parts.append(
            _candidate(content, number, ranked, index, (number, index) in drawn, position == 0)
        )
    parts += [search_section(target, search) for target, search in model.searches.items()]
    return element(
        "section",
        *parts,
        id=model_anchor(number),
        aria_labelledby=f"{model_anchor(number)}-title",
        class_="model",
    )


def _comparison(
    content: PageContent, number: int, ranked: RankedModel, detailed: frozenset[Place]
) -> Markup:
    model = ranked.report
    known = {gate for candidate in model.candidates for gate in figures_of(candidate)}
    shown = [gate for gate in OBJECTIVES if gate in known]
    columns = (
        Column("no.", "number"),
        Column("candidate", "code"),
        Column("decision"),
        *(Column(TITLES[gate], "number") for gate in shown),
        Column("size", "number"),
        Column("blocked by"),
    )
    rows = [_compared(number, ranked, index, shown, detailed) for index in ranked.order]
    label = f"Candidates of {model.name}"
    count = sum((number, index) in detailed for index in ranked.order)
    note = (
        "In this order: the recommended candidate, the front, what else may ship, then what the "
        "fewest gates block."
    )
    if count < len(rows):
        note += f" Details of the first {count} of {len(rows)} follow; the JSON report has all."
    rest = rows[MOST_ROWS:]
    weights = ", ".join(f"{name} {weight:g}" for name, weight in model.weights.items() if weight)
    return join(
        (
            element("h3", "Candidates compared"),
            figure(
                pareto_of(number, ranked),
                "Speed against what it costs, with intervals. One candidate is dominated by "
                f"another only where the intervals say so; weights: {weights}.",
                element("p", "The figures with their intervals stand in the table of candidates."),
                beside=True,
            ),
            table(columns, rows[:MOST_ROWS], label=label, layout="scrolls"),
            folded(
                f"The other {len(rest)}",
                table(columns, rest, label=f"{label}, the others", layout="scrolls"),
            )
            if rest
            else None,
            element("p", note, class_="muted"),
        )
    )


def _compared(
    number: int,
    ranked: RankedModel,
    index: int,
    shown: Sequence[str],
    detailed: frozenset[Place],
) -> list[Child]:
    candidate = ranked.report.candidates[index]
    name: Child = candidate_name(ranked.report, candidate).removeprefix(f"{ranked.report.name} ")
    if (number, index) in detailed:
        name = element("a", name, href=f"#{candidate_anchor((number, index))}")
    worst, figures = worst_by_gate(candidate.verdicts), figures_of(candidate)
    standing = element("span", _standing_word(ranked, index), class_="muted")
    cells: list[Child] = [str(index + 1), name, join((_shipping(candidate), standing), " ")]
    for gate in shown:
        text = NOTHING
        if gate in worst:
            text = " ".join(filter(None, verdict_estimate(worst[gate])))
        elif gate in figures:
            known = figures[gate]
            text = " ".join(format_estimate(known.observed, (known.low, known.high), "times"))
        cells.append(text)
    made = candidate.artifact
    cells.append(format_quantity(made.size_bytes if made else None, "bytes"))
    return [*cells, _blockers(candidate)]


def _blockers(candidate: CandidateReport) -> str:
    blockers = candidate.promotion_blocked_by
    more = f" and {len(blockers) - MOST_BLOCKERS} more" if len(blockers) > MOST_BLOCKERS else ""
    return f"{', '.join(blockers[:MOST_BLOCKERS])}{more}"


def _standing_word(ranked: RankedModel, index: int) -> str:
    words: dict[Standing, str] = {
        "recommended": "★ recommended",
        "front": "● on the front",
        "dominated": "○ dominated",
        "blocked": "",
    }
    return words[_standing(ranked, index)]


def _shipping(candidate: CandidateReport) -> Markup:
    if may_be_promoted(candidate):
        return mark("ship", "✓", "good")
    return mark("do not ship", "✗", "bad")


def _candidate(
    content: PageContent, number: int, ranked: RankedModel, index: int, drawn: bool, first: bool
) -> Markup:
    model = ranked.report
    candidate = model.candidates[index]
    key = candidate_anchor((number, index))
    sections = [
        element("section", element("h4", title), body)
        for title, body in _sections(content, model, candidate, key, drawn)
        if body is not None
    ]
    title = element("h3", candidate_name(model, candidate), id=f"{key}-title")
    told = " recommended" if index == ranked.best and len(model.candidates) > 1 else ""
    summary = element(
        "summary",
        title,
        _shipping(candidate),
        mark("recommended", "★", "good") if told else None,
    )
    sentence = element("p", decision(model, candidate).sentence)
    return element("details", summary, sentence, *sections, id=key, open=first, class_="candidate")


def _sections(
    content: PageContent,
    model: ModelReport,
    candidate: CandidateReport,
    key: str,
    drawn: bool,
) -> Iterator[tuple[str, Child]]:
    files = content.of(model, candidate)
    gates = gates_section(candidate)
    note = element(
        "p",
        "The line is the threshold, each on a scale of its own; what lies on the shaded side meets "
        "it. ● passes, ✗ fails, ■ is undecided.",
        class_="muted",
    )
    yield "Gates", join((gates, note, passed_reasons(candidate))) if gates else None
    advice = advice_section(candidate.advice)
    missed = any(v.outcome in ("fail", "inconclusive", "error") for v in candidate.verdicts)
    if advice is None and missed:
        advice = element(
            "p",
            "Nothing was looked into: pytest with --edge-diagnose profiles this candidate and says "
            "what to change."
            if candidate.profile is None
            else "No rule has a remedy for what was measured.",
            class_="muted",
        )
    yield "What to change", advice
    yield "Remedies that were applied", fixes_section(candidate)
    plots = [
        latency_figure(f"{key}-latency", files) if drawn else None,
        stages_figure(f"{key}-stages", model, candidate, drawn=drawn),
    ]
    shown = [plot for plot in plots if plot is not None]
    yield "Latency and stages", element("div", *shown, class_="plots") if shown else None
    if candidate.profile is not None:
        yield "What limits it", profile_section(f"{key}-roofline", candidate.profile, drawn=drawn)
    elif candidate.stages:
        yield (
            "What limits it",
            element(
                "p",
                "Not profiled: pytest with --edge-diagnose measures operators, the roofline and "
                "what the host did.",
                class_="muted",
            ),
        )
    yield "Each class and slice", retention_section(candidate)
    if candidate.energy is not None:
        yield "Energy and carbon", energy_section(candidate.energy)
    yield "How it was made", making_section(candidate)
    yield "Evidence", links_list(files.links)
