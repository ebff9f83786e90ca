"""Needed, available, missing: said in a table, in one sentence, and in JSON."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_edgeai.judge.needs import RoundNeed, SampleNeed
from pytest_edgeai.report.effort import (
    CallTime,
    DataEffort,
    ModelEffort,
    ProcessEffort,
    Source,
    TimeEffort,
    budget_for,
    effort_remarks,
    effort_rows,
    may_lack_time,
    missing_text,
    row_text,
    seconds_text,
)

NEED = SampleNeed(
    "accuracy_retained",
    "evaluation samples",
    59,
    221,
    {"1": 119, "0.99": 221, "0.975": 672},
    "at a baseline accuracy of 95%",
)
ROUNDS = RoundNeed("speedup", 45, 85, 2.0, "where all of them agree; planned for 5%")


def samples(available: int | None, need: SampleNeed = NEED) -> DataEffort:
    known = available is not None and need.asked is not None
    missing = max(0, (need.asked or 0) - (available or 0)) if known else None
    return DataEffort(need, 0.95, available, missing)


def seconds(
    asked_s: float | None, source: Source = "measured", need: RoundNeed = ROUNDS
) -> TimeEffort:
    if asked_s is None:
        return TimeEffort(need, "decode", None, None, None, 60.0, None)
    call = CallTime("decode", 5e6, source)
    return TimeEffort(need, "decode", call, asked_s / 2, asked_s, 60.0, max(0.0, asked_s - 60.0))


def effort(*parts: DataEffort | TimeEffort | ProcessEffort, unknown: str = "") -> ModelEffort:
    return ModelEffort(
        tuple(part for part in parts if isinstance(part, DataEffort)),
        tuple(part for part in parts if isinstance(part, TimeEffort)),
        tuple(part for part in parts if isinstance(part, ProcessEffort)),
        unknown,
    )


def test_the_rows_say_needed_available_and_missing() -> None:
    rows = effort_rows(
        effort(samples(159), seconds(40.0), ProcessEffort("memory_cut", processes=6, calls=20))
    )
    assert rows == [
        ("accuracy_retained", "221 evaluation samples", "159", "62"),
        ("speedup", "85 rounds, 40 s", "60 s", "-"),
        ("memory_cut", "6 fresh processes", "no limit", "-"),
    ]
    assert row_text(rows[0]) == "221 evaluation samples needed, 159 available, 62 missing"
    assert row_text(rows[1]) == "85 rounds, 40 s needed, 60 s available"
    assert row_text(rows[2]) == "6 fresh processes needed"


def test_what_is_not_known_is_not_made_up() -> None:
    hopeless = dataclasses.replace(NEED, asked=None, expected={"1": None})
    endless = dataclasses.replace(ROUNDS, asked=None)
    assert effort_rows(effort(samples(None), samples(80, hopeless), seconds(None))) == [
        ("accuracy_retained", "221 evaluation samples", "unknown", "unknown"),
        ("accuracy_retained", "no practical number", "80", "unknown"),
        ("speedup", "85 rounds", "60 s", "unknown"),
    ]
    [row] = effort_rows(effort(seconds(None, need=endless)))
    assert row[1] == "no practical number of rounds"
    remarks = list(effort_remarks(effort(samples(None), seconds(None), unknown="x is imported")))
    assert "available data: x is imported" in remarks
    assert any("not known before it is measured" in text for text in remarks)


def test_the_remarks_say_what_the_rows_rest_on() -> None:
    told = list(effort_remarks(effort(samples(159), seconds(40.0, "estimate"))))
    assert told[0] == (
        "accuracy_retained: 59 can pass at all, 119 where 100% is retained, 221 where 99% is "
        "retained, 672 where 97.5% is retained (9 passes in 10, at a baseline accuracy of 95%)"
    )
    assert told[1].startswith("speedup: 45 rounds at least, where all")
    assert "takes 5.00 ms (an estimate" in told[2]
    assert (
        "measured in an earlier session"
        in list(effort_remarks(effort(seconds(40.0, "history"))))[-1]
    )


def test_the_phases_of_a_language_model_stand_in_one_sentence() -> None:
    reading = CallTime("prefill", 8e7, "measured")
    need = dataclasses.replace(ROUNDS, gate="prefill")
    prefill = TimeEffort(need, "prefill", reading, 1.0, 2.0, 60.0, 0.0)
    told = list(effort_remarks(effort(seconds(40.0), prefill)))
    assert told[-1] == (
        "a call of the baseline takes 5.00 ms, to read a block 80.0 ms (measured just now)"
    )


def test_the_calls_of_fresh_processes_are_said() -> None:
    told = list(effort_remarks(effort(ProcessEffort("memory_cut", processes=6, calls=20))))
    assert told == ["memory_cut: 20 calls in each process"]


def test_gates_that_rest_on_the_same_share_a_remark() -> None:
    need = dataclasses.replace(ROUNDS, gate="no_slower")
    told = list(effort_remarks(effort(seconds(40.0), seconds(40.0, need=need))))
    assert told[0].startswith("speedup, no_slower: ")
    assert len(told) == 2


def test_nothing_is_said_where_nothing_is_missing() -> None:
    assert missing_text(effort(samples(221), seconds(60.0))) == ""
    assert missing_text(effort(samples(None), seconds(None))) == ""


def test_missing_samples_are_counted() -> None:
    assert missing_text(effort(samples(159))) == (
        "159 evaluation samples may not decide accuracy_retained > 0.95: add 62 where 99% is "
        "retained, 513 where 97.5% is retained"
    )
    assert missing_text(effort(samples(40))) == (
        "40 evaluation samples can never pass accuracy_retained > 0.95: add 19 to pass at all, 79 "
        "where 100% is retained, 181 where 99% is retained, 632 where 97.5% is retained"
    )


def test_samples_that_a_gate_can_do_without_are_not_missed() -> None:
    need = dataclasses.replace(NEED, gate="slice_retained", is_required=False)
    assert missing_text(effort(samples(3, need))) == ""
    assert effort_rows(effort(samples(3, need)))[0][3] == "218"


def test_texts_and_losses_are_counted_too() -> None:
    need = SampleNeed("accuracy_retained", "blocks of text", 8, 8, note="at least")
    assert missing_text(effort(samples(5, need))) == (
        "5 blocks of text can never pass accuracy_retained: add 3"
    )


def test_a_threshold_that_no_number_shows_is_said() -> None:
    need = dataclasses.replace(NEED, asked=None, expected={"1": 50, "0.99": None})
    assert "no practical number of evaluation samples" in missing_text(effort(samples(500, need)))


def test_missing_seconds_name_the_budget_that_would_do() -> None:
    other = dataclasses.replace(ROUNDS, gate="latency_consistency", least=130, asked=130)
    assert missing_text(effort(seconds(171.0), seconds(70.0, need=other))) == (
        "speedup near its threshold takes about 171 s of measuring, and 60 s are allowed: raise "
        "--edge-budget to 180"
    )
    assert missing_text(effort(seconds(70.0, "estimate", other))).startswith(
        "latency_consistency takes about 70 s of measuring (an estimate), and"
    )


def test_data_and_time_are_missed_in_one_sentence() -> None:
    told = missing_text(effort(samples(159), seconds(171.0)))
    assert "; speedup near its threshold" in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("part", "may"),
    [
        (seconds(50.0), False),
        (seconds(50.0, "history"), False),
        (seconds(50.0, "estimate"), True),
        (seconds(5.0, "estimate"), False),
        (seconds(None), True),
    ],
)
def test_only_an_estimate_leaves_doubt(part: TimeEffort, may: bool) -> None:
    assert may_lack_time(effort(part)) is may


@pytest.mark.parametrize(
    ("needed", "budget"),
    [(171.0, 180.0), (98.0, 98.0), (98.2, 99.0), (1234.0, 1300.0), (0.0123, 0.013)],
)
def test_a_budget_is_round_and_enough(needed: float, budget: float) -> None:
    assert budget_for(needed) == budget


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.012 s"), (3.14, "3.1 s"), (40.0, "40 s"), (171.2, "172 s")]
)
def test_seconds_have_two_digits(value: float, text: str) -> None:
    assert seconds_text(value) == text
