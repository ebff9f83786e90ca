"""Advice and ``--edge-fix``, end to end: real candidates made by bad recipes."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from advice_cases import SITUATION, SLOW
from edge_runs import QUICK, Place, Run
from model_parts import Project
from models import dynamic_batch, small_cnn
from onnx import numpy_helper

from pytest_edgeai.judge.advice import advise
from pytest_edgeai.records import PrecisionFacts, Recipe

QUALITY = ("-k", "retained or sanity or precision")
DYNAMIC = """
[[models.cnn.recipes]]
framework = "onnxruntime"
scheme = "int8-dynamic"
"""
PER_TENSOR = """
[[models.giant.recipes]]
framework = "onnxruntime"
scheme = "int8-static"
options = { per_channel = false }
"""


ARTIFACTS = """
[[models.cnn.recipes]]
framework = "onnxruntime"
scheme = "int8-dynamic"
label = "convolutions"
options = { op_types = ["Conv", "MatMul"] }

[[models.cnn.recipes]]
framework = "onnxruntime"
scheme = "int8-static"

[[models.cnn.recipes]]
framework = "onnxruntime"
scheme = "int8-static"
label = "types"
options = { activation_type = "int8", weight_type = "uint8" }

[[models.cnn.recipes]]
framework = "openvino"
scheme = "int8-static"

