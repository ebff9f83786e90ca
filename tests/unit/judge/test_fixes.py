from __future__ import annotations

from dataclasses import replace

import pytest
from advice_cases import verdict

from pytest_edgeai.advice_records import FixAttempt
from pytest_edgeai.judge.fixes import (
    BIAS,
    Effect,
    effect_of,
    figure_of,
    note_of,
    settled_outcome,
    summary,
)
from pytest_edgeai.records import Verdict

SLOW = verdict("speedup", "fail", 1.0, (0.9, 1.1))
LARGE = verdict("artifact_size", "fail", 100.0)
LOSSY = verdict("accuracy_retained", "fail", 0.5)
FINE = verdict("speedup", "pass", 2.4, (2.3, 2.5))
BROKEN = verdict("speedup", "error", None)
UNDECIDED = verdict("speedup", "inconclusive", 2.0, (1.9, 2.1))


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (SLOW, FINE, Effect(turned=("speedup",))),
        (FINE, SLOW, Effect(broken=("speedup",))),
        (FINE, FINE, Effect()),
        # What is not shown to pass any more does not pass.
        (FINE, UNDECIDED, Effect(broken=("speedup",))),
        (FINE, BROKEN, Effect(broken=("speedup",))),
        (SLOW, verdict("speedup", "fail", 1.5, (1.4, 1.6)), Effect(improved=("speedup",))),
        (SLOW, UNDECIDED, Effect(improved=("speedup",))),
        # Intervals that overlap tell nothing.
        (SLOW, verdict("speedup", "fail", 1.2, (1.05, 1.3)), Effect()),
        (SLOW, verdict("speedup", "fail", 0.5, (0.4, 0.6)), Effect(broken=("speedup",))),
        (BROKEN, SLOW, Effect(improved=("speedup",))),
        (SLOW, BROKEN, Effect(broken=("speedup",))),
        # Without intervals a tenth of the way to the threshold of 0.95 is the least.
        (LOSSY, replace(LOSSY, observed=0.6), Effect(improved=("accuracy_retained",))),
        (LOSSY, replace(LOSSY, observed=0.52), Effect()),
        (LOSSY, replace(LOSSY, observed=0.4), Effect(broken=("accuracy_retained",))),
        # Less is better, and no threshold tells how much less.
        (LARGE, replace(LARGE, observed=10.0), Effect()),
        (
            replace(LARGE, threshold=50.0),
            replace(LARGE, threshold=50.0, observed=60.0),
            Effect(improved=("artifact_size",)),
        ),
        (SLOW, replace(FINE, outcome="not_applicable"), Effect(turned=("speedup",))),
    ],
)
def test_what_a_remedy_did(before: Verdict, after: Verdict, effect: Effect) -> None:
    assert effect_of({before.gate: before}, {after.gate: after}) == effect


def test_a_gate_that_was_not_judged_before_tells_nothing() -> None:
    assert effect_of({}, {"speedup": FINE}) == Effect()


def test_a_proxy_is_taken_by_what_it_would_have_been() -> None:
    proxy = verdict("speedup", "proxy", 2.4, outcome_on_proxy="pass")
    assert settled_outcome(proxy) == "pass"
    assert effect_of({"speedup": SLOW}, {"speedup": proxy}) == Effect(turned=("speedup",))


def test_figures() -> None:
    assert figure_of(SLOW) == (1.0, 0.9, 1.1)
    assert figure_of(LARGE) == (100.0, None, None)
    assert figure_of(None) == (None, None, None)


def attempt(rule: str, *, kept: bool) -> FixAttempt:
    return FixAttempt(rule, (), "c", {}, {}, {}, 1.0, kept)


def test_what_came_of_it_is_told_in_one_sentence() -> None:
    one, two = attempt("one", kept=True), attempt("two", kept=False)
    verdicts = {"speedup": FINE, "artifact_size": LARGE}
    assert summary([two], ["speedup"], verdicts, []) == (
        "of 1 remedy tried by --edge-fix, none helped"
    )
    tried = "of 2 remedies tried by --edge-fix, 1 helped (one)"
    assert summary([one, two], [], {"speedup": FINE}, ["speedup"]) == (
        f"{tried}; with the lines of the last of them the candidate passes what this run judged"
    )
    assert summary([one, two], ["artifact_size"], verdicts, ["speedup"]) == (
        f"{tried}; it still does not pass artifact_size"
    )
    # A gate that was undecided all along does not pass either.
    assert summary([one, two], [], {"speedup": UNDECIDED}, ["speedup"]) == (
        f"{tried}; it still does not pass speedup"
    )
    assert summary([one, two], [], {**verdicts, "artifact_size": FINE}, ["speedup"]) == (
        f"{tried}; it passes what was judged again; not judged in time: artifact_size"
    )


def test_figures_that_chose_a_remedy_are_marked() -> None:
    assert note_of(Effect()) == ""
    assert note_of(Effect(turned=("speedup",))) == f"passes now: speedup; {BIAS}"
    assert note_of(Effect(turned=("speedup",), broken=("artifact_size",))) == (
        "passes now: speedup; no longer passes: artifact_size"
    )
