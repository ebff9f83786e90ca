"""What findings, and what could not be looked through, decide."""

from __future__ import annotations

import math

import pytest

from pytest_edgeai.judge.findings import MOST_SHOWN, judge_findings
from pytest_edgeai.judge.model_card import SECTIONS, card_findings
from pytest_edgeai.production_records import Finding, Inspection
from pytest_edgeai.records import Threshold, Verdict

ZERO = Threshold(0.0, "at_most")
FULL = dict.fromkeys(SECTIONS, "Something that was written down.")


def judge(seen: Inspection, threshold: Threshold = ZERO) -> Verdict:
    return judge_findings("compliance", seen, threshold, advice="do", unread_advice="install")


def finding(number: int, by: str = "") -> Finding:
    return Finding("pickle", f"file{number}", f"runs {number}", by)


def test_nothing_found_passes_and_says_by_whom() -> None:
    verdict = judge(Inspection(3, "file", tools={"scanner": "1.0", "pytest-edgeai": ""}))
    assert (verdict.outcome, verdict.observed, verdict.samples) == ("pass", 0.0, 3)
    assert verdict.reason == "no finding; 3 files looked through by scanner 1.0, pytest-edgeai"
    assert verdict.advice == ""


def test_every_finding_is_named_ours_first() -> None:
    verdict = judge(Inspection(3, "file", (finding(1, "scanner 1.0"), finding(2)), ("x: odd",)))
    assert (verdict.outcome, verdict.observed, verdict.advice) == ("fail", 2.0, "do")
    assert verdict.reason == (
        "2 findings: file2: runs 2; file1: runs 1 (scanner 1.0); not looked through: x: odd"
    )
    assert len(verdict.details["findings"]) == 2


def test_a_long_list_is_cut_in_the_sentence_alone() -> None:
    verdict = judge(Inspection(1, "file", tuple(map(finding, range(MOST_SHOWN + 3)))))
    assert verdict.reason.endswith("; and 3 more")
    assert len(verdict.details["findings"]) == MOST_SHOWN + 3


def test_what_was_not_looked_through_never_passes() -> None:
    verdict = judge(Inspection(3, "file", (), ("x: no scanner reads it",)))
    assert (verdict.outcome, verdict.advice) == ("inconclusive", "install")
    assert verdict.reason == "not certified: x: no scanner reads it"


def test_a_threshold_allows_findings() -> None:
    seen = Inspection(3, "distribution", (finding(1),))
    assert judge(seen, Threshold(1.0, "at_most")).outcome == "pass"
    assert judge(seen, Threshold(0.5, "at_most")).outcome == "fail"


@pytest.mark.parametrize(
    ("seen", "threshold"),
    [
        (Inspection(0, "file"), ZERO),
        (Inspection(1, "file"), Threshold(-1.0, "at_most")),
        (Inspection(1, "file"), Threshold(math.nan, "at_most")),
    ],
)
def test_what_cannot_be_judged_is_an_error(seen: Inspection, threshold: Threshold) -> None:
    assert judge(seen, threshold).outcome == "error"


def test_a_threshold_of_another_kind_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at_most"):
        judge(Inspection(1, "file"), Threshold(0.0, "at_least"))


def test_a_full_card_has_no_finding_and_may_say_more() -> None:
    assert card_findings({**FULL, "citation": "x"}, "[models.x.card]") == ()


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(
    "text", ["TODO", "tbd.", " [More Information Needed] ", "n/a", "...", "?", "-"]
)
def test_a_section_that_says_nothing_is_found(section: str, text: str) -> None:
    [found] = card_findings({**FULL, section: text}, "[models.x.card]")
    assert found.where == "[models.x.card]"
    assert section in found.what


def test_a_misspelt_section_is_recognized() -> None:
    card = {key: text for key, text in FULL.items() if key != "intended_use"}
    [found] = card_findings({**card, "intented_use": "x"}, "w")
    assert found.what.endswith('did you mean it by "intented_use"?')
    assert len(card_findings({}, "w")) == len(SECTIONS)
