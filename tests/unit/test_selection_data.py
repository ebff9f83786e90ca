"""Which samples choose: the model's own, labelled calibration data, or a stated part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from plan_parts import model_spec

from pytest_edgeai import shipped
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.selection_data import SelectionPlan, plan_selection
from pytest_edgeai.specification import Catalogue, DataSource, ModelSpec, Part

CATALOGUE = Catalogue(FRAMEWORKS, {}, METRICS, shipped.GATES)


def source(folder: Path, name: str, *, labels: bool) -> DataSource:
    path = folder / f"{name}.npz"
    arrays: dict[str, Any] = {"x": np.zeros((4, 2), np.float32)}
    if labels:
        arrays["labels"] = np.zeros(4, np.int64)
    np.savez(path, **arrays)
    return DataSource(path, None, name)


def plan(model: ModelSpec, folder: Path) -> SelectionPlan:
    return plan_selection(model, CATALOGUE, folder, share=0.25)


def test_the_models_own_selection_data_come_first(tmp_path: Path) -> None:
    own = source(tmp_path, "own", labels=True)
    calibration = source(tmp_path, "calibration", labels=True)
    model = replace(model_spec(), selection=own, calibration=calibration)
    found = plan(model, tmp_path)
    assert found.search.data is own
    assert found.gates == model
    assert "own.npz" in found.words


def test_then_labelled_calibration_data(tmp_path: Path) -> None:
    calibration = source(tmp_path, "calibration", labels=True)
    model = replace(model_spec(), calibration=calibration)
    found = plan(model, tmp_path)
    assert found.search.data is calibration
    assert found.gates.part is None


def test_else_a_part_of_the_evaluation_data_that_the_gates_leave_out(tmp_path: Path) -> None:
    for calibration in (None, source(tmp_path, "calibration", labels=False)):
        model = replace(model_spec(), calibration=calibration)
        found = plan(model, tmp_path)
        assert found.search.part == Part("selection", 0.25)
        assert found.gates.part == Part("evaluation", 0.25)
        assert found.search.data == found.gates.data == model.data
        assert found.words.startswith("25% of the evaluation data")


def test_a_metric_without_labels_takes_any_calibration_data(tmp_path: Path) -> None:
    calibration = source(tmp_path, "calibration", labels=False)
    metric = next(m.name for m in METRICS.values() if m.kind == "embedding")
    model = replace(model_spec(), calibration=calibration, metric=metric)
    assert plan(model, tmp_path).search.data is calibration
