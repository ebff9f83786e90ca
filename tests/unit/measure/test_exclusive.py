from __future__ import annotations

from pathlib import Path

import pytest

from pytest_edgeai.configuration import resolve
from pytest_edgeai.errors import UserError
from pytest_edgeai.files import LOCK_DIRECTORY_VARIABLE
from pytest_edgeai.measure.exclusive import lock_path


def test_the_lock_is_the_machines_unless_a_directory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LOCK_DIRECTORY_VARIABLE, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert lock_path().parent != tmp_path
    monkeypatch.setenv(LOCK_DIRECTORY_VARIABLE, str(tmp_path))
    assert lock_path().parent == tmp_path


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    given = {LOCK_DIRECTORY_VARIABLE: str(tmp_path / "none")}
    with pytest.raises(UserError, match=r"PYTEST_EDGEAI_LOCK_DIR: .* is no directory"):
        resolve({}, given, {}, manifest_path=None, invocation_directory=tmp_path)
