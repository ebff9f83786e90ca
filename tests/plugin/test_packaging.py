"""The wheel and the sdist hold what they need to work outside of the checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HELD_IN_WHEEL = (
    "pytest_edgeai/py.typed",
    "pytest_edgeai/plugin.py",
    "pytest_edgeai/gates/test_speedup.py",
    "pytest_edgeai/fixtures/candidates.py",
    "pytest_edgeai/report/schema-1.json",
    "pytest_edgeai/worker/__main__.py",
    "pytest_edgeai/console.py",
)
HELD_IN_SDIST = (
    "gates/test_speedup.py",
    "fixtures/candidates.py",
    "pytest_edgeai/py.typed",
    "pytest_edgeai/report/schema-1.json",
    "tests/networks.py",
    "tests/unit/test_architecture.py",
    "tests/worker/conftest.py",
    "benchmarks/common.py",
    "docs/statistics.md",
    "examples/digits/train.py",
    "examples/digits/edgeai.toml",
    "conftest.py",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
)
LARGEST_SDIST_BYTES = 5 * 2**19


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    import os

    dropped = ("PYTEST_", "PYTHON", "COV_")
    return {key: value for key, value in os.environ.items() if not key.startswith(dropped)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked sources, so that building leaves nothing in the checkout."""
    import shutil

    copy = tmp_path_factory.mktemp("source") / "pytest-edgeai"
    ignored = shutil.ignore_patterns(
        ".git",
        ".edgeai",
        "*.egg-info",
        "build",
        "dist",
        "__pycache__",
        ".*_cache",
        ".hypothesis",
        ".venv",
    )
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("wheel")
    build = "from setuptools import build_meta as b; import sys; print(b.build_wheel(sys.argv[1]))"
    run(sys.executable, "-c", build, str(output), cwd=source)
    return next(output.glob("*.whl"))


def test_the_wheel_is_complete_and_holds_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in HELD_IN_WHEEL:
        assert name in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pytest_edgeai"}


def test_the_sdist_is_complete(source: Path, tmp_path: Path) -> None:
    build = "from setuptools import build_meta as b; import sys; print(b.build_sdist(sys.argv[1]))"
    run(sys.executable, "-c", build, str(tmp_path), cwd=source)
    archive = next(tmp_path.glob("*.tar.gz"))
    with tarfile.open(archive) as content:
        names = {name.split("/", 1)[-1] for name in content.getnames()}
    for name in HELD_IN_SDIST:
        assert name in names
    assert not [name for name in names if "/." in name or name.endswith((".onnx", ".pyc"))]
    assert archive.stat().st_size < LARGEST_SDIST_BYTES


def test_the_installed_wheel_works_outside_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as content:
        content.extractall(site)
    project = tmp_path / "project"
    project.mkdir()
    where = run(
        sys.executable,
        "-c",
        "import pytest_edgeai; print(pytest_edgeai.__file__)",
        cwd=project,
        PYTHONPATH=str(site),
    )
    assert Path(where.strip()).is_relative_to(site)
    output = run(
        sys.executable,
        *("-m", "pytest", "--pyargs", "pytest_edgeai.gates", "--collect-only", "-q"),
        cwd=project,
        PYTHONPATH=str(site),
    )
    assert "test_speedup" in output
    assert str(ROOT) not in output


def test_the_version_has_one_source(wheel: Path) -> None:
    import pytest_edgeai

    assert f"-{pytest_edgeai.__version__}-" in wheel.name
