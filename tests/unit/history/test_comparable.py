"""What is never compared, and that the difference is named."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from models import linear_classifier, write_project

from pytest_edgeai.assess.hardware import read_host
from pytest_edgeai.configuration import resolve
from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.history.comparable import runtime_conflict, stored_refusal
from pytest_edgeai.history.records import Environment
from pytest_edgeai.manifest import read_manifest
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.one_runtime import require_one_runtime
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS, OLIVE, ONNXRUNTIME, OPENVINO
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.records import Recipe, to_json
from pytest_edgeai.session import Installations, Session, open_session
from pytest_edgeai.shipped import GATES
from pytest_edgeai.specification import Catalogue

CATALOGUE = Catalogue(FRAMEWORKS, TARGETS, METRICS, GATES)


@pytest.mark.parametrize(
    ("mine", "other", "conflict"),
    [
        ({"onnxruntime": "1.31.1"}, {"onnxruntime": "1.31.1"}, ""),
        (
            {"onnxruntime": "1.31.1"},
            {"onnxruntime": "1.30.0"},
            "onnxruntime is 1.30.0 for onnxruntime and 1.31.1 for olive",
        ),
        # What only makes models may differ.
        ({"onnxruntime": "1", "onnx": "1.22"}, {"onnxruntime": "1", "onnx": "1.23"}, ""),
        ({}, {"onnxruntime": "1.30.0"}, ""),
    ],
)
def test_a_shared_runtime_has_one_version(
    mine: dict[str, str], other: dict[str, str], conflict: str
) -> None:
    assert runtime_conflict(OLIVE, ONNXRUNTIME, mine, other) == conflict


def test_frameworks_without_a_common_runtime_are_what_the_gate_compares() -> None:
    versions = {"openvino": "2026.4", "onnxruntime": "1.0"}, {"onnxruntime": "2.0"}
    assert runtime_conflict(OPENVINO, ONNXRUNTIME, *versions) == ""


@pytest.fixture
def interpreter(tmp_path: Path) -> Path:
    """A Python of its own, whose packages are said to be Olive and an old ONNX Runtime."""
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True, timeout=60)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    for name, version in (("onnxruntime", "1.0.0"), ("olive-ai", "0.1"), ("onnx", "1.0")):
        info = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return home / ("Scripts" if sys.platform == "win32" else "bin") / "python"


@pytest.fixture
def opened(tmp_path: Path, interpreter: Path) -> Callable[..., Session]:
    """Open a session whose Olive lives in an interpreter of its own; nothing of it is run."""

    def make(*across: str) -> Session:
        manifest_path = write_project(tmp_path, [linear_classifier(tmp_path)])
        flags = {"edge_target": ["cross"], "edge_across": list(across) or None}
        settings = resolve(
            flags, {}, {}, manifest_path=manifest_path, invocation_directory=tmp_path
        )
        session = open_session(
            settings,
            CATALOGUE,
            read_manifest(manifest_path, CATALOGUE),
            read_host(),
            choose_recipes=lambda model, facts, framework, target: None,
            run_id="run",
            cache_directory=tmp_path / "cache",
        )
        olive = {"olive": interpreter}
        return dataclasses.replace(session, installations=Installations(FRAMEWORKS, olive))

    return make


def test_two_versions_of_one_runtime_are_refused_unless_they_are_what_is_compared(
    opened: Callable[..., Session],
) -> None:
    pytest.importorskip("onnxruntime", reason='run: pip install "pytest-edgeai[onnx]"')
    session = opened()
    candidate = dataclasses.replace(
        session.candidates[0],
        recipe=Recipe("olive", "int8-static"),
        baseline_framework="onnxruntime",
    )
    with pytest.raises(MeasurementError, match=r"onnxruntime is .* and 1\.0\.0 for olive") as error:
        require_one_runtime(session, candidate)
    assert "--edge-across=versions" in str(error.value)
    assert "\n" not in str(error.value)
    require_one_runtime(opened("versions"), candidate)
    require_one_runtime(session, dataclasses.replace(candidate, baseline_framework="olive"))


def test_what_was_stored_elsewhere_is_not_compared(environment: Environment) -> None:
    stored = to_json(environment)
    assert stored_refusal(environment, stored) == ""
    other = dataclasses.replace(
        environment,
        host={**environment.host, "cpu_model": "CPU B"},
        versions={**environment.versions, "onnxruntime": "1.30.0"},
        threads=4,
    )
    words = {
        "host": "CPU CPU A instead of CPU B",
        "versions": "onnxruntime 1.31.1 instead of 1.30.0",
        "threads": "threads 1 instead of 4",
    }
    assert stored_refusal(other, stored) == ", ".join(words.values())
    for name, word in words.items():
        assert word not in stored_refusal(other, stored, (name,))
    assert stored_refusal(other, stored, tuple(words)) == ""
    for unknown in (None, {}, {"host": 3, "versions": {}, "threads": 1}, [1]):
        assert "not known" in stored_refusal(environment, unknown)
