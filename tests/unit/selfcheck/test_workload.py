"""Planted work of the wanted length, and data that planted models answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.selfcheck.cases import STEPS
from pytest_edgeai.selfcheck.faults import accuracy
from pytest_edgeai.selfcheck.planted import RARE_CLASS, LoadedPlanted, PlantedModel
from pytest_edgeai.selfcheck.workload import FRAMEWORK, Workshop, repetitions_for


@given(st.floats(1e3, 1e8), st.floats(0, 1e7))
def test_repetitions_are_a_multiple_of_the_steps(call_ns: float, repetition_ns: float) -> None:
    found = repetitions_for(call_ns, repetition_ns)
    assert found >= STEPS
    assert found % STEPS == 0
    if repetition_ns >= 1 and found > STEPS:
        assert abs(found * repetition_ns - call_ns) <= 0.5001 * STEPS * repetition_ns


def test_the_data_has_a_rare_class_and_the_right_model_reads_it(tmp_path: Path) -> None:
    evaluation = Workshop(tmp_path).evaluation()
    x = np.load(evaluation.samples.arrays["x"])
    counts = np.bincount(evaluation.labels)
    assert 3 <= counts[RARE_CLASS] < 0.05 * len(evaluation.labels)
    outputs = LoadedPlanted(PlantedModel()).run({"x": x})
    right = accuracy(outputs, evaluation.labels)
    assert 0.85 < right.mean() < 1
    assert right[evaluation.labels == RARE_CLASS].any()


def test_models_are_files_that_ordinary_workers_load(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "made")
    with workshop.loaded(PlantedModel(repetitions=STEPS), PlantedModel()) as models:
        assert all(model.alive for model in models)
        assert models[0].runnable.framework is FRAMEWORK
        assert len(models[0].time_calls(3).wall_ns) == 3
    assert not any(model.alive for model in models)
