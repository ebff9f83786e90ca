from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from models import dynamic_batch, fixed_batch, write_project

from pytest_edgeai.manifest import read_manifest
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.preparation import prepare_model
from pytest_edgeai.provenance import data_record, input_record
from pytest_edgeai.shipped import GATES
from pytest_edgeai.specification import Catalogue

KNOWN = Catalogue(FRAMEWORKS, TARGETS, METRICS, GATES)


@pytest.mark.parametrize(
    ("plant", "not_finite", "least", "most"),
    [
        (None, 0, 1.0, 2.0),
        (1000.0, 0, 100.0, 1000.0),
        (np.nan, 3, 1.0, 2.0),
        (np.inf, 3, 1.0, 2.0),
    ],
)
def test_values_of_the_calibration_data_are_looked_at(
    tmp_path: Path, plant: float | None, not_finite: int, least: float, most: float
) -> None:
    project = dynamic_batch(tmp_path, n=200)
    arrays = dict(np.load(project.calibration))
    if plant is not None:
        arrays["features"][:3, 0] = plant
        np.savez(project.calibration, **arrays)
    manifest = read_manifest(write_project(tmp_path, [project]), KNOWN)
    model = prepare_model(manifest.models[0], KNOWN, manifest, tmp_path / "scratch")
    record = input_record(model)
    assert record["samples_per_call"] == 1
    assert record["batch_is_open"] is True
    assert record["not_finite"] == not_finite
    assert least < record["outlier_ratio"] < most
    assert data_record(model)["calibration"]["samples"] == len(arrays["features"])


def test_a_model_that_prescribes_its_batch_leaves_it_to_nobody(tmp_path: Path) -> None:
    project = fixed_batch(tmp_path, batch=4, n=202)
    path = write_project(tmp_path, [project])
    lines = [line for line in path.read_text().splitlines() if not line.startswith("calibration")]
    path.write_text("\n".join(lines))
    manifest = read_manifest(path, KNOWN)
    record = input_record(prepare_model(manifest.models[0], KNOWN, manifest, tmp_path / "scratch"))
    assert record == {
        "samples_per_call": 4,
        "batch_is_open": False,
        "not_finite": None,
        "outlier_ratio": None,
    }
