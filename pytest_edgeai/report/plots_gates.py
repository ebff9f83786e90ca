"""The gates of one candidate as a picture of its own, for a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pytest_edgeai.judge.verdict import worst_by_gate
from pytest_edgeai.records import Outcome, Verdict
from pytest_edgeai.report.bars import THRESHOLD_AT, verdict_bar
from pytest_edgeai.report.content import CandidateReport
from pytest_edgeai.report.plots import STAND_INS, Plot, add_axes, drawing, finish, new_figure
from pytest_edgeai.report.quantities import verdict_estimate, verdict_threshold
from pytest_edgeai.report.ranking import gates_not_run
from pytest_edgeai.report.text import ellipsize, one_line
from pytest_edgeai.report.wording import NOT_RUN, OUTCOME_WORDS

MARKERS: dict[Outcome, str] = {
    "pass": "o",
    "fail": "X",
    "error": "X",
    "inconclusive": "s",
    "proxy": "s",
    "not_applicable": "_",
}
OUTCOME_ROLES: dict[Outcome, str] = {
    "pass": "good",
    "fail": "bad",
    "error": "bad",
    "inconclusive": "doubt",
    "proxy": "doubt",
    "not_applicable": "muted",
}
_ROW_PT = 24.0
_WIDTH_PT = 620.0
_NAME_AT, _FIGURE_AT, _BAR_AT, _LIMIT_AT, _WORD_AT = 8.0, 250.0, 258.0, 402.0, 520.0
_BAR_PT = 136.0


def gates_plot(key: str, title: str, candidate: CandidateReport) -> Plot | None:
    """Return the gates with their intervals against their thresholds; ``None`` without a gate.

    Args:
        key: see :class:`~pytest_edgeai.report.plots.Plot`.
        title: the decision in one line.
        candidate: whose gates they are.
    """
    verdicts = list(worst_by_gate(candidate.verdicts).values())
    missing = gates_not_run(candidate)
    if not verdicts and not missing:
        return None
    description = "; ".join(_told(verdict) for verdict in verdicts)
    if missing:
        description += f"; not run: {', '.join(missing)}"
    height = _ROW_PT * (len(verdicts) + len(missing)) + 62
    with drawing():
        figure = new_figure(height, width_pt=_WIDTH_PT)
        _paint(figure, title, verdicts, missing, height)
        return finish(figure, key, title, description)


def _told(verdict: Verdict) -> str:
    estimate, bounds = verdict_estimate(verdict)
    parts = (estimate, bounds, verdict_threshold(verdict), OUTCOME_WORDS[verdict.outcome])
    return f"{verdict.gate}: {', '.join(part for part in parts if part)}"


def _paint(
    figure: Figure, title: str, verdicts: Sequence[Verdict], missing: Sequence[str], height: float
) -> None:
    axes = add_axes(figure, 0, 0, 0, 0)
    axes.set_xlim(0, _WIDTH_PT)
    axes.set_ylim(height, 0)
    _say(axes, _NAME_AT, 18, ellipsize(one_line(title), 82), fontweight="bold", fontsize=12)
    _say(
        axes,
        _NAME_AT,
        height - 12,
        "The line is the threshold, each on a scale of its own; the shaded side meets it.",
        color=STAND_INS["muted"],
        fontsize=9.5,
    )
    at = 46.0
    for verdict in verdicts:
        role = STAND_INS[OUTCOME_ROLES[verdict.outcome]]
        _say(axes, _NAME_AT, at, ellipsize(one_line(verdict.gate), 26))
        _say(axes, _FIGURE_AT, at, verdict_estimate(verdict)[0], ha="right")
        _bar(axes, verdict, at, role)
        _say(axes, _LIMIT_AT, at, ellipsize(verdict_threshold(verdict), 17))
        _say(axes, _WORD_AT, at, OUTCOME_WORDS[verdict.outcome], color=role, fontweight="bold")
        at += _ROW_PT
    for gate in missing:
        _say(axes, _NAME_AT, at, ellipsize(one_line(gate), 26))
        _say(axes, _WORD_AT, at, NOT_RUN, color=STAND_INS["doubt"], fontweight="bold")
        at += _ROW_PT


def _say(axes: Axes, x: float, y: float, text: str, **look: object) -> None:
    axes.text(x, y, text, va="center", parse_math=False, **look)  # type: ignore[arg-type]


def _bar(axes: Axes, verdict: Verdict, y: float, color: str) -> None:
    bar = verdict_bar(verdict)
    if bar is None:
        return
    middle = _BAR_AT + THRESHOLD_AT * _BAR_PT
    axes.fill_between([middle, _BAR_AT + _BAR_PT], y - 9, y + 9, color=STAND_INS["shade"],
                      linewidth=0)  # fmt: skip
    if bar.has_interval:
        ends = [_BAR_AT + _BAR_PT * (0.0 if bar.low is None else bar.low),
                _BAR_AT + _BAR_PT * (1.0 if bar.high is None else bar.high)]  # fmt: skip
        axes.plot(ends, [y, y], color=color, linewidth=2)
        for end, known in zip(ends, (bar.low, bar.high), strict=True):
            if known is not None:
                axes.plot([end, end], [y - 5, y + 5], color=color, linewidth=2)
    axes.plot([middle, middle], [y - 10, y + 10], color=STAND_INS["ink"], linewidth=1.2)
    if bar.observed is not None:
        place = _BAR_AT + _BAR_PT * bar.observed
        axes.plot([place], [y], marker=MARKERS[verdict.outcome], markersize=7, color=color,
                  markeredgewidth=0.5, linestyle="none")  # fmt: skip
