"""Which trial is worth giving layers back, and that a study keeps what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from studying import open_study

from pytest_edgeai.records import Recipe, RuntimeOptions, to_json
from pytest_edgeai.search_records import Figure, Trial
from pytest_edgeai.searching_restoring import KEPT, restored_of, worth_restoring

Misses = dict[str, Literal["likely", "surely"]]
LOST: Misses = {"accuracy_retained": "surely"}


def trial(number: int, speed: float | None, misses: Misses | None = None) -> Trial:
    return Trial(
        number,
        Recipe("onnxruntime", "int8-static", {"n": number}),
        RuntimeOptions(),
        "screened-out" if misses else "measured",
        {} if speed is None else {"speedup": Figure(speed)},
        1.0,
        misses=misses or {},
    )


def test_the_fastest_of_those_that_miss_accuracy_alone() -> None:
    slow = trial(2, 9.0, {**LOST, "speedup": "likely"})
    trials = [trial(0, 2.0), trial(1, 2.5, LOST), slow, trial(3, 3.0, LOST)]
    assert worth_restoring(trials) == trials[3]


def test_what_is_no_faster_than_what_keeps_the_thresholds_is_left() -> None:
    assert worth_restoring([trial(0, 3.0), trial(1, 2.5, LOST)]) is None
    assert worth_restoring([trial(0, 3.0), trial(1, None, LOST)]) is None


def test_where_nothing_keeps_them_an_unmeasured_speed_will_do() -> None:
    assert worth_restoring([trial(1, None, LOST)]) == trial(1, None, LOST)
    assert worth_restoring([]) is None


def test_a_study_keeps_what_was_restored(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason='pip install "pytest-edgeai[search]"')
    study = open_study(tmp_path)
    assert restored_of(study) == ()
    entry = {"trial": to_json(trial(7, 2.0)), "layers": ["conv1"], "of": "onnxruntime-int8-static"}
    study.keep(KEPT, [entry])
    (found,) = restored_of(open_study(tmp_path))
    assert found.layers == ("conv1",)
    assert found.trial == trial(7, 2.0)
