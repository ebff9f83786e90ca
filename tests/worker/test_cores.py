"""Workers on the cores that they are told of, by the system's own word for where they may run."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from pytest_edgeai.measure.bench import LoadedRunnable
from pytest_edgeai.measure.cores import cores
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.measure.taking import run_round
from pytest_edgeai.selfcheck.planted import PlantedModel
from pytest_edgeai.selfcheck.workload import Workshop

NO_SUCH_CORE = 1_000_000

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or len(cores()) < 2, reason="processes are put on cores of Linux alone"
)


def allowed(model: LoadedRunnable) -> set[int]:
    return os.sched_getaffinity(model._worker.pid)


def test_a_core_holds_from_the_next_calls_on(tmp_path: Path) -> None:
    one, other = cores()[:2]
    model = PlantedModel(repetitions=1)
    with Workshop(tmp_path).loaded(model, model) as (loaded, _):
        everywhere = allowed(loaded)
        assert loaded.run_on(one)
        assert allowed(loaded) == {one}
        assert loaded.run_on(other)
        assert len(loaded.time_calls(2).wall_ns) == 2
        assert allowed(loaded) == {other}
        assert loaded.run_on(one)
        assert loaded.run_on(None)
        loaded.time_calls(1)
        assert allowed(loaded) == everywhere


def test_a_core_that_is_gone_is_not_asked_for_again(tmp_path: Path) -> None:
    one = cores()[0]
    model = PlantedModel(repetitions=1)
    with Workshop(tmp_path).loaded(model, model) as models:
        everywhere = allowed(models[0])
        for loaded in models:
            assert loaded.run_on(one)
        assert models[0].run_on(NO_SUCH_CORE)
        models[0].time_calls(1)
        assert not models[0].run_on(NO_SUCH_CORE)
        assert not models[0].run_on(one)
        rounds = Rounds.of(2)
        run_round(models, [1, 1], rounds, random.Random(0), 0)
        assert rounds.core == [-1]
        assert models[0].run_on(None)
        assert allowed(models[0]) == everywhere


def test_a_round_is_said_to_have_run_where_it_did(tmp_path: Path) -> None:
    model = PlantedModel(repetitions=1)
    with Workshop(tmp_path).loaded(model, model) as models:
        rounds, generator = Rounds.of(2), random.Random(0)
        for _ in range(30):
            run_round(models, [1, 1], rounds, generator, 0)
            assert {frozenset(allowed(each)) for each in models} == {frozenset({rounds.core[-1]})}
        assert set(rounds.core) <= set(cores())
