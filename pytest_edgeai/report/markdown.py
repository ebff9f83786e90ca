"""The Markdown report for a pull request, in GitHub's dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pytest_edgeai.judge.verdict import worst_by_gate
from pytest_edgeai.records import Outcome
from pytest_edgeai.report.content import CandidateReport, ModelReport, Report
from pytest_edgeai.report.profile_text import bottleneck_sentence, profile_rows
from pytest_edgeai.report.proposal import proposal
from pytest_edgeai.report.quantities import NOTHING, verdict_estimate, verdict_threshold
from pytest_edgeai.report.ranking import (
    gates_not_run,
    may_be_promoted,
    recommended,
)
from pytest_edgeai.report.terminal import score_title, stage_cells, stage_groups
from pytest_edgeai.report.text import one_line
from pytest_edgeai.report.wording import (
    NOT_RUN,
    candidate_name,
    decision,
    headline,
    host_sentence,
    interval_title,
    making_sentence,
    remarks,
    target_sentence,
    tool_versions,
    top_advice,
    uniform,
)

_MARKS: dict[Outcome, str] = {
    "pass": "✅ pass",
    "fail": "❌ fail",
    "error": "❌ error",
    "inconclusive": "⚠️ inconclusive",
    "proxy": "⚠️ proxy",
    "not_applicable": "➖ not applicable",
}
_NOT_RUN_MARK = f"⚠️ {NOT_RUN}"

# Every character that can start or end a construct of GitHub Flavored Markdown inside a line, where
# the line never starts with the text. As entities they are only text:
# https://github.github.com/gfm/#entity-and-numeric-character-references
_SPECIAL = re.compile(r"[&<|`*\\~$]|\](?=[(\[])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def escape(text: str) -> str:
    """Return ``text`` as one line that Markdown shows as it is inside a paragraph or a cell."""
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", one_line(text))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(titles: Sequence[str], right: Sequence[bool], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose cells are Markdown already."""
    ruler = ["---:" if is_right else "---" for is_right in right]
    return "\n".join(_row(row) for row in (titles, ruler, *rows))


def _details(summary: str, blocks: Sequence[str]) -> str:
    """Return folded text; the blank lines make GitHub read Markdown inside."""
    inner = "\n\n".join(blocks)
    return f"<details>\n<summary>{summary}</summary>\n\n{inner}\n\n</details>"


def render_markdown(report: Report, pictures: Sequence[tuple[str, str, str]] = ()) -> str:
    """Return the report as GitHub Flavored Markdown.

    Args:
        report: the finished session.
        pictures: title, address and caption of plots that the text shows.

    The decision comes first, then a table per candidate; what only some readers want is folded.
    Text from outside is escaped, so that it cannot end a cell, a table or a fold.
    """
    blocks = [_headline(report), *_decisions(report)]
    for title, address, caption in pictures:
        blocks.append(f"![{escape(title)}](<{address}>)")
        blocks += [escape(caption)] if caption else []
    for model in report.models:
        blocks += _model(model)
    blocks += [f"> ⚠️ {escape(note)}" for note in report.notes]
    blocks.append(_details("How this was measured", [_session(report)]))
    return "\n\n".join(blocks) + "\n"


def _headline(report: Report) -> str:
    words = headline(report)
    mark = {"Ship": "✅", "Do not ship": "❌"}.get(words, "⚠️")
    return f"## {mark} {words}"


def _decisions(report: Report) -> Iterator[str]:
    lines = []
    for model in report.models:
        best = recommended(model.candidates, model.weights)
        choice = sum(map(may_be_promoted, model.candidates)) > 1
        for candidate in model.candidates:
            made = decision(model, candidate)
            verb, _, rest = made.sentence.partition(": ")
            told = ", **recommended**" if choice and candidate is best else ""
            line = f"- {'✅' if made.ship else '❌'} **{verb}**: {escape(rest)}{told}"
            if not made.ship and (advice := top_advice(candidate)):
                line += f"<br>_Top advice:_ {escape(advice)}"
            lines.append(line)
        if not model.candidates:
            problem = model.problem or "no candidate was planned"
            text = f"{escape(model.name)} was not gated: {escape(problem)}"
            lines.append(f"- ❌ **DO NOT SHIP**: {text}")
    if lines:
        yield "\n".join(lines)


def _model(model: ModelReport) -> Iterator[str]:
    for candidate in model.candidates:
        yield f"### {escape(candidate_name(model, candidate))}"
        if candidate.verdicts or candidate.required_gates:
            yield _gates(candidate)
        yield from _proposal(candidate)
        yield from _remarks(candidate)
    if model.candidates and model.problem:
        yield f"> ❌ {escape(model.name)}: {escape(model.problem)}"
    stages = _stages(model)
    if stages:
        summary = f"{escape(model.name)}: where the gain comes from"
        yield _details(summary, [stages])


