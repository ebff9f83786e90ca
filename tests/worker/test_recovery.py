"""Failures staged around real processes: what comes back right passes, anything wrong is found."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from enduring import artifact, runnable, samples
from enduring_frameworks import Fault

from pytest_edgeai.judge.recovery import judge_recovery
from pytest_edgeai.measure.recovery import (
    FULL_DISK,
    KILLED,
    Reference,
    Stage,
    take_reference,
)
from pytest_edgeai.measure.recovery_artifact import (
    EMPTIED,
    FLIPPED,
    TRUNCATED,
    corrupt_copy,
    is_intact,
)
from pytest_edgeai.measure.recovery_serving import Server, start_server
from pytest_edgeai.production_records import RecoverySamples, RecoveryScenario
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.selfcheck.planted import PlantedModel

LIMIT_S = 20.0
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")


def staged(
    folder: Path,
    fault: Fault,
    *only: str,
    limit_s: float = LIMIT_S,
    patience_s: float = 30.0,
    changed: Fault | None = None,
) -> tuple[Verdict, RecoverySamples]:
    """Stage failures of a model; ``changed`` is what it has become after the reference."""
    (folder / "copies").mkdir(parents=True)
    served = artifact(fault, folder / "artifact")
    feeds = samples(folder)

    def start(path: Path) -> Server:
        return start_server(
            replace(runnable(served.path), path=path), feeds, None, time_limit_s=patience_s
        )

    reference = take_reference(start, served.path)
    if changed is not None:
        changed.write(served.path)
    stage = Stage(served, reference, start, folder=folder / "copies", patience_s=patience_s)
    if only:
        stage.scenarios = {name: stage.scenarios[name] for name in only}
    done = stage.run(limit_s=limit_s, repeats=1, progress=lambda what, share: None)
    return judge_recovery(done, Threshold(limit_s, "at_most")), done


def scenario(done: RecoverySamples, name: str) -> RecoveryScenario:
    return next(found for found in done.scenarios if found.name == name)


@posix
def test_a_healthy_model_comes_back_from_everything(tmp_path: Path) -> None:
    verdict, done = staged(tmp_path, Fault())
    assert verdict.outcome == "pass", verdict.reason
    assert verdict.observed is not None
    assert 0 < verdict.observed < LIMIT_S
    assert "bit for bit" in verdict.reason
    assert len(done.scenarios) == 6
    assert scenario(done, KILLED).answers > 2
    for name in (TRUNCATED, EMPTIED, FLIPPED):
        assert "refused by its digest" in scenario(done, name).notes
        assert "the file is damaged" in " ".join(scenario(done, name).notes)


def test_garbage_from_a_file_cut_in_half_fails_at_once(tmp_path: Path) -> None:
    verdict, done = staged(tmp_path, Fault(believes_anything=True), KILLED, TRUNCATED, EMPTIED)
    assert verdict.outcome == "fail"
    assert "a wrong answer was served; cut in half" in verdict.reason
    assert [found.name for found in done.scenarios] == [KILLED, TRUNCATED]


def test_a_process_that_a_damaged_file_ends_has_served_nothing(tmp_path: Path) -> None:
    verdict, done = staged(tmp_path, Fault(crashes_on_damage=True), TRUNCATED)
    assert verdict.outcome == "pass", verdict.reason
    assert "crashed while loading it" in " ".join(scenario(done, TRUNCATED).notes)


def test_a_load_that_hangs_on_a_damaged_file_fails(tmp_path: Path) -> None:
    verdict, _ = staged(tmp_path, Fault(hangs_on_damage=True), TRUNCATED, patience_s=3.0)
    assert verdict.outcome == "fail"
    assert "loading it from a spoiled file hung" in verdict.reason


def test_a_model_that_answers_otherwise_after_a_restart_fails(tmp_path: Path) -> None:
    """The file is replaced by another whole one: only the answers give it away."""
    other = Fault(planted=PlantedModel(answers="mode"))
    verdict, _ = staged(tmp_path, Fault(), KILLED, changed=other)
    assert verdict.outcome == "fail"
    assert "wrong answer" in verdict.reason


def test_a_slow_start_is_confirmed_and_fails(tmp_path: Path) -> None:
    verdict, done = staged(tmp_path, Fault(start_s=0.5), KILLED, limit_s=0.4)
    assert verdict.outcome == "fail"
    assert len(scenario(done, KILLED).recovery_s) == 2
    assert "later than 0.4 s" in verdict.reason
    assert verdict.observed is not None
    assert verdict.observed > 0.4


def test_a_start_that_never_ends_is_given_up(tmp_path: Path) -> None:
    served = artifact(Fault(start_s=60.0), tmp_path / "slow")
    feeds = samples(tmp_path)

    def start(path: Path) -> Server:
        return start_server(runnable(path), feeds, None, time_limit_s=1.0)

    reference = Reference({}, 0.0, 1)
    stage = Stage(served, reference, start, folder=tmp_path, patience_s=1.0)
    stage.scenarios = {name: stage.scenarios[name] for name in (KILLED, FLIPPED)}
    done = stage.run(limit_s=0.5, repeats=1, progress=lambda what, share: None)
    verdict = judge_recovery(done, Threshold(0.5, "at_most"))
    assert verdict.outcome == "fail"
    assert verdict.observed is None
    for name in (KILLED, FLIPPED):
        assert scenario(done, name).recovery_s == (math.inf, math.inf)
        assert "did not start again" in " ".join(scenario(done, name).notes)


def test_what_no_runtime_can_tell_is_left_to_the_digest(tmp_path: Path) -> None:
    verdict, done = staged(tmp_path, Fault(believes_anything=True), FLIPPED)
    assert verdict.outcome == "pass", verdict.reason
    notes = scenario(done, FLIPPED).notes
    assert "refused by its digest" in notes
    assert "the runtime alone would serve it, wrongly: check the digest" in notes


@posix
@pytest.mark.parametrize(
    ("kind", "outcome", "said"),
    [
        ("raises", "pass", "out of disk"),
        ("for-good", "pass", "out of disk"),
        ("zeros", "fail", "without room on the disk it answered"),
    ],
)
def test_a_full_disk(tmp_path: Path, kind: str, outcome: str, said: str) -> None:
    verdict, done = staged(tmp_path, Fault(needs_disk=kind), FULL_DISK)
    assert verdict.outcome == outcome, verdict.reason
    assert said in verdict.reason
    notes = " ".join(scenario(done, FULL_DISK).notes)
    assert ("failed cleanly" in notes) == (kind != "zeros")
    assert ("started anew" in notes) == (kind == "for-good")


def test_answers_that_are_drawn_cannot_be_compared(tmp_path: Path) -> None:
    served = artifact(Fault(draws=True), tmp_path / "artifact")
    feeds = samples(tmp_path)
    reference = take_reference(
        lambda path: start_server(runnable(path), feeds, None, time_limit_s=30.0), served.path
    )
    assert reference.repeatability > 0.1
    nothing = RecoverySamples((), len(reference.answers), 4, reference.repeatability)
    verdict = judge_recovery(nothing, Threshold(LIMIT_S, "at_most"))
    assert verdict.outcome == "inconclusive"


@pytest.mark.parametrize("how", [TRUNCATED, EMPTIED, FLIPPED])
def test_a_copy_is_spoiled_and_the_artifact_is_not(tmp_path: Path, how: str) -> None:
    served = artifact(Fault(), tmp_path / "artifact")
    before = served.path.read_bytes()
    path = corrupt_copy(served, how, tmp_path / "copy")
    assert path.name == served.path.name
    assert path.read_bytes() != before
    assert served.path.read_bytes() == before
    assert is_intact(served, served.path)
    assert not is_intact(served, path)
    assert math.isclose(len(before) / 2, len(path.read_bytes()), abs_tol=1) == (how == TRUNCATED)
