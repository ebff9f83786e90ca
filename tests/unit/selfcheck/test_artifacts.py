"""Planted artifacts are real files, and the gates are right about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_edgeai.measure.onnx_writer import write_model
from pytest_edgeai.selfcheck.artifacts import check_artifacts, check_precision


def test_false_claims_of_precision_fail_and_a_true_one_passes(tmp_path: Path) -> None:
    answers = check_precision(tmp_path)
    assert [(answer.truth, answer.outcome) for answer in answers] == [
        ("missed", "fail"),
        ("missed", "fail"),
        ("met", "pass"),
    ]
    assert "simulate" not in answers[0].reason
    assert {path.name for path in tmp_path.iterdir()} == {
        "model-int8.onnx",
        "model-fake-int8.onnx",
        "model-real-int8.onnx",
    }


def test_a_changed_artifact_is_neither_served_nor_promoted(tmp_path: Path) -> None:
    answers = check_artifacts(tmp_path)
    assert all(answer.judgment == "right" for answer in answers)
    assert [answer.truth for answer in answers] == ["met", "missed", "met", "missed"]
    assert "changed after it was measured" in answers[-1].reason


def test_the_written_files_are_valid_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="pip install onnx")
    check_precision(tmp_path)
    for path in tmp_path.iterdir():
        onnx.checker.check_model(onnx.load(path), full_check=True)


def test_a_written_model_computes(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="pip install onnx")
    from onnx.reference import ReferenceEvaluator

    weights = np.arange(200 * 3, dtype=np.float32).reshape(200, 3)
    path = write_model(
        tmp_path / "m.onnx",
        [("MatMul", ("x", "w"), "y")],
        {"w": weights},
        features=200,
        classes=3,
    )
    x = np.ones((1, 200), np.float32)
    (found,) = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})
    np.testing.assert_allclose(found, x @ weights)