def _proposal(candidate: CandidateReport) -> Iterator[str]:
    """Yield the manifest lines to try, as a block that GitHub offers to copy."""
    proposed = proposal(candidate)
    if proposed is None:
        return
    lines = [one_line(line) for line in proposed.lines]
    # A fence ends at a line of as many backticks.
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    sentence = escape(proposed.sentence)
    yield "\n".join([sentence[:1].upper() + sentence[1:], "", f"{fence}toml", *lines, fence])
    if proposed.note:
        yield f"> {escape(proposed.note)}"


def _gates(candidate: CandidateReport) -> str:
    verdicts = worst_by_gate(candidate.verdicts)
    titles = ("gate", "observed", interval_title(verdicts.values()), "threshold", "verdict")
    right = (False, True, False, False, False)
    same = uniform(candidate)
    if same is not None:
        title, outcome = same
        mark = _MARKS[outcome] if outcome else _NOT_RUN_MARK
        return _table(titles, right, [[title, NOTHING, "", "", mark]])
    rows = []
    for gate, verdict in verdicts.items():
        observed, interval = verdict_estimate(verdict)
        threshold = verdict_threshold(verdict)
        if threshold and verdict.threshold_origin != "default":
            threshold += f" ({verdict.threshold_origin})"
        cells = [escape(cell) for cell in (gate, observed, interval, threshold)]
        rows.append([*cells, _MARKS[verdict.outcome]])
    rows += [[escape(g), NOTHING, "", "", _NOT_RUN_MARK] for g in gates_not_run(candidate)]
    return _table(titles, right, rows)


def _remarks(candidate: CandidateReport) -> Iterator[str]:
    lines = []
    for remark in remarks(candidate):
        parts = [f"- **{escape(remark.title)}**, {_MARKS[remark.outcome]}: {escape(remark.reason)}"]
        if remark.advice:
            parts.append(f"_What to do:_ {escape(remark.advice)}")
        if remark.known_failure:
            parts.append(f"_Known failure:_ {escape(remark.known_failure)}")
        lines.append("<br>".join(parts))
    if how := making_sentence(candidate):
        lines.append(f"- {escape(how)}")
    if limit := bottleneck_sentence(candidate):
        lines.append(f"- **profile**, {escape(limit)}")
    if lines:
        yield "\n".join(lines)
    if candidate.profile is not None:
        rows = [[escape(cell) for cell in row] for row in profile_rows(candidate.profile)]
        titles = ("per call", "baseline", "candidate")
        summary = f"{escape(candidate.id)}: what a call does with its time"
        yield _details(summary, [_table(titles, (False, True, True), rows)])


def _stages(model: ModelReport) -> str:
    named = [
        (candidate.id if candidate else "", stage, baseline)
        for candidate, baseline, stages in stage_groups(model)
        for stage in stages
    ]
    if not named:
        return ""
    rows = [
        [escape(cell) for cell in (name, stage.name, *stage_cells(stage, baseline))]
        for name, stage, baseline in named
    ]
    score = escape(score_title([stage for _, stage, _ in named]))
    titles = (
        "candidate",
        "stage",
        "latency p50",
        "vs baseline",
        "threads",
        "size",
        score,
        "memory",
        "steady",
    )
    return _table(titles, (False, False, *(len(titles) - 2) * (True,)), rows)


def _session(report: Report) -> str:
    lines = []
    for index, host in enumerate(report.hosts):
        if index == 0 or host.facts != report.hosts[index - 1].facts:
            lines.append(f"- Host: {escape(host_sentence(host))}")
        mark = "⚠️ " if host.proxy else ""
        lines.append(f"- {mark}{escape(target_sentence(host)).replace('target', 'Target', 1)}")
    versions = tool_versions(report)
    tools = ", ".join(f"{t} {' and '.join(sorted(v))}" for t, v in versions.items())
    lines.append(f"- Tools: {escape(tools)}")
    if report.command:
        lines.append(f"- Command: {escape(' '.join(report.command))}")
    lines += [
        f"- Setting: {escape(name)} = {escape(value)} ({escape(origin)})"
        for name, (value, origin) in report.settings.items()
    ]
    lines.append(f"- Time: {escape(report.created)}")
    lines.append(f"- Evidence: {escape(report.evidence_directory.as_posix())}")
    lines.append(f"- Evidence SHA-256: {escape(report.evidence_sha256)}")
    return "\n".join(lines)
