"""The manifest lines in the reports, and the JSON form of advice and fixes."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from importlib import resources

import jsonschema
import pytest
from advice_cases import CASES

from pytest_edgeai.advice_records import Advice, FixAttempt
from pytest_edgeai.judge.advice import advise
from pytest_edgeai.report.content import CandidateReport, Report
from pytest_edgeai.report.json import render_json
from pytest_edgeai.report.markdown import render_markdown
from pytest_edgeai.report.proposal import Proposal, proposal
from pytest_edgeai.report.terminal import render_terminal

LINES = ("[[models.net.recipes]]", 'framework = "onnxruntime"', 'scheme = "int8-static"')
ADVICE = Advice("rule", "it is slow", "it was measured", "change it", LINES, {"x": 1.0})
KEPT = FixAttempt(
    rule="rule",
    applied=("[settings]", "threads = 2"),
    candidate="c",
    before={"speedup": (1.0, 0.9, 1.1)},
    after={"speedup": (2.4, 2.3, None)},
    outcome_after={"speedup": "pass"},
    seconds=3.5,
    kept=True,
    note="confirm it",
)
DROPPED = replace(KEPT, applied=("[settings]", "threads = 9"), kept=False)
Change = Callable[..., tuple[Report, CandidateReport]]


@pytest.fixture
def changed(typical: Report) -> Change:
    """Change the first candidate that is blocked, and say which it is."""

    def change(**fields: object) -> tuple[Report, CandidateReport]:
        models = list(typical.models)
        for index, model in enumerate(models):
            for place, candidate in enumerate(model.candidates):
                if candidate.promotion_blocked_by and candidate.verdicts:
                    made = replace(candidate, **fields)  # type: ignore[arg-type]
                    every = (*model.candidates[:place], made, *model.candidates[place + 1 :])
                    models[index] = replace(model, candidates=every)
                    return replace(typical, models=tuple(models)), made
        raise AssertionError("no candidate is blocked")

    return change


def test_the_last_kept_fix_comes_before_the_advice(changed: Change) -> None:
    gates = tuple(v.gate for v in changed()[1].verdicts)
    every = dict.fromkeys(gates, "pass")
    _, plain = changed(advice=(ADVICE,))
    assert proposal(plain) == Proposal("the lines of edgeai.toml that do it:", LINES)
    fixed = replace(plain, fixes=(replace(KEPT, outcome_after=every), DROPPED))
    assert proposal(fixed) == Proposal(
        "with these lines of edgeai.toml the candidate passes what this run judged:",
        KEPT.applied,
        "confirm it",
    )
    some = replace(plain, fixes=(KEPT,))
    assert proposal(some) == Proposal(
        "with these lines of edgeai.toml it passes what was judged again:",
        KEPT.applied,
        "confirm it",
    )
    better = replace(KEPT, outcome_after={"speedup": "fail"})
    assert proposal(replace(plain, fixes=(better,))) == Proposal(
        "with these lines of edgeai.toml it comes closer; still not speedup:",
        KEPT.applied,
        "confirm it",
    )
    assert proposal(replace(plain, fixes=(DROPPED,))) == proposal(plain)


def test_nothing_is_proposed_without_lines_or_need(changed: Change) -> None:
    _, plain = changed(advice=())
    assert proposal(plain) is None
    assert proposal(replace(plain, advice=(replace(ADVICE, manifest_lines=()),))) is None
    assert proposal(replace(plain, advice=(ADVICE,), promotion_blocked_by=())) is None


def test_terminal_and_markdown_show_lines_to_copy(changed: Change) -> None:
    report, _ = changed(advice=(ADVICE,), fixes=(KEPT,))
    text = render_markdown(report)
    (block,) = re.findall(r"```toml\n(.*?)\n```", text, re.S)
    assert tomllib.loads(block) == {"settings": {"threads": 2}}
    assert "With these lines of edgeai.toml" in text
    assert "> confirm it" in text
    shown = [line.text for line in render_terminal(report, 100)]
    where = shown.index("      [settings]")
    assert shown[where + 1] == "      threads = 2"
    assert any("change it (it was measured)" in line for line in shown)


def test_lines_from_outside_end_no_fence(changed: Change) -> None:
    evil = replace(ADVICE, manifest_lines=("```", "a\n````\n# heading", "[x]"))
    text = render_markdown(changed(advice=(evil,))[0])
    assert "\n`````toml\n```\na ```` # heading\n[x]\n`````\n" in text


def test_every_advice_and_fix_is_of_the_schema(changed: Change) -> None:
    advice = tuple(each for case in CASES for each in advise(case.triggers))
    report, _ = changed(advice=advice, fixes=(KEPT, replace(DROPPED, problem="no time")))
    raw = json.loads(render_json(report))
    text = resources.files("pytest_edgeai.report").joinpath("schema-1.json").read_text("utf-8")
    jsonschema.Draft202012Validator(json.loads(text)).validate(raw)
    found = [
        candidate
        for model in raw["models"]
        for candidate in model["candidates"]
        if candidate["advice"]
    ]
    (made,) = found
    assert [each["rule"] for each in made["advice"]] == [each.rule for each in advice]
    assert [fix["kept"] for fix in made["fixes"]] == [True, False]
    assert made["fixes"][0]["after"] == {"speedup": [2.4, 2.3, None]}
