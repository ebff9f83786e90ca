from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.promote.decision import blocked_by
from pytest_edgeai.records import Outcome, Verdict

OUTCOMES: tuple[Outcome, ...] = (
    "pass", "fail", "inconclusive", "proxy", "not_applicable", "error"
)  # fmt: skip


def verdict(gate: str, outcome: Outcome) -> Verdict:
    return Verdict(gate, outcome, None, None, None, None, "at_least", "ratio", 0, "")


@pytest.mark.parametrize(
    ("outcome", "blocks", "blocks_with_proxy"),
    [
        ("pass", False, False),
        ("not_applicable", False, False),
        ("proxy", True, False),
        ("inconclusive", True, True),
        ("fail", True, True),
        ("error", True, True),
    ],
)
def test_what_blocks(outcome: Outcome, blocks: bool, blocks_with_proxy: bool) -> None:
    verdicts = [verdict("speedup", outcome)]
    assert bool(blocked_by(["speedup"], verdicts, allow_proxy=False)) == blocks
    assert bool(blocked_by(["speedup"], verdicts, allow_proxy=True)) == blocks_with_proxy


def test_what_did_not_run_blocks_and_what_is_not_required_does_not() -> None:
    verdicts = [verdict("a", "pass"), verdict("c", "fail")]
    assert blocked_by(["b", "a", "b"], verdicts, allow_proxy=True) == ("b",)


GATES = st.sampled_from(["a", "b", "c"])
VERDICTS = st.lists(st.builds(verdict, GATES, st.sampled_from(OUTCOMES)))


@given(st.lists(GATES), VERDICTS, st.booleans())
def test_every_verdict_of_a_required_gate_has_to_allow_it(
    required: list[str], verdicts: list[Verdict], allow_proxy: bool
) -> None:
    allowed = {"pass", "not_applicable"} | ({"proxy"} if allow_proxy else set())
    blocking = blocked_by(required, verdicts, allow_proxy=allow_proxy)
    assert list(blocking) == [
        gate
        for gate in dict.fromkeys(required)
        if not (seen := [v.outcome for v in verdicts if v.gate == gate]) or not set(seen) <= allowed
    ]
    assert blocking == blocked_by(required, verdicts[::-1], allow_proxy=allow_proxy)


@given(st.lists(GATES), VERDICTS, st.builds(verdict, GATES, st.sampled_from(OUTCOMES)))
def test_a_rerun_never_helps_a_gate_that_ran(
    required: list[str], verdicts: list[Verdict], rerun: Verdict
) -> None:
    before = set(blocked_by(required, verdicts, allow_proxy=False))
    after = set(blocked_by(required, [*verdicts, rerun], allow_proxy=False))
    first_run = rerun.gate not in {v.gate for v in verdicts}
    assert before <= after | ({rerun.gate} if first_run else set())
