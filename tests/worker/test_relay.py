"""Two workers that hand over to each other, and what happens where one of them cannot."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from pytest_edgeai.errors import EdgeAIError, WorkerFailure
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples
from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.measure.latency import interleave
from pytest_edgeai.measure.relay import Relay, relay
from pytest_edgeai.measure.relayed import RelayedRounds
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.measure.timed import CallTimes
from pytest_edgeai.records import PairedTimings, RuntimeOptions
from pytest_edgeai.selfcheck.planted import PlantedModel
from pytest_edgeai.selfcheck.workload import Workshop
from pytest_edgeai.worker.host import WorkerSpec

Load = Callable[[str], LoadedRunnable]
TURNS = [(0, 2), (1, 3), (1, 1), (0, 1), (1, 2), (0, 4)]

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")


def run_alone(relay: Relay, turns: Sequence[tuple[int, int]]) -> list[CallTimes]:
    """Take a series with nothing ordered after it, and return the times of its turns."""
    relay.order(turns)
    return relay.taken()[0]


def run_together(relay: Relay, *series: Sequence[tuple[int, int]]) -> None:
    """Order all of the series, then take them."""
    for turns in series:
        relay.order(turns)
    for turns in series:
        assert len(relay.taken()[0]) == len(turns)


def order_again_and_again(relay: Relay, *series: Sequence[tuple[int, int]]) -> None:
    """Order for 20 s, the last one again and again, and take none."""
    for turns in series:
        relay.order(turns)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        relay.order(series[-1])
        time.sleep(0.1)


def interleaved(
    models: Sequence[LoadedRunnable],
    rounds: Rounds,
    *,
    decided: Callable[[PairedTimings], bool],
    most_rounds: float = math.inf,
) -> tuple[PairedTimings, bool]:
    """Add rounds of two models on a quiet machine."""
    baseline, candidate = models
    return interleave(
        baseline,
        candidate,
        rounds,
        decided=decided,
        is_contended=lambda _: False,
        budget_s=60.0,
        generator=random.Random(1),
        progress=lambda count, seconds: None,
        most_rounds=most_rounds,
    )


@pytest.fixture
def load(make_spec: Callable[..., WorkerSpec], tmp_path: Path) -> Iterator[Load]:
    """Return a function that loads a model whose third call does what it is told to."""
    np.save(tmp_path / "x.npy", np.ones((4, 2), dtype=np.float32))
    samples = Samples({"x": str(tmp_path / "x.npy")}, 4, Batching(1, fixed=False))
    spec = make_spec("FailsWhenCalled")
    with ExitStack() as stack:

        def loaded(how: str, time_limit_s: float = 30.0) -> LoadedRunnable:
            (tmp_path / how).touch()
            runnable = Runnable(
                spec.framework, spec.interpreter, tmp_path / how, RuntimeOptions(threads=1)
            )
            model = LoadedRunnable(runnable, samples, time_limit_s=time_limit_s)
            stack.callback(model.close)
            return model

        yield loaded


def test_every_turn_has_its_calls_and_none_overlaps_another(tmp_path: Path) -> None:
    model = PlantedModel(repetitions=200)
    with Workshop(tmp_path).loaded(model, model) as models, relay(models) as handing_over:
        assert handing_over is not None
        for _ in range(3):
            begin = time.perf_counter_ns()
            times = run_alone(handing_over, TURNS)
            spent_ns = time.perf_counter_ns() - begin
            assert [len(each.wall_ns) for each in times] == [calls for _, calls in TURNS]
            assert 0 < sum(int(each.wall_ns.sum()) for each in times) <= spent_ns


@pytest.mark.parametrize("call_ns", [1e3, 1e9], ids=["ahead", "one-by-one"])
def test_rounds_are_counted_placed_and_ordered_as_those_that_are_ordered_one_by_one(
    tmp_path: Path, call_ns: float
) -> None:
    model = PlantedModel(repetitions=1)
    rounds = Rounds.of(2)
    with Workshop(tmp_path).loaded(model, model) as models, relay(models) as handing_over:
        assert handing_over is not None
        relayed = RelayedRounds(
            models, [3, 1], [call_ns, call_ns], rounds, random.Random(5), handing_over
        )
        while len(rounds) < 38:
            relayed.take(38, 7)
        assert not relayed.finish()
        relayed.take(100, 8)
        assert relayed.finish() == (call_ns < 1e6)
    # 38 rounds leave two of their block, which stay on its core.
    count = 40 if call_ns > 1e6 else 45
    assert [len(column) for column in rounds.wall_ns] == [count, count]
    assert [len(column) for column in rounds.lead_in_wall_ns] == [3 * count, count]
    assert set(rounds.order) == {0, 1}
    assert rounds.attempt == [7] * 38 + [8] * (count - 38)
    blocks = [rounds.core[begin : begin + 5] for begin in range(0, count, 5)]
    assert all(len(set(block)) == 1 for block in blocks)


def test_a_question_that_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    """The consistency of latency is looked at with each doubling of the rounds only."""
    model = PlantedModel(repetitions=1)
    rounds = Rounds.of(2)
    answers = iter([False, True])
    with Workshop(tmp_path).loaded(model, model) as models:
        timings, spent = interleaved(models, rounds, decided=lambda _: next(answers))
    assert not spent
    # Those that were ordered ahead of the second answer are kept.
    assert timings.rounds == len(rounds) == 15


def test_no_round_is_ordered_ahead_of_the_last(tmp_path: Path) -> None:
    model = PlantedModel(repetitions=1)
    rounds = Rounds.of(2)
    with Workshop(tmp_path).loaded(model, model) as models:
        for expected in (10, 17):
            timings, spent = interleaved(
                models, rounds, decided=lambda _: False, most_rounds=expected - len(rounds)
            )
            assert not spent
            assert timings.rounds == expected
    assert rounds.attempt == [0] * 10 + [1] * 7


@pytest.mark.parametrize("first", [0, 1])
def test_a_series_that_was_ordered_ahead_begins_when_the_one_before_has_ended(
    tmp_path: Path, first: int
) -> None:
    """Were two turns taken at once, the calls would take longer than the time that went by."""
    model = PlantedModel(repetitions=2000)
    series = [[(0, 2), (1, 3)], [(first, 4), (1 - first, 1)], [(0, 1), (1, 1), (0, 3)]]
    with Workshop(tmp_path).loaded(model, model) as models, relay(models) as handing_over:
        assert handing_over is not None
        run_alone(handing_over, TURNS)
        begin = time.perf_counter_ns()
        for turns in series:
            handing_over.order(turns)
        spent_ns = 0
        for turns in series:
            times, placed = handing_over.taken()
            assert placed
            assert [len(each.wall_ns) for each in times] == [calls for _, calls in turns]
            spent_ns += sum(int(each.wall_ns.sum()) for each in times)
        assert 0 < spent_ns <= time.perf_counter_ns() - begin
        assert [len(each.wall_ns) for each in run_alone(handing_over, TURNS)] == [
            c for _, c in TURNS
        ]


@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize(("how", "words"), [("ends", "exited with code 3"), ("raises", "enough")])
def test_what_was_ordered_ahead_of_a_failure_is_lost_and_nothing_hangs(
    load: Load, broken: int, how: str, words: str
) -> None:
    models = [load("works"), load("works")]
    models[broken] = load(how)
    with relay(models) as handing_over:
        assert handing_over is not None
        begin = time.monotonic()
        # The process may have ended before the last series is ordered.
        with pytest.raises(WorkerFailure, match=words):
            run_together(handing_over, [(0, 1), (1, 1)], TURNS, TURNS)
        assert time.monotonic() - begin < 20
    assert models[1 - broken].alive
    assert len(models[1 - broken].time_calls(2).wall_ns) == 2


@pytest.mark.parametrize("broken", [0, 1])
def test_a_process_that_ended_before_a_series_is_ordered_leaves_the_other_usable(
    load: Load, broken: int
) -> None:
    models = [load("works"), load("works")]
    models[broken] = load("ends")
    with relay(models) as handing_over:
        assert handing_over is not None
        with pytest.raises(WorkerFailure, match="exited with code 3"):
            order_again_and_again(handing_over, [(0, 1), (1, 1)], TURNS)
    for _ in range(2):
        assert len(models[1 - broken].time_calls(2).wall_ns) == 2


@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize(("how", "words"), [("ends", "exited with code 3"), ("raises", "enough")])
def test_what_went_wrong_is_told_of_the_model_that_it_happened_to(
    load: Load, broken: int, how: str, words: str
) -> None:
    models = [load("works"), load("works")]
    models[broken] = load(how)
    with relay(models) as handing_over:
        assert handing_over is not None
        begin = time.monotonic()
        with pytest.raises(WorkerFailure, match=words):
            run_alone(handing_over, TURNS)
        assert time.monotonic() - begin < 20


def test_a_call_that_hangs_is_ended_and_told(load: Callable[..., LoadedRunnable]) -> None:
    models = [load("works", 4.0), load("hangs", 4.0)]
    with relay(models) as handing_over:
        assert handing_over is not None
        with pytest.raises(WorkerFailure, match="no answer within 4 s"):
            run_alone(handing_over, TURNS)
    assert [model.alive for model in models] == [True, False]


def test_a_series_that_broke_off_leaves_no_turn_to_the_next(load: Load) -> None:
    models = [load("works"), load("raises")]
    with relay(models) as handing_over:
        assert handing_over is not None
        with pytest.raises(EdgeAIError):
            run_alone(handing_over, TURNS)
        times = run_alone(handing_over, TURNS)
        assert [len(each.wall_ns) for each in times] == [calls for _, calls in TURNS]


def test_one_model_alone_and_three_have_nobody_to_hand_over_to(load: Load) -> None:
    for count in (1, 3):
        with relay([load("works") for _ in range(count)]) as handing_over:
            assert handing_over is None
