"""Planted models do what they say."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import OptimizeRequest
from pytest_edgeai.records import Recipe, RuntimeOptions
from pytest_edgeai.selfcheck.planted import (
    CLASSES,
    COMMON_CLASS,
    RARE_CLASS,
    LoadedPlanted,
    Planted,
    PlantedModel,
    prototypes,
)


class Counter:
    """A matrix that counts the products it takes part in."""

    def __init__(self) -> None:
        self.products = 0

    def __array_ufunc__(self, *arguments: object, **keywords: object) -> None:
        self.products += 1


def products(model: PlantedModel, calls: int) -> list[int]:
    """Return how many products each call computes."""
    loaded = LoadedPlanted(model)
    counter = Counter()
    loaded._right = counter
    call = loaded.bind({})
    counts = []
    for _ in range(calls):
        before = counter.products
        call()
        counts.append(counter.products - before)
    return counts


def scores(model: PlantedModel, x: NDArray[Any]) -> NDArray[Any]:
    loaded = LoadedPlanted(model)
    return np.concatenate([loaded.run({"x": row[np.newaxis]})["scores"] for row in x])


def test_the_work_is_as_planted() -> None:
    assert products(PlantedModel(repetitions=20), 3) == [20, 20, 20]
    slow = products(PlantedModel(repetitions=20, slow_calls=2, slow_factor=3), 4)
    assert slow == [60, 60, 20, 20]
    tail = products(PlantedModel(repetitions=5, tail_every=10, tail_factor=4), 2000)
    assert set(tail) == {5, 20}
    assert 150 <= tail.count(20) <= 250
    regular = PlantedModel(repetitions=5, tail_every=10, tail_factor=4, tail_regular=True)
    assert products(regular, 40) == [*[5] * 9, 20] * 4
    drift = products(PlantedModel(repetitions=20, drift_calls=10), 21)
    assert (drift[0], drift[10], drift[20]) == (20, 30, 40)
    assert drift == sorted(drift)


def test_memory_is_held_and_leaks_as_planted() -> None:
    tracemalloc.start()
    try:
        model = LoadedPlanted(PlantedModel(ballast_bytes=1 << 20, leak_bytes=1 << 16))
        held = tracemalloc.get_traced_memory()[0]
        assert held >= 1 << 20
        for _ in range(10):
            model.run({"x": prototypes()})
        assert tracemalloc.get_traced_memory()[0] - held >= 10 << 16
        model.close()
        assert tracemalloc.get_traced_memory()[0] < 1 << 19
    finally:
        tracemalloc.stop()


def test_answers_are_as_planted() -> None:
    x = prototypes()
    right = scores(PlantedModel(), x)
    assert right.argmax(axis=1).tolist() == list(range(CLASSES))
    assert (scores(PlantedModel(answers="constant"), x) == 1).all()
    assert np.isnan(scores(PlantedModel(answers="nan"), x)).all()
    assert (scores(PlantedModel(answers="mode"), x).argmax(axis=1) == COMMON_CLASS).all()
    late = scores(PlantedModel(answers="last-call"), x).argmax(axis=1)
    assert late.tolist() == [0, *range(CLASSES - 1)]
    dead = scores(PlantedModel(answers="dead-class"), x).argmax(axis=1)
    assert RARE_CLASS not in dead
    assert dead[:RARE_CLASS].tolist() == list(range(RARE_CLASS))


def test_a_file_is_the_model(tmp_path: Path) -> None:
    framework = Planted()
    model = PlantedModel(repetitions=40, answers="mode")
    loaded = framework.load(model.write(tmp_path / "m.json"), RuntimeOptions())
    assert loaded._model == model
    assert framework.load_null_model(RuntimeOptions()).execution().executed_devices == ("CPU",)
    broken = PlantedModel(loads=False).write(tmp_path / "broken.json")
    with pytest.raises(ModelError, match="cannot be loaded"):
        framework.load(broken, RuntimeOptions())
    request = OptimizeRequest(broken, Recipe("planted", "convert"), "other", (), None, tmp_path)
    with pytest.raises(ModelError, match="not made"):
        framework.optimize(request, lambda what, share: None)
