"""The gates ``artifact_security``, ``dependency_audit`` and ``compliance``, as a user runs them."""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import planted_artifacts
import planted_files
import pytest
from edge_runs import Place, Run
from models import require

from pytest_edgeai.measure.scanners import MODELAUDIT
from pytest_edgeai.measure.tools import find_tool

GATES = ("artifact_security", "dependency_audit", "compliance")
ONLY = " or ".join(GATES)
SECURITY = "pip install 'pytest-edgeai[security]'"
PRODUCTION = f'[production]\nrequired = {json.dumps(GATES)}\nadvisories = "osv"\n'
CARD = "[models.linear.card]\n" + "".join(
    f'{section} = "Written down."\n'
    for section in (
        "intended_use",
        "limitations",
        "training_data",
        "evaluation_data",
        "ethical_considerations",
        "contact",
    )
)


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require("onnxruntime", "onnx")


def needs_tools() -> None:
    """Skip where a healthy candidate could not be certified."""
    missing = [
        name
        for name, module in (
            ("license-expression", "license_expression"),
            ("cyclonedx-python-lib", "cyclonedx"),
        )
        if importlib.util.find_spec(module) is None
    ]
    if find_tool(MODELAUDIT, MODELAUDIT) is None:
        missing.append(MODELAUDIT)
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; run: {SECURITY}")


def write(
    place: Place,
    extra: str,
    *,
    licence: str = 'license = "Apache-2.0"\ndata_license = "CC-BY-4.0"\n',
    affected: str = "some-other-distribution",
    days_old: int = 0,
) -> None:
    """Write a project with a local export of one advisory."""
    manifest = place.write(extra)
    text = manifest.read_text("utf-8")
    manifest.write_text(text.replace("calibration =", f"{licence}calibration =", 1), "utf-8")
    (place.path / "osv").mkdir(exist_ok=True)
    day = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days_old)
    advisory = {
        "id": "GHSA-planted",
        "modified": f"{day}T00:00:00Z",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": affected},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
            }
        ],
    }
    (place.path / "osv" / "a.json").write_text(json.dumps(advisory), "utf-8")


def gate(run: Run, name: str, index: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = next(g for g in run.candidate(index)["gates"] if g["name"] == name)
    return found


def test_healthy_candidates_pass_all_three(place: Place) -> None:
    needs_tools()
    require("openvino", "intel")
    write(place, PRODUCTION + CARD)
    run = place.run("--edge-framework=onnxruntime,openvino", "-k", ONLY)
    assert run.code == 0, run.text
    for index in range(2):
        assert run.verdicts(index) == dict.fromkeys(GATES, "pass")
        assert "modelaudit" in gate(run, "artifact_security", index)["reason"]
        assert "OSV advisories" in gate(run, "dependency_audit", index)["reason"]
    folder = Path(run.report["evidence"]["directory"]) / "linear" / "onnxruntime-int8-static"
    audited = json.loads((folder / "dependency_audit.json").read_text("utf-8"))
    assert "numpy " in audited["notes"][0]
    assert "onnxruntime " in audited["notes"][0]
    assert json.loads((folder / "artifact_security.json").read_text("utf-8"))["subjects"] == 1
    assert json.loads((folder / "compliance.json").read_text("utf-8"))["subjects"] == 10


def test_planted_faults_are_found_by_each_and_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (planted_artifacts, planted_files):
        shutil.copy(str(module.__file__), place.path)
    (place.path / "conftest.py").write_text(planted_artifacts.HOOK, "utf-8")
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(place.path), *([inherited] if inherited else [])])
    monkeypatch.setenv("PYTHONPATH", path)
    recipes = '[[models.linear.recipes]]\nframework = "planted"\nscheme = '
    write(
        place,
        PRODUCTION + f'{recipes}"runs"\n{recipes}"torn"\n',
        licence='license = "CC-BY-NC-4.0"\n',
        affected="OnnxRuntime",
    )
    run = place.run("--edge-framework=planted", "-k", ONLY)
    assert run.code == 1, run.text
    assert "Traceback" not in run.text
    assert run.verdicts() == dict.fromkeys(GATES, "fail")
    security = gate(run, "artifact_security")["reason"]
    assert f'weights.bin: unpickling it imports "{planted_files.SYSTEM}"' in security
    assert "tokens.model: it holds an ELF program from byte 100 on" in security
    audit = gate(run, "dependency_audit")["reason"]
    assert audit.startswith("1 finding: onnxruntime ")
    assert "GHSA-planted, no fix is known" in audit
    compliance = gate(run, "compliance")["reason"]
    for words in (
        "[models.linear] data_license: the licence of its training data is not declared",
        *(f'[models.linear.card]: "{key}" is missing' for key in ("contact", "limitations")),
    ):
        assert words in compliance
    if importlib.util.find_spec("license_expression") is not None:
        assert "CC-BY-NC-4.0 is not allowed by default; [production] allowed_licenses" in compliance
    # What cannot be read is not known to be harmless, and not known to be bad.
    torn = gate(run, "artifact_security", 1)
    assert torn["outcome"] == "inconclusive"
    assert torn["reason"].startswith("not certified: ")


def test_lists_of_the_manifest_are_kept_and_old_advisories_certify_nothing(place: Place) -> None:
    lists = 'allowed_operators = ["Gemm"]\nallowed_licenses = ["LicenseRef-Ours"]\n'
    limit = "[gates]\nartifact_size = '1 KiB'\n"
    write(place, PRODUCTION + lists + CARD + limit, days_old=200)
    run = place.run("--edge-framework=onnxruntime", "-k", ONLY)
    assert run.code == 1, run.text
    assert "is not allowed" in gate(run, "artifact_security")["reason"]
    audit = gate(run, "dependency_audit")
    assert audit["outcome"] == "inconclusive"
    assert "not certified: the newest advisory in osv is 200 days old" in audit["reason"]
    assert "fetch them again" in audit["advice"]
    compliance = gate(run, "compliance")["reason"]
    assert "at most 1 KiB are allowed (edgeai.toml)" in compliance
    if importlib.util.find_spec("license_expression") is not None:
        assert (
            "Apache-2.0 is not allowed; [production] allowed_licenses lists what is" in compliance
        )


@pytest.mark.parametrize(
    ("extra", "licence", "words"),
    [
        (PRODUCTION, 'license = "Apache2.0"\n', 'id you mean "Apache-2.0"?'),
        (PRODUCTION, 'license = "MIT AND"\n', "is no licence expression"),
        (PRODUCTION + 'allowed_licenses = ["MTI"]\n', "", 'id you mean "MIT"?'),
        ('[production]\nadvisories = "gone.zip"\n', "", '"gone.zip" is no export of advisories'),
        (PRODUCTION + "[gates]\ndependency_audit = -1\n", "", "dependency_audit"),
    ],
    ids=["unknown", "no-expression", "unknown-allowed", "no-advisories", "negative"],
)
def test_bad_input_is_one_line(place: Place, extra: str, licence: str, words: str) -> None:
    if "licen" in extra + licence:
        pytest.importorskip("license_expression", reason=f"run: {SECURITY}")
    write(place, extra, licence=licence)
    run = place.run("-k", ONLY)
    assert run.code == 4
    text = run.result.stderr.str() + run.text
    assert words in text
    assert "edgeai.toml" in text
    assert "Traceback" not in text


def test_without_a_table_of_production_the_gates_are_not_collected(place: Place) -> None:
    write(place, "", licence='license = "nonsense nobody reads"\n')
    run = place.run("--collect-only", "-q")
    assert run.code == 0, run.text
    assert not [name for name in GATES if f"::{name}" in run.text]
