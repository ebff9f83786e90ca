from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from promotions import NOW, PROVENANCE, REPORTS, build, report_of, signed_bundle

from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.promote.bundle import bundle_problems, promote, read_current
from pytest_edgeai.promote.certificate import certifier, predicate
from pytest_edgeai.promote.keys import SigningKey
from pytest_edgeai.promote.statement import parse_statement, render_statement
from pytest_edgeai.promote.verification import read_statement, verify_bundle


def snapshot(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_it_states_what_was_decided_where_and_with_what(bundle: Path, key: SigningKey) -> None:
    said = read_statement(bundle).predicate
    assert said["model"]["sha256"] == "d1" * 32
    assert [gate["name"] for gate in said["gates"]] == ["accuracy_retained", "speedup"]
    speedup = said["gates"][1]
    assert (speedup["outcome"], speedup["interval"], speedup["threshold"]) == (
        "pass",
        [1.9, 2.1],
        1.5,
    )
    assert speedup["threshold_origin"] == "default"
    assert said["data"]["evaluation"] == {"sha256": "da" * 32, "samples": 300}
    assert said["host"]["cpu_model"] == "CPU A"
    assert said["host"]["proxy"] is False
    assert said["versions"] == {"openvino": "2025.3.0", "python": "3.11.7"}
    assert said["evidence"] == {"sha256": "e1" * 32}
    assert said["overrides"] == {
        "allow_proxy": False,
        "settings": {"budget": {"value": "10.0", "origin": "--edge-budget"}},
        "thresholds": {},
    }
    assert said["expires"] == "2027-11-22T03:00:00+00:00"
    assert said["signer"]["keyid"] == key.public.keyid


def test_it_states_thresholds_that_somebody_set_and_a_proxy_that_was_accepted(
    tmp_path: Path, key: SigningKey
) -> None:
    candidate, model = build(tmp_path)
    assert candidate.artifact is not None
    lowered = dataclasses.replace(
        candidate.verdicts[1], outcome="proxy", threshold=1.1, threshold_origin="--edge-threshold"
    )
    artifact = candidate.artifact
    candidate = dataclasses.replace(candidate, verdicts=(candidate.verdicts[0], lowered))
    provenance = dataclasses.replace(PROVENANCE, allow_proxy=True)
    said = predicate(
        report_of(candidate, model),
        model,
        candidate,
        artifact,
        provenance,
        key,
        days=1,
    )
    assert said["overrides"]["allow_proxy"] is True
    assert said["overrides"]["thresholds"] == {"speedup": "--edge-threshold"}


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, key: SigningKey) -> None:
    one = signed_bundle(tmp_path / "one", key)
    two = signed_bundle(tmp_path / "two", key)
    assert one.name == two.name
    assert snapshot(one) == snapshot(two)


def test_its_form_depends_on_no_order() -> None:
    files = {"b": "0" * 64, "a": "1" * 64}
    payload = render_statement(files, {"y": 1, "x": 2})
    assert payload == render_statement(dict(reversed(files.items())), {"x": 2, "y": 1})
    assert [each["name"] for each in json.loads(payload)["subject"]] == ["a", "b"]
    with pytest.raises(ValueError):
        render_statement(files, {"x": float("nan")})
    with pytest.raises(ValueError):
        parse_statement(payload)


def test_a_signed_bundle_is_named_by_its_artifact_and_its_certificate(
    tmp_path: Path, bundle: Path, key: SigningKey
) -> None:
    certificate = hashlib.sha256((bundle / "certificate.json").read_bytes()).hexdigest()
    assert bundle.name.split("-")[1] == certificate[:12]
    assert bundle_problems(bundle) == ()
    current = read_current(bundle.parent)
    assert current is not None
    assert current.bundle == bundle
    assert (current.report / "report.md").is_file()
    before = snapshot(tmp_path / "shelf")
    assert signed_bundle(tmp_path, key) == bundle
    assert snapshot(tmp_path / "shelf") == before


def test_signed_and_unsigned_bundles_of_one_artifact_lie_beside_each_other(
    tmp_path: Path, bundle: Path, key: SigningKey
) -> None:
    candidate, model = build(tmp_path / "artifacts" / b"weights".hex())
    unsigned = promote(candidate, model, REPORTS, tmp_path / "shelf")
    assert unsigned.parent == bundle.parent
    assert bundle.name.startswith(f"{unsigned.name}-")
    verify_bundle(bundle, key.public, now=NOW)
    current = read_current(bundle.parent)
    assert current is not None
    assert current.bundle == unsigned


@pytest.mark.parametrize("name", ["artifact/model.bin", "reports/added", "certificate.json"])
def test_a_signed_bundle_that_was_changed_is_not_promoted_again(
    tmp_path: Path, bundle: Path, key: SigningKey, name: str
) -> None:
    (bundle / name).write_bytes(b"tampered")
    before = snapshot(tmp_path / "shelf")
    with pytest.raises(EdgeAIError, match="nothing is overwritten"):
        signed_bundle(tmp_path, key)
    assert snapshot(tmp_path / "shelf") == before


def test_a_promotion_that_cannot_be_certified_leaves_nothing(tmp_path: Path) -> None:
    def fail(files: object) -> bytes:
        raise EdgeAIError("no")

    candidate, model = build(tmp_path / "cache")
    with pytest.raises(EdgeAIError, match="no"):
        promote(candidate, model, REPORTS, tmp_path / "shelf", fail)
    assert snapshot(tmp_path / "shelf") == {}
    assert not list((tmp_path / "shelf").rglob(".tmp-*"))


def test_the_certifier_signs_the_files_it_is_given(key: SigningKey, made: object) -> None:
    certify = certifier({"x": 1}, key)
    assert certify({"a": "0" * 64}) == certify({"a": "0" * 64})
    assert certify({"a": "0" * 64}) != certify({"a": "1" * 64})
