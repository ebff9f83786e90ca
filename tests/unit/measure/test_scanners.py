"""The maintained scanners on real artifacts; skipped where they are not installed."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from language_models import write_gguf, write_huggingface
from models import linear_classifier
from planted_files import Runs

from pytest_edgeai.errors import NotCertified
from pytest_edgeai.measure.scanners import (
    MODELAUDIT,
    PICKLESCAN,
    Opinion,
    ask_scanners,
    read_modelaudit,
)
from pytest_edgeai.measure.tools import Tool, find_tool

TOOL = Tool(MODELAUDIT, ("modelaudit",), "0.2.54")
needs_modelaudit = pytest.mark.skipif(
    find_tool(MODELAUDIT, MODELAUDIT) is None,
    reason=f"{MODELAUDIT} is not installed; run: pip install 'pytest-edgeai[security]'",
)


def ask(root: Path, home: Path) -> dict[str, Opinion]:
    home.mkdir()
    opinions = ask_scanners(root, home, time_limit_s=120.0)
    return {opinion.tool.name: opinion for opinion in opinions}


@needs_modelaudit
def test_healthy_models_of_every_format_are_read_and_nothing_is_found(tmp_path: Path) -> None:
    root = tmp_path / "model"
    project = linear_classifier(root, n=8)
    for path in (project.data, project.calibration):
        path.unlink()
    write_huggingface(root / "mlx")
    pytest.importorskip("gguf", reason="needs the gguf package: pip install gguf")
    write_gguf(root / "model.gguf", parameters=50_000, hidden=64, vocabulary=100)
    openvino = pytest.importorskip("openvino", reason="needs: pip install openvino")
    openvino.save_model(openvino.convert_model(project.model), root / "model.xml")
    audit = ask(root, tmp_path / "home")[MODELAUDIT]
    assert audit.findings == ()
    assert audit.unread == {}
    models = {project.model.name, "model.gguf", "model.xml", "model.bin", "mlx/model.safetensors"}
    assert models <= audit.covered
    assert audit.tool.version


@needs_modelaudit
def test_what_runs_is_found_and_what_is_not_known_or_torn_is_not_covered(tmp_path: Path) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "weights.pkl").write_bytes(pickle.dumps(Runs(os.system, "true")))
    (root / "weights.unknown").write_bytes(b"\x01\x02" * 500)
    (root / "broken.onnx").write_bytes(b"\x08\x08\x3a\xff\xff\x01")
    opinions = ask(root, tmp_path / "home")
    if find_tool(PICKLESCAN, PICKLESCAN) is not None:
        assert set(opinions) == {MODELAUDIT, PICKLESCAN}
    for name, opinion in opinions.items():
        assert opinion.findings, name
        assert all(each.where.startswith("weights.pkl") for each in opinion.findings)
        assert all("system" in each.what for each in opinion.findings)
        assert opinion.findings[0].found_by.startswith(f"{name} ")
    assert opinions[MODELAUDIT].covered == {"weights.pkl"}
    assert set(opinions[MODELAUDIT].unread) == {"broken.onnx"}


def test_without_a_scanner_nothing_is_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(NotCertified, match="no scanner of models is installed") as caught:
        ask_scanners(tmp_path, tmp_path, time_limit_s=5.0)
    assert "pip install 'pytest-edgeai[security]'" in caught.value.advice


@pytest.mark.skipif(os.name != "posix", reason="writes a script for a shell")
def test_a_scanner_that_gives_no_report_certifies_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / MODELAUDIT
    script.write_text("#!/bin/sh\necho broken installation >&2\nexit 2\n", "utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(NotCertified, match=r"gave no report .* broken installation"):
        ask_scanners(tmp_path, tmp_path, time_limit_s=30.0)


def test_a_report_is_read_by_what_its_words_mean(tmp_path: Path) -> None:
    root = tmp_path

    def issue(severity: str, rule: str | None, message: str, where: str | None) -> dict[str, Any]:
        location = where and f"{root}/{where}"
        facts = {"severity": severity, "rule_code": rule, "message": message}
        return {**facts, "location": location}

    kinds = {"a.pkl": "pickle", "b.gguf": "gguf", "c.onnx": "onnx", "d.onnx": "onnx"}
    kinds |= {"e.onnx": "onnx", "f.x": "unknown"}
    harmless = ["onnx_weight_distribution_analysis_incomplete"]
    content = {
        "issues": [
            issue("critical", "S201", "runs", "a.pkl (pos 3)"),
            issue("warning", None, "odd", "b.gguf"),
            issue("info", None, "large", None),
            issue("critical", "S902", "torn", "c.onnx"),
        ],
        "assets": [{"path": f"{root}/{name}", "type": kind} for name, kind in kinds.items()],
        "file_metadata": {
            f"{root}/d.onnx": {"operational_error": True, "missing_dependency": "onnx"},
            f"{root}/e.onnx": {"scan_outcome_reasons": harmless},
            f"{root}/b.gguf": {"scan_outcome_reasons": ["gguf_parse_incomplete"]},
        },
    }
    opinion = read_modelaudit(content, TOOL, root, isolated=True)
    assert [(each.where, each.what) for each in opinion.findings] == [
        ("a.pkl (pos 3)", "runs"),
        ("b.gguf", "odd"),
    ]
    assert opinion.covered == {"a.pkl", "e.onnx"}
    assert opinion.unread == {
        "c.onnx": "torn",
        "d.onnx": "modelaudit needs the package onnx",
        "b.gguf": "gguf_parse_incomplete",
    }
    assert len(opinion.notes) == 1


def test_remarks_on_licenses_are_no_findings_whatever_a_file_is_called(tmp_path: Path) -> None:
    remark = {"severity": "warning", "rule_code": None, "message": "Non-commercial", "location": ""}
    runs = {**remark, "message": "license.pkl runs", "location": f"{tmp_path}/license.pkl"}
    content = {
        "issues": [{**remark, "type": "license_warning"}, {**runs, "type": "pickle_check"}],
        "assets": [],
        "file_metadata": {},
    }
    opinion = read_modelaudit(content, TOOL, tmp_path, isolated=True)
    assert [each.where for each in opinion.findings] == ["license.pkl"]
    assert opinion.notes == ("the artifact: Non-commercial",)