[[models.cnn.recipes]]
framework = "openvino"
scheme = "int8-weights"
"""


def rewrite(path: Path, **arrays: Any) -> None:
    kept = dict(np.load(path))
    np.savez(path, **{**kept, **arrays})


def convolutional(directory: Path) -> Project:
    """Convolutions, which dynamic quantization leaves in float."""
    return small_cnn(directory, name="cnn", width=16, n=200, size=16)


def with_outlier(directory: Path) -> Project:
    """A classifier whose calibration data holds one value of 2,000 among values of 1."""
    project = replace(dynamic_batch(directory, n=400), name="outlier")
    features = np.load(project.calibration)["features"]
    features[0, 0] = 2000.0
    rewrite(project.calibration, features=features)
    return project


def with_giant_weight(directory: Path) -> Project:
    """A classifier with one weight of 500 among weights of 1, of an input that is always 0."""
    project = replace(dynamic_batch(directory, n=400), name="giant")
    for path in (project.data, project.calibration):
        features = np.load(path)["features"]
        features[:, 0] = 0.0
        rewrite(path, features=features)
    model = onnx.load(project.model)
    for tensor in model.graph.initializer:
        if tensor.name == "hidden_w":
            weights = numpy_helper.to_array(tensor).copy()
            weights[0, 0] = 500.0
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    onnx.save(model, project.model)
    return project


def candidate(run: Run, model: str) -> dict[str, Any]:
    (found,) = [each for each in run.report["models"] if each["name"] == model]
    made: dict[str, Any] = found["candidates"][0]
    return made


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, ...]:
    makers = {"cnn": convolutional, "outlier": with_outlier, "giant": with_giant_weight}
    made = []
    for name, make in makers.items():
        project = make(tmp_path_factory.mktemp(name))
        # The copies in the user's project lie in one folder.
        model, data, calibration = (
            path.rename(path.with_name(f"{name}-{path.name}"))
            for path in (project.model, project.data, project.calibration)
        )
        made.append(replace(project, model=model, data=data, calibration=calibration))
    return tuple(made)


def test_bad_recipes_are_fixed_and_the_lines_of_the_fixes_hold(
    place: Place, projects: tuple[Project, ...]
) -> None:
    manifest = place.write(DYNAMIC + PER_TENSOR + QUICK, projects)
    text = manifest.read_text("utf-8")
    run = place.run("--edge-fix", "--edge-fix-budget=120", *QUALITY)
    # What ships is the manifest's own candidate: its verdicts and the exit code stay.
    assert run.code == 1, run.text
    assert manifest.read_text("utf-8") == text

    dynamic = candidate(run, "cnn")
    assert dynamic["recipe"]["scheme"] == "int8-dynamic"
    outcomes = {gate["name"]: gate["outcome"] for gate in dynamic["gates"]}
    assert outcomes["precision_proof"] == "fail"
    top = dynamic["advice"][0]
    assert top["rule"] == "dynamic-on-convolutions"
    assert top["evidence"]["convolutions"] == 2
    assert 'scheme = "int8-static"' in top["manifest_lines"]
    (fix,) = dynamic["fixes"]
    assert fix["kept"]
    assert fix["outcome_after"]["precision_proof"] == "pass"
    assert fix["before"]["precision_proof"][0] < 0.5 < fix["after"]["precision_proof"][0]
    assert "confirm" in fix["note"]

    applied = {"cnn": fix["applied"]}
    for name, rule, option in (
        ("outlier", "calibration-outliers", "calibrate_method"),
        ("giant", "per-channel-missing", "per_channel"),
    ):
        made = candidate(run, name)
        assert made["advice"][0]["rule"] == rule
        kept = [fix for fix in made["fixes"] if fix["kept"]]
        assert kept[0]["rule"] == rule
        assert kept[0]["before"]["accuracy_retained"][0] < 0.9
        assert kept[0]["after"]["accuracy_retained"][0] > 0.9
        (table,) = tomllib.loads("\n".join(kept[0]["applied"]))["models"][name]["recipes"]
        assert option in table["options"]
        assert kept[-1]["outcome_after"]["accuracy_retained"] == "pass"
        assert f"{name} onnxruntime-int8-static: of " in run.text
        applied[name] = kept[-1]["applied"]

    # What a user does with the report: put the lines into the manifest, and run again.
    for old in (DYNAMIC, PER_TENSOR):
        text = text.replace(old, "\n")
    lines = [line for each in applied.values() for line in each]
    manifest.write_text("\n".join([text, *lines, ""]), "utf-8")
    again = place.run(*QUALITY)
    assert again.code == 0, again.text
    for name in applied:
        assert candidate(again, name)["advice"] == []
    assert candidate(again, "cnn")["id"] == fix["candidate"]


def test_advice_comes_without_being_asked_for_and_fixes_do_not(
    place: Place, projects: tuple[Project, ...]
) -> None:
    place.write(DYNAMIC + QUICK, projects[:1])
    run = place.run("-k", "precision")
    made = candidate(run, "cnn")
    assert made["advice"][0]["rule"] == "dynamic-on-convolutions"
    assert made["fixes"] == []
    assert made["profile"] is None
    # A verdict says what to do about its gate, and the advice something else.
    said = {gate["advice"] for gate in made["gates"]}
    assert not said & {each["remedy"] for each in made["advice"]}


def test_nothing_is_fixed_where_nothing_runs(place: Place, projects: tuple[Project, ...]) -> None:
    place.write(DYNAMIC + QUICK, projects[:1])
    run = place.run("--edge-fix", "--edge-plan")
    assert run.code == 0, run.text
    assert "remed" not in run.text


def test_real_artifacts_trigger_the_rules_about_them_and_sound_ones_none(
    place: Place, projects: tuple[Project, ...]
) -> None:
    """The rules about speed, asked as if each of these artifacts had been too slow."""
    pytest.importorskip("nncf", reason='run: pip install "pytest-edgeai[intel]"')
    place.write(ARTIFACTS + QUICK, projects[:1])
    run = place.run("--edge-framework=all", "-k", "precision")
    found = {}
    for index, made in enumerate(run.report["models"][0]["candidates"]):
        (gate,) = made["gates"]
        if gate["outcome"] == "error":
            found[made["id"]] = [each["rule"] for each in made["advice"]]
            continue
        assert gate["outcome"] == "pass", run.text
        recipe = Recipe(**made["recipe"])
        facts = run.candidate(index)["gates"][0]["details"]
        situation = replace(
            SITUATION,
            recipe=recipe,
            verdicts=SLOW,
            precision=PrecisionFacts(
                weight_elements=facts["weight_elements"],
                quantized_operators=facts["quantized_operators"],
                executed_precisions=facts["executed_precisions"],
                claimed_device="CPU",
                executed_devices=tuple(facts["executed_devices"]),
            ),
        )
        rules = [each.rule for each in advise(situation)]
        found[made["id"]] = [rule for rule in rules if rule != "not-profiled"]
    assert found == {
        "onnxruntime-int8-dynamic-convolutions": ["dynamic-on-convolutions"],
        "onnxruntime-int8-static": [],
        "onnxruntime-int8-static-types": ["types-refused"],
        "openvino-int8-static": [],
        "openvino-int8-weights": ["weights-only-computes-in-float"],
    }
