"""A framework that this package does not know, added by the example plugin package."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from edge_runs import GATES, PASSING, Place
from models import require

EXAMPLE = Path(__file__).parents[2] / "examples" / "sixth-framework"
INSTALL = 'pip install "MNN>=3.6"'
WEIGHTS = 16 * 64 + 64 * 4
CLAIMS_TOO_MUCH = """
from dataclasses import replace

from pytest_edgeai_mnn import plugin


def pytest_edgeai_frameworks():
    (mnn,) = plugin.pytest_edgeai_frameworks()
    return [replace(mnn, name="boaster", schemes={"convert": "float32", "float16-weights": "int8"})]
"""


def has_mnn() -> bool:
    """Return whether MNN is installed, without importing it."""
    try:
        importlib.metadata.version("MNN")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_mnn = pytest.mark.skipif(not has_mnn(), reason=f"MNN is not installed; run: {INSTALL}")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages that holds the plugin alone, installed by pip."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("pip is not installed; run: python -m ensurepip")
    source = tmp_path_factory.mktemp("plugin") / EXAMPLE.name
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info", ".*")
    shutil.copytree(EXAMPLE, source, ignore=ignored)
    target = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    done = subprocess.run(
        [*install, str(source)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture
def with_plugin(place: Place, site: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A project of a Python that the plugin is installed in."""
    require("onnxruntime", "onnx")
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(site), *([inherited] if inherited else [])])
    monkeypatch.setenv("PYTHONPATH", path)
    place.write()
    return place


@needs_mnn
def test_it_is_gated_like_a_shipped_one(with_plugin: Place) -> None:
    run = with_plugin.run("--edge-framework=mnn", "-W", "error")
    assert (run.code, run.outcomes) == (0, {"passed": PASSING, "skipped": 2}), run.text
    candidate = run.candidate()
    assert (candidate["id"], candidate["framework"]) == ("mnn-int8-weights", "mnn")
    assert tuple(run.verdicts()) == GATES
    assert run.verdicts()["precision_proof"] == "pass"
    evidence = Path(run.report["evidence"]["directory"]) / "linear" / "mnn-int8-weights"
    precision = json.loads((evidence / "precision.json").read_text("utf-8"))
    assert precision["weight_elements"]["int8"] == WEIGHTS
    made = json.loads((evidence / "artifact.json").read_text("utf-8"))
    assert [Path(file).name for file in made["files"]] == ["model.json", "model.mnn"]
    assert made["versions"] == {"MNN": importlib.metadata.version("MNN")}


@needs_mnn
def test_its_claim_is_checked(with_plugin: Place) -> None:
    (with_plugin.path / "conftest.py").write_text(CLAIMS_TOO_MUCH, encoding="utf-8")
    run = with_plugin.run("--edge-framework=boaster", "-k", "precision_proof")
    assert (run.code, run.outcomes["failed"]) == (1, 1)
    assert run.verdicts() == {"precision_proof": "fail"}
    assert "float16" in run.text


@needs_mnn
def test_an_unknown_option_is_one_line(with_plugin: Place) -> None:
    manifest = with_plugin.path / "edgeai.toml"
    recipe = 'framework = "mnn"\nscheme = "int8-weights"\noptions = { asymetric = true }\n'
    text = f"{manifest.read_text('utf-8')}\n[[models.linear.recipes]]\n{recipe}"
    manifest.write_text(text, "utf-8")
    run = with_plugin.run("--edge-framework=mnn")
    text = " ".join((run.text + run.result.stderr.str()).split())
    assert run.code == 4
    assert 'did you mean "asymmetric"?' in text.lower()
    assert "Traceback" not in text


@needs_mnn
def test_its_own_tests_pass(site: Path, tmp_path: Path) -> None:
    require("onnx", "onnx")
    require("onnxruntime", "onnx")
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    path = os.pathsep.join([str(site), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(has_mnn(), reason="MNN is installed")
def test_without_mnn_the_gates_say_what_to_install(with_plugin: Place) -> None:
    run = with_plugin.run("--edge-framework=mnn")
    assert run.code == 1
    assert f"mnn is not installed (missing: MNN); run: {INSTALL}" in " ".join(run.text.split())


def test_it_costs_a_session_without_a_target_nothing(with_plugin: Place) -> None:
    with_plugin.pytester.makeconftest(
        """
        import sys

        def pytest_sessionfinish(session):
            assert session.config.pluginmanager.hasplugin("edgeai-mnn")
            heavy = {"MNN", "_mnncengine", "numpy", "pytest_edgeai_mnn.framework"}
            assert not heavy & set(sys.modules)
        """
    )
    with_plugin.pytester.makepyfile(test_one="def test_one(): pass")
    run = with_plugin.run("-W", "error", target="")
    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
