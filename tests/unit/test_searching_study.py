"""Studies in their storage: no point twice, resumed after a kill, shared by two processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import studying
from studying import SPACE, open_study, run

from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.plan.finalists import choose_finalists
from pytest_edgeai.search_records import DEFAULT_WEIGHTS
from pytest_edgeai.searching_storage import open_place
from pytest_edgeai.searching_study import EXHAUSTED, TIME_BOX, TRIALS, Limits, Measured

pytest.importorskip("optuna", reason='pip install "pytest-edgeai[search]"')
SECOND = 0.1


def process(folder: Path, trials: int, seconds: float = SECOND) -> subprocess.Popen[str]:
    words = [sys.executable, studying.__file__, str(folder), str(trials), str(seconds)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def begin(*processes: subprocess.Popen[str]) -> None:
    """Let processes begin once all of them have opened the study."""
    for each in processes:
        assert each.stdout is not None
        assert each.stdout.readline() == "open\n"
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.close()
        each.stdin = None


def test_a_whole_space_is_tried_once_each_and_then_the_search_ends(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    assert run(study, 1000) == EXHAUSTED
    trials = study.trials()
    assert len(trials) == SPACE.size == 19
    assert [t.reason for t in trials if t.state == "failed"] == ["cannot be made"]
    assert {t.state for t in trials} == {"measured", "screened-out", "failed"}
    best = choose_finalists(trials, "speedup", DEFAULT_WEIGHTS, 1)[0]
    assert dict(best.recipe.options) == {"x": 3, "flag": True}


def test_it_begins_with_what_it_is_told(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    branch = SPACE.branch("two", "c")
    study.begin_with([(branch, {"x": 3, "hint:level": "all"})])
    assert run(study, 1) == TRIALS
    assert [t.recipe.scheme for t in study.trials()] == ["c"]
    assert study.trials()[0].recipe.options == {"x": 3}


def test_a_finished_study_tries_nothing_more_and_is_read_by_others(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    assert run(study, 5) == TRIALS
    before = study.trials()
    other = open_study(tmp_path)
    assert run(other, 5) == TRIALS
    assert other.trials() == before
    study.keep("concluded", {"finalists": [1]})
    assert other.read("concluded") == {"finalists": [1]}
    assert run(other, 7) == TRIALS
    assert other.trials()[:5] == before
    assert len(other.trials()) == 7


def test_an_error_of_the_session_ends_it_and_leaves_the_point_untried(tmp_path: Path) -> None:
    study = open_study(tmp_path)

    def measure(point: object, done: int) -> Measured:
        raise EdgeAIError("the machine is on fire")

    with pytest.raises(EdgeAIError, match="on fire"):
        study.run(measure, Limits(3, float("inf")), lambda words: None)
    assert study.trials() == ()
    assert run(study, 3) == TRIALS


def test_a_time_box_that_is_over_ends_it(tmp_path: Path) -> None:
    assert run(open_study(tmp_path), 5, limit_s=0.0) == TIME_BOX


def test_a_name_that_stands_for_something_else_is_refused(tmp_path: Path) -> None:
    open_study(tmp_path, about={"model": "m", "data": "d"})
    with pytest.raises(EdgeAIError, match=r"made for something else \(data\)"):
        open_study(tmp_path, about={"model": "m", "data": "e"})


def test_two_processes_share_one_study(tmp_path: Path) -> None:
    """Both try points, none is tried twice, and both see all of them."""
    both = [process(tmp_path, 14), process(tmp_path, 14)]
    begin(*both)
    answers = [json.loads(each.communicate(timeout=60)[0].splitlines()[-1]) for each in both]
    assert [each.returncode for each in both] == [0, 0]
    tried = [key for answer in answers for key in answer["tried"]]
    assert len(tried) == len(set(tried)) == 14
    assert all(answer["tried"] for answer in answers)
    assert {answer["ended"] for answer in answers} == {TRIALS}
    assert len(open_study(tmp_path).trials()) == 14


def test_a_study_goes_on_after_kill_9(tmp_path: Path) -> None:
    """What was tried stays, what was cut off is tried again, and nothing waits for a timeout."""
    victim = process(tmp_path, SPACE.size, 0.3)
    begin(victim)
    assert victim.stdout is not None
    seen = 0
    while seen < 4:
        line = victim.stdout.readline()
        assert line, "it ended by itself"
        seen += line == "trying\n"
    victim.send_signal(signal.SIGKILL)
    victim.wait(timeout=10)
    victim.stdout.close()
    study = open_study(tmp_path)
    kept = study.trials()
    assert len(kept) == 3
    assert run(study, SPACE.size) == TRIALS
    assert study.trials()[:3] == kept
    assert len(study.trials()) == SPACE.size


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "in memory"),
        ("nonsense://user:secret@host/db", "cannot be opened"),
        ("sqlite:////proc/nowhere/studies.sqlite3", "cannot be opened"),
        ("://", "no URL"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_line_without_secrets(
    tmp_path: Path, url: str, words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        open_place(url, tmp_path, tmp_path, "edgeai.toml [search] storage")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_relative_file_lies_beside_the_manifest(tmp_path: Path) -> None:
    place = open_place("sqlite:///ours.sqlite3", tmp_path / "cache", tmp_path, "here")
    assert (tmp_path / "ours.sqlite3").exists()
    assert place.shown == "sqlite ours.sqlite3"
    cached = open_place("", tmp_path / "cache", tmp_path, "here")
    assert cached.shown == "sqlite cache/search/studies.sqlite3"
    other = open_place("", tmp_path / "cache", tmp_path / "project", "here")
    assert other.shown == "sqlite studies.sqlite3"


def test_credentials_are_not_shown() -> None:
    from sqlalchemy.engine import make_url

    from pytest_edgeai.searching_storage import shown_url

    url = make_url("postgresql+psycopg://me:hidden@db.example/studies?password=also&sslkey=k")
    assert shown_url(url) == "postgresql+psycopg://db.example/studies"


def test_without_optuna_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)  # what an import of an absent package meets
    with pytest.raises(UserError, match=r'Run: pip install "pytest-edgeai\[search\]"'):
        open_place("", tmp_path, tmp_path, "--edge-search")
