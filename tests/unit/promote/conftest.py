"""A real artifact on disk with the candidate that it belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_edgeai.digests import digest_files
from pytest_edgeai.records import Artifact, Recipe, Verdict
from pytest_edgeai.report.content import CandidateReport, ModelReport

GATES = ("accuracy_retained", "speedup")


def verdict(gate: str) -> Verdict:
    return Verdict(gate, "pass", 2.0, (1.9, 2.1), 0.95, 1.5, "at_least", "ratio", 50, "Fine.")


def build(root: Path, content: bytes = b"weights") -> tuple[CandidateReport, ModelReport]:
    """Write an artifact of three files below ``root`` and return its records."""
    files = (root / "model.xml", root / "model.bin", root / "extra" / "tokens.txt")
    (root / "extra").mkdir(parents=True, exist_ok=True)
    files[0].write_bytes(b"<net/>")
    files[1].write_bytes(content * 1000)
    files[2].write_bytes(b"")
    artifact = Artifact(
        path=files[0],
        files=files,
        framework="openvino",
        claimed_precision="int8",
        sha256=digest_files(files, root),
        size_bytes=sum(file.stat().st_size for file in files),
        key="ab" * 32,
        from_cache=False,
        seconds=1.0,
        versions={"openvino": "2025.3.0"},
    )
    candidate = CandidateReport(
        id="openvino-int8-static",
        target="intel",
        recipe=Recipe("openvino", "int8-static"),
        artifact=artifact,
        stages=(),
        verdicts=tuple(verdict(gate) for gate in GATES),
        required_gates=GATES,
        promoted=False,
        promotion_blocked_by=(),
    )
    model = ModelReport(
        name="digits",
        sha256="d1" * 32,
        task="image-classification",
        baseline_framework="onnxruntime",
        baseline_path=Path("models/digits.onnx"),
        baseline_stage=None,
        candidates=(candidate,),
    )
    return candidate, model


@pytest.fixture(name="made")
def made_fixture(tmp_path: Path) -> tuple[CandidateReport, ModelReport]:
    """A candidate that may be promoted, with its model."""
    return build(tmp_path / "cache")


@pytest.fixture(name="other")
def other_fixture(tmp_path: Path) -> tuple[CandidateReport, ModelReport]:
    """The same candidate, made into another artifact."""
    return build(tmp_path / "other-cache", b"other")
