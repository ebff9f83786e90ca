"""Evidence is written whole, read back as it was, and has a digest of names and bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from pytest_edgeai.evidence import EvidenceStore
from pytest_edgeai.leftovers import RunClaim, Scratch, sweep_temporary_files
from pytest_edgeai.records import Recipe


def test_records_and_arrays_come_back(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path / "run")
    store.write_record("m/recipe", Recipe("openvino", "int8-static", {"preset": "mixed"}))
    arrays = {"a": np.arange(5), "b": np.array([[1.5, np.nan]])}
    store.write_arrays("m/timings", arrays)
    record = store.read_record("m/recipe")
    assert record is not None
    assert record["options"] == {"preset": "mixed"}
    read = store.read_arrays("m/timings")
    assert read is not None
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype
    assert store.read_record("m/timings") is None
    assert store.read_arrays("m/recipe") is None


def test_what_is_no_number_becomes_null(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path)
    store.write_record("bad", {"value": float("nan")})
    assert store.read_record("bad") == {"value": None}


def test_the_digest_follows_names_and_bytes(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path)
    store.write_record("a", {"x": 1})
    first = store.digest()
    (tmp_path / ".partial").write_text("of another process")
    assert store.digest() == first
    store.write_record("a", {"x": 2})
    changed = store.digest()
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    assert len({first, changed, store.digest()}) == 3


def test_scratch_of_the_living_stays_and_of_the_dead_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    alive = Scratch()
    dead = tmp_path / "pytest-edgeai-dead"
    dead.mkdir()
    (dead / ".lock").touch()
    other = tmp_path / "pytest-edgeai-of-another-version"
    other.mkdir()
    sweep_temporary_files()
    assert alive.directory.is_dir()
    assert other.is_dir()
    assert not dead.exists()
    alive.close()
    alive.close()
    assert not alive.directory.exists()


def test_sweeping_keeps_the_newest_and_what_is_in_use(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"run{number}").mkdir()
    claim = RunClaim(tmp_path, "run1")
    with FileLock(tmp_path / ".run0.lock"):
        claim.sweep(kept=3)
        assert sorted(p.name for p in tmp_path.glob("run*")) == [
            "run0",
            "run1",
            "run3",
            "run4",
            "run5",
        ]
    claim.sweep(kept=3)
    claim.release()
    assert sorted(p.name for p in tmp_path.glob("run*")) == ["run1", "run3", "run4", "run5"]
    assert list(tmp_path.glob(".*.lock")) == []
