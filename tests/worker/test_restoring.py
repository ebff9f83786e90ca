"""Layers are restored until retention holds, with real frameworks and a planted outlier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from model_parts import require
from models import write_project
from networks import small_cnn
from sensitive_models import plant_outlier

from pytest_edgeai.assess.hardware import read_host
from pytest_edgeai.configuration import resolve
from pytest_edgeai.deciding import decide_precision_proof
from pytest_edgeai.errors import ModelError
from pytest_edgeai.files import LOCK_DIRECTORY_VARIABLE
from pytest_edgeai.manifest import read_manifest
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.progress import Progress
from pytest_edgeai.records import Recipe, Threshold
from pytest_edgeai.restoring import layer_option, layer_sensitivity, restore_layers
from pytest_edgeai.session import open_session
from pytest_edgeai.shipped import GATES
from pytest_edgeai.specification import Catalogue
from pytest_edgeai.workbench import Workbench

require("onnxruntime", "onnx")
CATALOGUE = Catalogue(FRAMEWORKS, TARGETS, METRICS, GATES)
Open = Callable[..., Workbench]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two convolutions with an outlier between them, and data that INT8 then gets wrong."""
    folder = tmp_path_factory.mktemp("project")
    made = small_cnn(folder, width=12, size=16, n=300)
    plant_outlier(made.model, "conv1_w", "conv2_w")
    return made


@pytest.fixture
def opened(project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open a session in which the evaluation data are selection data."""
    # Nothing here is timed, so that it need not wait for what others measure.
    monkeypatch.setenv(LOCK_DIRECTORY_VARIABLE, str(tmp_path))
    benches: list[Workbench] = []

    def make(framework: str) -> Workbench:
        place = project.model.parent
        manifest_path = write_project(place, [project])
        manifest = read_manifest(manifest_path, CATALOGUE)
        settings = resolve(
            {"edge_target": ["cross"], "edge_framework": [framework]},
            {},
            {},
            manifest_path=manifest_path,
            invocation_directory=place,
        )
        session = open_session(
            settings,
            CATALOGUE,
            manifest,
            read_host(),
            choose_recipes=lambda model, facts, framework, target: None,
            run_id="run",
            cache_directory=tmp_path / "cache",
        )
        benches.append(Workbench(session, Progress(None)))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.mark.parametrize("framework", ["onnxruntime", "openvino"])
def test_the_harmful_layers_are_restored(opened: Open, framework: str) -> None:
    if framework == "openvino":
        require("openvino", "intel")
        require("nncf", "intel")
    bench = opened(framework)
    candidate = bench.session.candidates[0]
    assert candidate.recipe.scheme == "int8-static"
    option = layer_option(candidate, bench)
    found = restore_layers(bench, candidate, retained_more_than=0.9, time_box_s=240)
    assert found.holds
    assert found.ended == "retention holds"
    assert found.judged_by == "interval"
    assert [step.restored for step in found.history][:2] == [0, 1]
    assert not found.history[0].holds
    assert found.history[0].retained is not None
    assert found.history[0].retained < 0.9
    chosen = next(step for step in found.history if step.restored == len(found.restored))
    assert chosen.holds
    assert chosen.low is not None
    assert chosen.low >= 0.9
    assert chosen.size_bytes > found.history[0].size_bytes
    assert found.sensitivity is not None
    assert found.sensitivity.from_data == "selection"
    layers = [each.layer for each in found.sensitivity.layers]
    assert list(found.restored) == layers[: len(found.restored)]
    assert any("conv" in name.lower() for name in found.restored)
    assert len(found.restored) < len(layers)
    assert found.recipe.options[option] == list(found.restored)
    assert found.recipe.id.startswith(f"{candidate.recipe.id}-kept{len(found.restored)}-")
    record = bench.evidence.read_record(f"cnn/{candidate.recipe.id}/sensitivity")
    assert record is not None
    # What was restored is no false claim of INT8, and the claim still holds for the rest.
    restored = replace(candidate, recipe=found.recipe, node=found.recipe.id)
    proof = decide_precision_proof(bench, restored, Threshold(0.75, "at_least", "default"))
    assert proof.outcome == "pass"
    assert proof.details["left_out_elements"] > 0


def test_nothing_is_restored_where_retention_holds(opened: Open) -> None:
    bench = opened("onnxruntime")
    found = restore_layers(bench, bench.session.candidates[0], retained_more_than=0.01)
    assert found.restored == ()
    assert found.recipe is bench.session.candidates[0].recipe
    assert found.sensitivity is None
    assert [step.restored for step in found.history] == [0]


def test_what_cannot_be_reached_is_said(opened: Open) -> None:
    """No candidate retains twice the baseline's accuracy."""
    bench = opened("onnxruntime")
    candidate = bench.session.candidates[0]
    found = restore_layers(bench, candidate, retained_more_than=2.0, most=2)
    assert not found.holds
    assert found.ended == "most layers"
    assert [step.restored for step in found.history] == [0, 1, 2]
    best = max(step.retained or 0 for step in found.history)
    assert found.history[len(found.restored)].retained == best
    late = restore_layers(
        bench, candidate, retained_more_than=2.0, time_box_s=0.0, ranking=found.sensitivity
    )
    assert late.ended == "time box"


def test_calibration_data_rank_where_there_is_no_selection(opened: Open) -> None:
    bench = opened("onnxruntime")
    ranking = layer_sensitivity(bench, bench.session.candidates[0])
    assert ranking.from_data == "calibration"
    assert ranking is layer_sensitivity(bench, bench.session.candidates[0])
    noise = [each.noise_ratio for each in ranking.layers]
    assert noise == sorted(noise, reverse=True)
    assert {each.measured_with for each in ranking.layers} == {1}


def test_full_precision_has_nothing_to_restore(opened: Open) -> None:
    bench = opened("onnxruntime")
    plain = replace(bench.session.candidates[0], recipe=Recipe("onnxruntime", "convert"))
    with pytest.raises(ModelError, match="no option for layers that stay at full precision"):
        restore_layers(bench, plain, retained_more_than=0.9)
