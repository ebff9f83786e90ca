from __future__ import annotations

import dataclasses
import tomllib

import pytest

from pytest_edgeai.errors import UserError
from pytest_edgeai.pipeline_file import KEYS, STAGES, SWITCHES, Pipeline
from pytest_edgeai.pipeline_mapping import Model, map_pipeline, notes_of, render_manifest

EVERYTHING = Pipeline(
    switches=dict.fromkeys(SWITCHES, True),
    words={
        "deployment.strategy": "blue_green",
        "deployment.traffic_ramping": "gradual",
        "deployment.rollback": "automatic",
        "deployment.monitoring": "real_time",
    },
    stages=STAGES,
    frameworks=("llama_cpp", "openvino", "microsoft_olive"),
    accuracy=0.95,
)
NOTHING = Pipeline({}, {}, (), (), None)
MODEL = Model("digits", "models/digits.onnx", "image-classification", 'data/"odd" é\x7f.npz')


def test_every_key_of_a_file_ends_up_somewhere() -> None:
    text = render_manifest(map_pipeline(EVERYTHING, "p.yml"), MODEL, "p.yml")
    for key in KEYS:
        assert key in text
    for stage in STAGES:
        assert f"stages: {stage}" in text


def test_what_has_a_counterpart_is_in_the_manifest() -> None:
    manifest = tomllib.loads(render_manifest(map_pipeline(EVERYTHING, "p.yml"), MODEL, "p.yml"))
    assert manifest["settings"] == {"framework": ["llamacpp", "openvino", "olive"]}
    assert manifest["gates"] == {"accuracy_retained": 0.95}
    assert set(manifest["production"]["required"]) == {
        "artifact_security", "dependency_audit", "no_network", "framework_agreement", "load",
        "rollout",
    }  # fmt: skip
    assert manifest["models"]["digits"]["data"] == MODEL.data
    assert set(manifest) == {"models", "settings", "gates", "production"}


def test_without_anything_there_is_a_table_to_fill_in() -> None:
    text = render_manifest(map_pipeline(NOTHING, "p.yml"), None, "p\nforged = 1.yml")
    assert tomllib.loads(text) == {}
    filled = "\n".join(line.removeprefix("# ") for line in text.splitlines()[3:])
    assert set(tomllib.loads(filled)["models"]["NAME"]) == {"path", "task", "data"}


def test_what_is_switched_off_is_left_out_and_told() -> None:
    off = dataclasses.replace(NOTHING, switches=dict.fromkeys(SWITCHES, False))
    mapped = map_pipeline(off, "p.yml")
    assert not mapped.required
    assert "testing.load_tests" in mapped.off
    assert mapped.nothing["model_validation.performance_baseline"] == "it cannot be switched off"
    assert {*mapped.off, *mapped.nothing} == {*SWITCHES}


def test_a_strategy_that_nothing_simulates_is_told() -> None:
    words = {"deployment.strategy": "canary", "deployment.rollback": "manual"}
    mapped = map_pipeline(dataclasses.replace(NOTHING, words=words), "p.yml")
    assert not mapped.required
    assert notes_of(mapped)["Without a counterpart"] == [
        "deployment.strategy: canary: no gate simulates it",
        "deployment.rollback: manual: no gate simulates it",
    ]


def test_a_framework_that_is_unknown_is_one_line() -> None:
    unknown = dataclasses.replace(NOTHING, frameworks=("openvin",))
    with pytest.raises(UserError, match=r'frameworks: unknown framework "openvin".*"openvino"'):
        map_pipeline(unknown, "p.yml")
