from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from promotions import HOST, PROVENANCE, build, report_of

from pytest_edgeai.promote.documents import describer
from pytest_edgeai.records import LatencySummary, Recipe, RuntimeOptions, Stage, Verdict, to_json
from pytest_edgeai.report.content import CandidateReport, ModelReport
from pytest_edgeai.rollout_records import RolloutPolicy

STAGE = Stage(
    name="quantized",
    framework="openvino",
    runtime=RuntimeOptions(threads=1),
    latency=LatencySummary(60, 4e6, 5e6, 6e6, 4e6, 1, 1),
    size_bytes=7006,
    metric="accuracy",
    score=0.99,
    memory_bytes=1 << 20,
)


def documents(candidate: CandidateReport, model: ModelReport) -> dict[str, str]:
    assert candidate.artifact is not None
    made = describer(report_of(candidate, model), model, candidate, candidate.artifact, PROVENANCE)
    return dict(made({"artifact/model.xml": "0a" * 32, "artifact/model.bin": "0b" * 32}))


@pytest.fixture(name="said")
def said_fixture(tmp_path: Path) -> dict[str, str]:
    candidate, model = build(tmp_path)
    return documents(dataclasses.replace(candidate, stages=(STAGE,)), model)


def test_the_bill_of_materials_keeps_to_its_schema(said: dict[str, str]) -> None:
    pytest.importorskip(
        "cyclonedx.validation.json",
        reason='needs: pip install "cyclonedx-python-lib[json-validation]"',
    )
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(said["bom.cdx.json"]) is None
    assert validator.validate_str(said["bom.cdx.json"].replace('"data"', '"date"')) is not None


def test_the_bill_of_materials_names_files_data_and_tools(said: dict[str, str]) -> None:
    bom = json.loads(said["bom.cdx.json"])
    subject = bom["metadata"]["component"]
    assert {each["name"]: each["hashes"][0]["content"] for each in subject["components"]} == {
        "artifact/model.xml": "0a" * 32,
        "artifact/model.bin": "0b" * 32,
    }
    metrics = subject["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[1] == {
        "type": "speedup (ratio)",
        "value": "2",
        "confidenceInterval": {"lowerBound": "1.9", "upperBound": "2.1"},
    }
    materials = {each["bom-ref"]: each for each in bom["components"]}
    assert set(materials) == {
        f"baseline:{'d1' * 32}", "data:evaluation", "tool:openvino", "tool:python"
    }  # fmt: skip
    assert materials["tool:openvino"]["purl"] == "pkg:pypi/openvino@2025.3.0"
    assert "purl" not in materials["tool:python"]
    assert bom["dependencies"][0]["dependsOn"] == list(materials)


def test_the_card_shows_what_was_measured(said: dict[str, str]) -> None:
    card = said["README.md"]
    assert card.startswith("# digits: openvino-int8-static\n")
    for part in ("speedup", "accuracy_retained", "300 samples", "da" * 32, HOST.cpu_model):
        assert part in card


def test_the_descriptor_says_what_to_load_and_what_to_expect(said: dict[str, str]) -> None:
    descriptor = json.loads(said["deployment.json"])
    assert descriptor["schema"] == "pytest-edgeai/deployment/1"
    assert descriptor["packaging"]["load"] == "artifact/model.xml"
    assert descriptor["framework"]["runtime"]["threads"] == 1
    assert descriptor["measured"]["p99_ns"] == 6e6
    assert descriptor["measured"]["memory_bytes"] == 1 << 20
    assert descriptor["rollback"]["command"][-2:] == ["digits", "intel"]


def test_what_was_not_measured_is_null_and_phones_have_limits(tmp_path: Path) -> None:
    candidate, model = build(tmp_path)
    assert candidate.artifact is not None
    folder = dataclasses.replace(candidate.artifact, path=tmp_path, size_bytes=60_000_000)
    phone = dataclasses.replace(
        candidate, target="arm-mobile", artifact=folder, recipe=Recipe("llamacpp", "q4_k_m")
    )
    descriptor = json.loads(documents(phone, model)["deployment.json"])
    assert descriptor["measured"]["p50_ns"] is None
    assert descriptor["packaging"]["load"] == "artifact"
    assert descriptor["packaging"]["fits"] == {"ios": False, "android": True}


def test_markdown_of_others_stays_text(tmp_path: Path) -> None:
    candidate, model = build(tmp_path)
    odd = dataclasses.replace(model, name="<b>|x", task="a\n# b")
    card = documents(candidate, odd)["README.md"]
    assert "<b>" not in card
    assert "\n# b" not in card


def test_the_same_promotion_gives_the_same_bytes(tmp_path: Path) -> None:
    once, again = (documents(*build(tmp_path)) for _ in range(2))
    assert once == again
    assert len({hashlib.sha256(text.encode()).digest() for text in once.values()}) == len(once)


def test_an_edge_server_gets_a_roll_out_and_a_phone_none(said: dict[str, str]) -> None:
    plan = json.loads(said["rollout.json"])
    stages = plan["strategies"]["gradual_ramp"]["stages"]
    assert [stage["share_ratio"] for stage in stages] == [0.1, 0.25, 0.5, 1.0]
    assert plan["rollback"]["command"][-2:] == ["digits", "intel"]
    assert plan["simulated"] is None


def test_a_roll_out_states_what_its_simulation_showed(tmp_path: Path) -> None:
    candidate, model = build(tmp_path)
    details = {"policy": to_json(RolloutPolicy(shares=(1.0,))), "runs": [{"end": "completed"}]}
    simulated = Verdict(
        "rollout", "pass", 0.0, None, None, 0.0, "at_most", "faults", 9, "Fine.", details=details
    )
    plan = json.loads(
        documents(dataclasses.replace(candidate, verdicts=(simulated,)), model)["rollout.json"]
    )
    assert plan["strategies"]["gradual_ramp"]["stages"] == [{"share_ratio": 1.0, "requests": 30}]
    assert plan["simulated"] == {"outcome": "pass", "runs": [{"end": "completed"}]}
    assert "rollout.json" not in documents(
        dataclasses.replace(candidate, target="arm-mobile"), model
    )
