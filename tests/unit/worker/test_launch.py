"""What a worker inherits, and where it finds its code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.optimize.frameworks.catalogue import ONNXRUNTIME
from pytest_edgeai.worker.launch import NO_TELEMETRY, locate, shared_path, worker_environment


def framework(implementation: str) -> FrameworkDescriptor:
    return FrameworkDescriptor("name", implementation, "", (), (), {})


def test_environment_is_an_allowlist(tmp_path: Path) -> None:
    inherited = {
        "PATH": "/bin",
        "LC_ALL": "C.UTF-8",
        "HF_HOME": "/cache",
        "OMP_NUM_THREADS": "7",
        "MALLOC_ARENA_MAX": "1",
        "LD_PRELOAD": "x.so",
        "PYTHONPATH": "/elsewhere",
        "PYTHONHOME": "/elsewhere",
        "VIRTUAL_ENV": "/elsewhere",
        "TMPDIR": "/elsewhere",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "COVERAGE_PROCESS_START": "x",
    }
    made = worker_environment(inherited, {"OMP_NUM_THREADS": "1", "PYTHONPATH": "/mine"}, tmp_path)
    assert made.pop("PYTHONIOENCODING").startswith("utf-8")
    assert made == {
        "PATH": "/bin",
        "LC_ALL": "C.UTF-8",
        "HF_HOME": "/cache",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "/mine",
        **NO_TELEMETRY,
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(tmp_path)),
    }


def test_modules_are_located_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "flat_plugin.py").write_text("raise SystemError")
    (tmp_path / "deep_plugin").mkdir()
    (tmp_path / "deep_plugin" / "__init__.py").write_text("raise SystemError")
    (tmp_path / "bare_plugin").mkdir()
    assert locate(framework("flat_plugin:Class")) == {
        "flat_plugin": {"origin": str(tmp_path / "flat_plugin.py"), "search": None}
    }
    assert locate(framework("deep_plugin.part.module:Class")) == {
        "deep_plugin": {
            "origin": str(tmp_path / "deep_plugin" / "__init__.py"),
            "search": [str(tmp_path / "deep_plugin")],
        }
    }
    assert locate(framework("bare_plugin.module:Class")) == {
        "bare_plugin": {"origin": None, "search": [str(tmp_path / "bare_plugin")]}
    }
    assert not {"flat_plugin", "deep_plugin", "bare_plugin"} & set(sys.modules)


def test_modules_that_need_not_be_lent() -> None:
    assert locate(ONNXRUNTIME) == {}
    assert locate(framework("only_in_the_other_interpreter:Class")) == {}


def test_path_is_shared_with_the_same_interpreter_only(tmp_path: Path) -> None:
    own = Path(sys.executable)
    assert shared_path(own) == [str(Path(entry).absolute()) for entry in sys.path if entry]
    (tmp_path / "python").symlink_to(own)
    assert shared_path(tmp_path / "python") == []
