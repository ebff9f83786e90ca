"""What counts as a fault on an extreme input, and what the baseline excuses."""

from __future__ import annotations

import pytest

from pytest_edgeai.judge.extreme_inputs import judge_extreme_inputs
from pytest_edgeai.production_records import ExtremeAnswer, ExtremeCase
from pytest_edgeai.records import Threshold

LIMIT = Threshold(0.0, "at_most")
ANSWERED = ExtremeAnswer("answered")
REFUSED = ExtremeAnswer("refused", "InvalidArgument: no")
CRASHED = ExtremeAnswer("crashed", "killed by SIGABRT")
HUNG = ExtremeAnswer("hung", "no answer within 2 s; it was killed")
NAN = ExtremeAnswer("answered", nan=4)
INFINITE = ExtremeAnswer("answered", infinite=4)
POISONED = ExtremeAnswer("answered", poisoned='output "y" is off by 3')
MEMORY = ExtremeAnswer("crashed", "killed by SIGKILL, possibly out of memory: the count rose")
NOT_TRIED = ExtremeAnswer("not_tried", "it broke down 3 times before")


@pytest.mark.parametrize(
    ("is_valid", "baseline", "candidate", "words"),
    [
        (False, ANSWERED, CRASHED, "crashes, killed by SIGABRT (the baseline answers)"),
        (False, REFUSED, CRASHED, "(the baseline refuses it cleanly)"),
        (False, CRASHED, CRASHED, "(the baseline does so too)"),
        (False, CRASHED, HUNG, "hangs, no answer within 2 s; it was killed (the baseline crashes)"),
        (False, NOT_TRIED, CRASHED, "(the baseline was not tried)"),
        (False, MEMORY, CRASHED, "crashes"),
        (False, ANSWERED, POISONED, "(the baseline's is as before)"),
        (False, POISONED, POISONED, "(the baseline's too)"),
        (True, ANSWERED, NAN, "4 NaN in the answer, and none in the baseline's"),
        (True, ANSWERED, REFUSED, "refused (InvalidArgument: no), and the baseline answers"),
    ],
)
def test_faults(
    is_valid: bool, baseline: ExtremeAnswer, candidate: ExtremeAnswer, words: str
) -> None:
    cases = [
        ExtremeCase("zeros", True, ANSWERED, ANSWERED),
        ExtremeCase("it", is_valid, baseline, candidate),
    ]
    verdict = judge_extreme_inputs(cases, LIMIT)
    assert (verdict.outcome, verdict.observed, verdict.samples) == ("fail", 1.0, 2)
    assert verdict.reason.startswith("1 fault on 2 extreme inputs: it: ")
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("is_valid", "baseline", "candidate"),
    [
        (False, ANSWERED, REFUSED),
        (False, REFUSED, ANSWERED),
        (False, ANSWERED, NAN),
        (True, NAN, NAN),
        (True, INFINITE, NAN),
        (True, ANSWERED, INFINITE),
        (True, REFUSED, REFUSED),
        (False, CRASHED, ANSWERED),
        (False, POISONED, REFUSED),
    ],
)
def test_no_faults(is_valid: bool, baseline: ExtremeAnswer, candidate: ExtremeAnswer) -> None:
    verdict = judge_extreme_inputs([ExtremeCase("it", is_valid, baseline, candidate)], LIMIT)
    assert (verdict.outcome, verdict.observed) == ("pass", 0.0)
    assert verdict.advice == ""


def test_a_machine_without_memory_and_what_was_not_tried_decide_nothing() -> None:
    verdict = judge_extreme_inputs([ExtremeCase("a batch", False, MEMORY, MEMORY)], LIMIT)
    assert verdict.outcome == "inconclusive"
    assert "lack of memory" in verdict.reason
    cases = [ExtremeCase("NaN", False, ANSWERED, NOT_TRIED)]
    assert judge_extreme_inputs(cases, LIMIT).outcome == "inconclusive"


def test_nothing_tried_is_an_error_and_details_name_every_input() -> None:
    assert judge_extreme_inputs([], LIMIT).outcome == "error"
    verdict = judge_extreme_inputs([ExtremeCase("NaN", False, NAN, CRASHED)], LIMIT)
    assert verdict.details["inputs"]["NaN"] == {
        "baseline": {"kind": "answered", "nan": 4},
        "candidate": {"kind": "crashed", "what": "killed by SIGABRT"},
    }
    assert judge_extreme_inputs([], Threshold(None, "at_most")).outcome == "not_applicable"
