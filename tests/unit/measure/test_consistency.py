from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_edgeai.measure.agreement import decisions
from pytest_edgeai.measure.bench import LoadedRunnable
from pytest_edgeai.measure.consistency import (
    Compared,
    TensorAnswers,
    compare_conditions,
    conditions,
    distance,
)
from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.selfcheck.planted import PlantedModel
from pytest_edgeai.selfcheck.workload import TIME_LIMIT_S, Workshop

OPEN = Batching(1, fixed=False)


def asked(batching: Batching | None, samples: int = 64, *, is_long: bool = False) -> list[str]:
    found = conditions(batching, samples=samples, threads=1, cores=8, is_long=is_long)
    return [condition.what for condition in found]


def test_a_model_with_an_open_batch_is_asked_in_all_ways() -> None:
    assert asked(OPEN) == [
        "again in the same order",
        "in another order",
        "batches of 3",
        "batches of 8",
        "batches of 32",
        "batches of 32 in another order",
        "in a fresh process",
        "with 2 threads",
        "with 4 threads",
    ]
    assert len(asked(OPEN, is_long=True)) == 11


@pytest.mark.parametrize("batching", [None, Batching(None, True), Batching(4, True)])
def test_a_batch_that_is_fixed_stays(batching: Batching | None) -> None:
    assert not any("batches" in what for what in asked(batching))


def test_batches_hold_no_more_than_there_is_and_threads_no_more_than_cores() -> None:
    assert [what for what in asked(OPEN, 5) if "batches" in what] == [
        "batches of 3",
        "batches of 3 in another order",
    ]
    found = conditions(OPEN, samples=5, threads=2, cores=1, is_long=False)
    assert [c.threads for c in found if c.kind == "threads"] == [1]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


def compared(workshop: Workshop, model: PlantedModel, folder: Path) -> Compared:
    """Ask a planted model about 40 samples under all conditions but threads."""
    samples = workshop.evaluation().samples
    arrays = {name: np.load(path)[:40] for name, path in samples.arrays.items()}
    chosen = conditions(OPEN, samples=40, threads=1, cores=1, is_long=False)
    runnable = workshop.runnable(model)

    def load(threads: int | None) -> LoadedRunnable:
        return LoadedRunnable(runnable, samples, time_limit_s=TIME_LIMIT_S)

    loaded = load(None)
    try:
        return compare_conditions(
            lambda: loaded,
            load,
            [c for c in chosen if c.kind != "threads"],
            TensorAnswers(arrays, OPEN, folder / "inputs", seed=1),
            folder / "outputs",
            decide=lambda outputs: decisions({"scores": outputs["scores"]}),
            progress=lambda what, done: None,
        )
    finally:
        loaded.close()


def test_right_answers_are_the_same_in_the_order_of_the_samples(
    workshop: Workshop, tmp_path: Path
) -> None:
    found = compared(workshop, PlantedModel(), tmp_path)
    assert len(found.answers) == 7
    assert all(value < 1e-5 for each in found.answers for value in each.apart.values())
    assert all(each.changed_decisions == 0 for each in found.answers)
    assert {len(array) for array in found.raw.values()} == {40}
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["first"]


def test_the_answer_of_the_call_before_is_found_in_another_order(
    workshop: Workshop, tmp_path: Path
) -> None:
    found = compared(workshop, PlantedModel(answers="last-call"), tmp_path)
    other_order = next(each for each in found.answers if each.what == "in another order")
    assert other_order.apart["scores"] > 0.5
    assert other_order.changed_decisions > 10
    assert other_order.widest_margin > 0.1


def test_nan_that_stays_nan_is_the_same(workshop: Workshop, tmp_path: Path) -> None:
    found = compared(workshop, PlantedModel(answers="nan"), tmp_path)
    assert all(each.apart["scores"] == 0.0 for each in found.answers)


def test_distance_skips_what_cannot_be_compared() -> None:
    own = {"y": np.asarray([[1.0], [np.nan]]), "z": np.zeros((2, 2))}
    other = {"y": np.asarray([[3.0], [1.0]]), "z": np.zeros((2, 3))}
    assert distance(own, other, {"y": 2.0, "z": 1.0}) == {"y": 1.0}
