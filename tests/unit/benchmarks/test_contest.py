"""The contest's counts, turns, tables and files; no contestant is run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from benchmarks.contest import running  # noqa: E402
from benchmarks.contest.cases import BY_NAME, CASES, cell_truth, fault_cases  # noqa: E402
from benchmarks.contest.contestants import CONTESTANTS, Contestant  # noqa: E402
from benchmarks.contest.counting import (  # noqa: E402
    Counts,
    count,
    count_draws,
    count_trials,
    speed_accuracy,
)
from benchmarks.contest.drivers.exchange import (  # noqa: E402
    Outcome,
    Request,
    Row,
    Said,
    draw,
    serve,
)
from benchmarks.contest.goals import goal_rows  # noqa: E402
from benchmarks.contest.page import BEGIN, END, replace_tables  # noqa: E402
from benchmarks.contest.planted.planted_session import Faults, PlantedSession  # noqa: E402
from benchmarks.contest.schedule import next_pair  # noqa: E402
from benchmarks.contest.subjects import STEPS, Subject, write_evaluation  # noqa: E402
from benchmarks.contest.tables import all_tables, markdown, rate_text  # noqa: E402
from benchmarks.contest.trials import Cell, Record, Trial  # noqa: E402

OURS, EDGEGATE = CONTESTANTS[0], CONTESTANTS[1]


def _trial(outcome: str, case: str = "same", contestant: Contestant = OURS) -> Trial:
    return Trial(contestant.name, case, contestant.variants[0], outcome, 2.0, "said", "2026-01-02")


def _record(*trials: Trial) -> Record:
    return Record("a machine", 500, {"edgegate": "0.2.0"}, {}, list(trials))


def test_a_verdict_is_wrong_by_the_truth_of_its_case() -> None:
    outcomes = [("pass", 3), ("fail", 2), ("inconclusive", 1), ("crash", 1), ("timeout", 1)]
    assert count("met", outcomes) == Counts(right=3, wrong=4, undecided=1)
    assert count("missed", outcomes) == Counts(right=4, wrong=3, undecided=1)
    with pytest.raises(ValueError, match="drawn"):
        count("met", [("drawn", 1)])


def test_rates_have_exact_intervals() -> None:
    # Clopper and Pearson for 0 of 30: 1 - 0.025^(1/30).
    found = Counts(right=30).wrong_rate
    assert found.low == 0.0
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 30))
    assert rate_text(Counts(right=38, wrong=2)) == "2/40, 5% [0.6, 16.9]"
    assert rate_text(Counts(right=1, undecided=1)) == "0/2, 0% [0.0, 84.2], 1 undecided"
    assert rate_text(Counts()) == "–"


def test_draws_count_against_the_truth_of_their_loss() -> None:
    cells = tuple(
        Cell(threshold, 0.03, 200, {"pass": 4, "fail": 1, "inconclusive": 5, "error": 0}, 0.5)
        for threshold in (0.95, 0.98)
    )
    trials = [replace(_trial("drawn", "draws"), cells=cells)] * 2
    met, seconds = count_draws(trials, threshold=0.95, loss=0.03, samples=200)
    missed, _ = count_draws(trials, threshold=0.98, loss=0.03, samples=200)
    assert met == Counts(right=8, wrong=2, undecided=10)
    assert missed == Counts(right=2, wrong=8, undecided=10)
    assert seconds == pytest.approx(1.0 / 20)
    assert cell_truth(0.06, 0.95) == "missed"


def test_the_share_of_right_verdicts_weighs_every_case_alike() -> None:
    record = _record(*[_trial("pass")] * 9, _trial("pass", "slower-15"))
    assert speed_accuracy(record, OURS, "") == 0.5
    assert speed_accuracy(record, EDGEGATE, "") is None


def test_turns_go_to_the_fewest_trials_for_their_weight() -> None:
    cases = [BY_NAME["same"], BY_NAME["slower-50"]]
    counts: dict[tuple[str, str], int] = {}
    for _ in range(int(cases[0].weight) + 1):
        pair = next_pair([OURS], cases, counts)
        assert pair is not None
        key = (pair[0].name, pair[1].name)
        counts[key] = counts.get(key, 0) + 1
    assert counts == {(OURS.name, "same"): int(cases[0].weight), (OURS.name, "slower-50"): 1}


def test_nobody_is_asked_what_they_cannot_judge_or_more_often_than_needed() -> None:
    case = BY_NAME["fake-int8"]
    assert next_pair([EDGEGATE], [case], {}) is None
    assert next_pair([OURS], [case], {(OURS.name, case.name): case.most_trials}) is None
    for contestant in CONTESTANTS:
        assert set(contestant.cannot) <= {c.name for c in CASES} | {c.kind for c in CASES}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    cell = Cell(0.95, 0.06, 1000, {"pass": 1}, 0.1)
    record = _record(_trial("fail"), replace(_trial("drawn", "draws"), cells=(cell,)))
    record.save(tmp_path / "deep" / "contest.json")
    assert Record.load(tmp_path / "deep" / "contest.json") == record
    (tmp_path / "other.json").write_text(json.dumps({"schema": "another"}))
    with pytest.raises(ValueError, match="no record of a contest"):
        Record.load(tmp_path / "other.json")


def test_variants_answer_in_one_trial() -> None:
    benchmark = next(c for c in CONTESTANTS if len(c.variants) == 2)
    first = _trial("pass", contestant=benchmark)
    second = replace(first, variant=benchmark.variants[1])
    assert _record(first, second, first, second).counted() == {(benchmark.name, "same"): 2}


def test_tables_show_what_the_record_holds() -> None:
    text = all_tables(
        _record(
            *[_trial("pass")] * 3,
            _trial("fail", contestant=EDGEGATE),
            _trial("pass", "drift"),
            _trial("pass", "drift", EDGEGATE),
        )
    )
    assert "| pytest-edgeai | 0/3, 0% [0.0, 70.8] |" in text
    assert "| edgegate | 1/1, 100% [2.5, 100.0] |" in text
    assert "passed: drift (1/1) | **missed** |" in text
    assert "| `drift` | 1/1 | said |" in text
    assert "2026-01-02, on a machine; edgegate 0.2.0." in text
    assert markdown(("a",), [("x|y",)]).endswith(r"| x\|y |")


def test_goals_want_enough_trials() -> None:
    few = {goal: state for goal, _, state in goal_rows(_record(*[_trial("pass")] * 10))}
    enough = {goal: state for goal, _, state in goal_rows(_record(*[_trial("pass")] * 400))}
    bad = {goal: state for goal, _, state in goal_rows(_record(*[_trial("fail")] * 400))}
    goal = "false alarms on the same model: at most 1%"
    assert few[goal] == "so far met, too few trials"
    assert enough[goal] == "met"
    assert bad[goal] == "**missed**"


def test_tables_replace_what_stands_between_the_marks() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replace_tables(page, "new\n") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    with pytest.raises(ValueError, match="once each"):
        replace_tables("no marks", "new")


def test_draws_are_the_same_for_everybody() -> None:
    plan = {
        "seed": 3,
        "seconds": 0.05,
        "thresholds": [0.95],
        "losses": [0.06],
        "samples": [1000],
        "accuracy": 0.95,
        "gain": 0.005,
    }
    seen: list[list[Row]] = [[], []]
    for rows in seen:

        def note(row: Row, threshold: float, rows: list[Row] = rows) -> Outcome:
            rows.append(row)
            return "fail"

        draw(note, plan)
    shared = min(map(len, seen))
    assert shared > 1
    assert seen[0][:shared] == seen[1][:shared]
    kept = np.mean([(row[0] + row[2]) / (row[0] + row[1]) for row in seen[0]])
    assert kept == pytest.approx(0.94, abs=0.01)
    assert {sum(row) for row in seen[0]} == {1000}


def test_a_driver_answers_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(
        kind="speed",
        detail="",
        slower=0.1,
        retained=0.95,
        floor=0.5,
        baseline=tmp_path,
        candidate=tmp_path,
        inputs=tmp_path,
        labels=tmp_path,
        archive=tmp_path,
        folder=tmp_path,
        planted=tmp_path,
    )
    source, target = tmp_path / "request.json", tmp_path / "answer.json"
    source.write_text(request.as_json())
    monkeypatch.setattr(sys, "argv", ["driver", str(source), str(target)])
    serve(lambda asked: {"": Said("pass", asked.folder.name)})
    assert json.loads(target.read_text())["said"][""] == {
        "outcome": "pass",
        "reason": tmp_path.name,
    }
    serve(lambda asked: {"": Said("pass", str(1 / 0))})
    assert json.loads(target.read_text())["said"][""] == {
        "outcome": "error",
        "reason": "ZeroDivisionError: division by zero",
    }


class _Session:
    def __init__(self) -> None:
        self.calls = 0

    def run(self, names: object, feeds: object) -> int:
        self.calls += 1
        return self.calls


def test_planted_faults_are_what_they_are_said_to_be() -> None:
    session = _Session()
    slow = PlantedSession(session, Faults(slow_calls=2, slow_factor=3))
    assert [slow.run(None, None) for _ in range(3)] == [3, 6, 7]
    late = PlantedSession(_Session(), Faults(last_call=True))
    assert [late.run(None, None) for _ in range(3)] == [1, 1, 2]
    session = _Session()
    tail = PlantedSession(session, Faults(tail_every=10, tail_factor=4))
    for _ in range(2000):
        tail.run(None, None)
    assert session.calls == pytest.approx(2600, rel=0.1)


def test_planted_models_work_and_answer_as_said(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'pytest-edgeai[onnx]'")
    data = write_evaluation(tmp_path / "data")
    inputs, labels = np.load(data.inputs), np.load(data.labels)

    def answers(subject: Subject) -> NDArray[Any]:
        path = subject.write(tmp_path / subject.name, STEPS)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        rows = [session.run(None, {"x": row[None]})[0][0] for row in inputs]
        found: NDArray[Any] = np.asarray(rows).argmax(axis=1)
        return found

    right = answers(Subject())
    assert 0.93 < (right == labels).mean() < 0.98
    assert (answers(Subject(work=23, name="slower")) == right).all()
    assert set(answers(Subject(answers="mode", name="mode"))) == {0}
    assert 9 not in answers(Subject(answers="dead-class", name="dead"))
    wrong = np.load(write_evaluation(tmp_path / "wrong", wrong=True).labels)
    assert not set(wrong) & set(right)


def test_no_fault_is_a_requirement_that_is_met() -> None:
    assert {case.truth for case in fault_cases()} == {"missed"}
    assert len(fault_cases()) >= 15
    for case in CASES:
        if case.kind != "draws":
            assert count_trials(case, []).trials == 0


def _run(contestant: Contestant, case: str, folder: Path) -> list[Trial]:
    data = write_evaluation(folder)
    python = Path(sys.executable)
    return running.run_trial(
        contestant, python, BY_NAME[case], repetitions=STEPS, data=data, seed=0
    )


def test_a_trial_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    (trial,) = _run(OURS, "fake-int8", tmp_path)
    assert (trial.contestant, trial.case, trial.outcome) == ("pytest-edgeai", "fake-int8", "fail")
    assert trial.seconds > 0


def test_a_crash_and_a_timeout_are_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = Contestant("nobody", "no_such_driver", variants=("min", "mean"))
    crashed = _run(nobody, "fake-int8", tmp_path)
    assert [trial.outcome for trial in crashed] == ["crash", "crash"]
    assert "no_such_driver" in crashed[0].reason
    monkeypatch.setattr(running, "TIME_LIMIT_S", 0.01)
    (late,) = _run(OURS, "fake-int8", tmp_path)
    assert (late.outcome, late.reason) == ("timeout", "no verdict after 0.01 s")
