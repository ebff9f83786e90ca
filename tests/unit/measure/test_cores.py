"""Every model of a round runs on the same core, and no core is the only one."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from pytest_edgeai.measure import cores as module
from pytest_edgeai.measure.cores import choose_cores, next_core, place


class Model:
    """Notes where it was put."""

    def __init__(self, *, can: bool = True) -> None:
        self.can = can
        self.where: list[int | None] = []

    def run_on(self, core: int | None) -> bool:
        self.where.append(core)
        return self.can


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: (0, 1, 2, 3))


@pytest.mark.usefixtures("four_cores")
def test_all_models_are_put_on_one_core_and_kept_there() -> None:
    models = (Model(), Model())
    first = place(models, [], [], random.Random(1), keep=False)
    assert place(models, [first], [0.0], random.Random(2), keep=True) == first
    assert models[0].where == models[1].where == [first, first]


@pytest.mark.usefixtures("four_cores")
def test_a_model_that_cannot_be_put_anywhere_is_not_claimed_to_be() -> None:
    models = (Model(), Model(can=False))
    assert place(models, [], [], random.Random(1), keep=False) == -1
    assert place(models, [-1], [0.0], random.Random(1), keep=True) == -1


def test_without_cores_the_scheduler_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: ())
    model = Model()
    assert place((model, model), [], [], random.Random(1), keep=False) == -1
    assert model.where == [None, None]


def test_equal_cores_are_used_alike() -> None:
    generator = random.Random(3)
    used: list[int] = []
    for _ in range(2000):
        core = next_core((0, 1), used, [0.0] * len(used), generator)
        assert core is not None
        used.append(core)
    assert abs(Counter(used)[0] - 1000) < 120


def test_a_busy_core_is_avoided_and_tried_again() -> None:
    generator = random.Random(4)
    used, preempted = [0, 1], [0.9, 0.0]
    for _ in range(1000):
        core = next_core((0, 1), used, preempted, generator)
        assert core is not None
        used.append(core)
        preempted.append(0.9 if core == 0 else 0.0)
    assert 0.08 < used.count(0) / len(used) < 0.18


def system(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="ascii")
    return folder


def test_of_cores_of_several_kinds_the_fast_ones_are_taken(tmp_path: Path) -> None:
    little = {f"cpu{n}/cpu_capacity": "400\n" for n in range(4)}
    big = {f"cpu{n}/cpu_capacity": "1024\n" for n in range(4, 8)}
    assert choose_cores(range(8), system(tmp_path, little | big)) == (4, 5, 6, 7)


def test_turbo_bins_are_one_kind(tmp_path: Path) -> None:
    name = "cpu{}/cpufreq/cpuinfo_max_freq"
    bins = {name.format(n): str(5_000_000 - 100_000 * (n % 2)) for n in range(4)}
    assert choose_cores(range(4), system(tmp_path, bins)) == (0, 1, 2, 3)


def test_one_memory_node_and_eight_cores_at_most(tmp_path: Path) -> None:
    for core in range(32):
        (tmp_path / f"cpu{core}" / f"node{core // 16}").mkdir(parents=True)
    assert choose_cores(range(4, 32), tmp_path) == tuple(range(4, 12))


def test_a_single_core_is_left_alone(tmp_path: Path) -> None:
    assert choose_cores([3], tmp_path) == ()
    assert choose_cores([3, 5], tmp_path / "nothing") == (3, 5)
