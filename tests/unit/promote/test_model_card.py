"""Licences and card of the manifest in the documents of a bundle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from promotions import PROVENANCE, build, report_of

from pytest_edgeai.judge.model_card import SECTIONS
from pytest_edgeai.measure.bom_check import schema_fault
from pytest_edgeai.promote.certificate import Provenance
from pytest_edgeai.promote.documents import describer

DECLARED = dataclasses.replace(
    PROVENANCE,
    license="Apache-2.0 OR MIT",
    data_license="CC-BY-4.0",
    card={**{name: f"The <{name}>." for name in SECTIONS}, "citation": "One.\n\nTwo."},
)


def documents(root: Path, provenance: Provenance) -> tuple[str, str]:
    candidate, model = build(root)
    assert candidate.artifact is not None
    report = report_of(candidate, model)
    made = describer(report, model, candidate, candidate.artifact, provenance)(
        {"artifact/model.xml": "0a" * 32}
    )
    return made["README.md"], made["bom.cdx.json"]


def test_the_card_shows_what_the_manifest_says(tmp_path: Path) -> None:
    card, _ = documents(tmp_path, DECLARED)
    assert "- Licence: Apache-2.0 OR MIT\n- Licence of its training data: CC-BY-4.0\n" in card
    for name in SECTIONS:
        assert f"## {name.replace('_', ' ').capitalize()}\n\nThe &#60;" in card
    assert "## Citation\n\nOne.\n\nTwo.\n\n" in card
    assert "unless somebody says otherwise" not in card


def test_a_card_that_says_nothing_says_so(tmp_path: Path) -> None:
    card, bom = documents(tmp_path, PROVENANCE)
    assert "unless somebody says otherwise" in card
    assert "licenses" not in bom
    assert "considerations" not in bom


def test_the_bill_of_materials_holds_licences_and_considerations(tmp_path: Path) -> None:
    pytest.importorskip(
        "cyclonedx.validation.json",
        reason='needs: pip install "cyclonedx-python-lib[json-validation]"',
    )
    _, text = documents(tmp_path, DECLARED)
    assert schema_fault(text) == ""
    bom = json.loads(text)
    subject = bom["metadata"]["component"]
    assert subject["licenses"] == [{"expression": "Apache-2.0 OR MIT"}]
    assert set(subject["modelCard"]["considerations"]) == {
        "useCases",
        "technicalLimitations",
        "ethicalConsiderations",
    }
    training = next(each for each in bom["components"] if each["bom-ref"] == "data:training")
    assert training["licenses"] == [{"expression": "CC-BY-4.0"}]
    assert training["description"] == "The <training_data>."
    assert {"ref": "data:training"} in subject["modelCard"]["modelParameters"]["datasets"]


def test_a_document_against_the_schema_is_named(tmp_path: Path) -> None:
    pytest.importorskip(
        "cyclonedx.validation.json",
        reason='needs: pip install "cyclonedx-python-lib[json-validation]"',
    )
    _, text = documents(tmp_path, DECLARED)
    assert "date" in schema_fault(text.replace('"data"', '"date"'))
    assert "is no JSON" in schema_fault(text[:-10])
