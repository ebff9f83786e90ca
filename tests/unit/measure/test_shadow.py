from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.measure.shadow import (
    Replay,
    draw_order,
    joined,
    part_sizes,
    replay_tensors,
    windows,
)
from pytest_edgeai.measure.shadow_answers import SameAnswer
from pytest_edgeai.selfcheck.planted import PlantedModel
from pytest_edgeai.selfcheck.workload import Workshop

OPEN = Batching(1, fixed=False)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


def replayed(
    workshop: Workshop, folder: Path, candidate: PlantedModel, *, stop_at: int, budget_s: float = 60
) -> Replay:
    """Replay the planted evaluation data through a right model and ``candidate``."""
    samples = workshop.evaluation().samples
    arrays = {name: np.load(path) for name, path in samples.arrays.items()}
    with workshop.loaded(PlantedModel(), candidate) as (baseline, other):
        found, same = replay_tensors(
            (baseline, other),
            arrays,
            OPEN,
            folder / "scratch",
            choose_same=lambda outputs: SameAnswer("decision", 0.1),
            selected="scores",
            decided=lambda agreement: len(agreement) >= stop_at,
            keeps=True,
            budget_s=budget_s,
            seed=1,
            progress=lambda done: None,
        )
    assert same.kind == "decision"
    assert not (folder / "scratch").exists()
    return found


def test_equal_models_agree_everywhere_and_every_request_comes_once(
    workshop: Workshop, tmp_path: Path
) -> None:
    found = replayed(workshop, tmp_path, PlantedModel(), stop_at=10**6)
    assert sorted(found.order) == list(range(1000))
    assert found.agreement == [1.0] * 1000
    assert found.near_ties == 0
    outputs = joined(found.kept[0])
    assert len(outputs["scores"]) == 1000
    labels = workshop.evaluation().labels[found.order]
    assert (outputs["scores"].argmax(axis=1) == labels).mean() > 0.8, "answers left their requests"


def test_it_stops_as_soon_as_it_is_told_and_has_seen_all_times(
    workshop: Workshop, tmp_path: Path
) -> None:
    found = replayed(workshop, tmp_path, PlantedModel(answers="mode"), stop_at=64)
    assert len(found.order) == 64
    assert found.order == sorted(found.order), "a part is replayed in recorded order"
    assert found.order[0] < 100
    assert found.order[-1] > 900
    assert 0.1 < np.mean(found.agreement) < 0.6


def test_time_that_is_over_ends_it_after_a_part(workshop: Workshop, tmp_path: Path) -> None:
    found = replayed(workshop, tmp_path, PlantedModel(), stop_at=10**6, budget_s=1e-9)
    assert len(found.order) == 64


def test_parts_grow_hold_whole_calls_and_end_with_the_recording() -> None:
    size = part_sizes(1000, 8)
    assert size(0, 0.0) == 64
    assert size(64, 0.01) == 32
    assert size(480, 0.01) == 240
    assert size(990, 0.01) == 10
    assert size(100, 100.0) == 8, "a slow model is asked again within seconds"


def test_the_order_is_drawn_once_for_all() -> None:
    assert np.array_equal(draw_order(50, 3), draw_order(50, 3))
    assert sorted(draw_order(50, 3).tolist()) == list(range(50))


def test_windows_divide_the_recorded_time() -> None:
    times = np.asarray([0.0, 1, 2, 50, 99, 100])
    found = windows(times, np.asarray([5, 0, 1, 4]), np.asarray([0.0, 1.0, 1.0, 1.0]))
    assert [(w.begin_s, w.end_s, w.requests, w.agreement) for w in found] == [
        (0.0, 10.0, 2, 1.0),
        (90.0, 100.0, 2, 0.5),
    ]
    assert windows(np.zeros(4), np.arange(4), np.ones(4)) == ()
