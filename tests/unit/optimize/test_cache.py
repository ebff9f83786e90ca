from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cache_racer import make_slowly

from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.optimize.cache import STALE_AFTER_S, ArtifactCache, artifact_key
from pytest_edgeai.records import Artifact, Recipe

RECIPE = Recipe("onnxruntime", "int8-static", {"per_channel": True}, reason="why")
KEY = "ab" * 32
Make = Callable[[Path], tuple[Path, tuple[str, ...]]]


def maker(content: bytes = b"weights", calls: list[Path] | None = None) -> Make:
    def make(output: Path) -> tuple[Path, tuple[str, ...]]:
        if calls is not None:
            calls.append(output)
        (output / "model.onnx").write_bytes(content)
        (output / "extra").mkdir()
        (output / "extra" / "model.data").write_bytes(b"data")
        return output / "model.onnx", ("a line",)

    return make


def cached(
    directory: Path, make: Make, *, run_id: str = "run", refresh: bool = False, key: str = KEY
) -> Artifact:
    cache = ArtifactCache(directory, run_id=run_id, refresh=refresh)
    return cache.get_or_make(key, RECIPE, "int8", {"onnxruntime": "1"}, make)


def key(**changes: object) -> str:
    values: dict[str, object] = {
        "model_sha256": "m",
        "recipe": RECIPE,
        "calibration_sha256": "c",
        "versions": {"a": "1", "b": "2"},
        "architecture": "convolutional",
        "implementation": "package:Class",
    }
    return artifact_key(**{**values, **changes})  # type: ignore[arg-type]


def test_the_address_covers_everything_that_an_artifact_depends_on() -> None:
    others = [
        key(model_sha256="n"),
        key(calibration_sha256=""),
        key(versions={"a": "1", "b": "3"}),
        key(architecture="transformer"),
        key(implementation="package:Other"),
        key(recipe=Recipe("openvino", "int8-static", {"per_channel": True})),
        key(recipe=Recipe("onnxruntime", "int8-dynamic", {"per_channel": True})),
        key(recipe=Recipe("onnxruntime", "int8-static", {"per_channel": False})),
        key(recipe=Recipe("onnxruntime", "int8-static")),
    ]
    assert len({key(), *others}) == len(others) + 1


def test_the_address_ignores_order_label_and_reason() -> None:
    relabeled = Recipe("onnxruntime", "int8-static", {"per_channel": True}, "label", "reason")
    assert key() == key(versions={"b": "2", "a": "1"}) == key(recipe=relabeled)


def test_what_was_made_once_is_found_again(tmp_path: Path) -> None:
    calls: list[Path] = []
    first = cached(tmp_path, maker(calls=calls))
    second = cached(tmp_path, maker(calls=calls), run_id="later")
    assert len(calls) == 1
    assert (first.from_cache, second.from_cache) == (False, True)
    assert first.path == second.path
    assert second.path.read_bytes() == b"weights"
    assert (second.sha256, second.size_bytes, second.log) == (first.sha256, 11, ("a line",))
    assert second.claimed_precision == "int8"
    assert second.versions == {"onnxruntime": "1"}
    assert {file.name for file in second.files} == {"model.onnx", "model.data"}


def test_another_process_of_the_same_session_did_not_find_it_in_the_cache(tmp_path: Path) -> None:
    cached(tmp_path, maker())
    assert not cached(tmp_path, maker()).from_cache


def test_refreshing_rebuilds_once_per_session(tmp_path: Path) -> None:
    calls: list[Path] = []
    old = cached(tmp_path, maker(b"old"))
    for _ in range(2):
        new = cached(tmp_path, maker(b"new", calls), run_id="later", refresh=True)
    assert len(calls) == 1
    assert new.path.read_bytes() == b"new"
    assert old.path.read_bytes() == b"old", "another process may still be loading it"


def test_what_was_replaced_long_ago_is_removed(tmp_path: Path) -> None:
    old = cached(tmp_path, maker(b"old"))
    cached(tmp_path, maker(b"new"), run_id="second", refresh=True)
    past = time.time() - STALE_AFTER_S - 60
    os.utime(old.path.parent, (past, past))
    newest = cached(tmp_path, maker(b"newest"), run_id="third", refresh=True)
    assert not old.path.exists()
    assert newest.path.read_bytes() == b"newest"


@pytest.mark.parametrize(
    "entry",
    ["", "{", "[]", "null", "{}", '{"format": 1}', '{"format": 2, "directory": "x"}'],
)
def test_a_damaged_entry_is_made_anew(tmp_path: Path, entry: str) -> None:
    cached(tmp_path, maker(b"old"))
    (tmp_path / f"{KEY}.json").write_text(entry)
    mended = cached(tmp_path, maker(b"new"), run_id="later")
    assert mended.path.read_bytes() == b"new"
    assert not mended.from_cache


def cut(artifact: Artifact) -> None:
    artifact.path.write_bytes(b"wei")


def change(artifact: Artifact) -> None:
    artifact.path.write_bytes(b"Weights")


def drop_file(artifact: Artifact) -> None:
    artifact.path.unlink()


def drop_all(artifact: Artifact) -> None:
    shutil.rmtree(artifact.path.parent)


@pytest.mark.parametrize("damage", [cut, change, drop_file, drop_all])
def test_damaged_files_are_made_anew(tmp_path: Path, damage: Callable[[Artifact], None]) -> None:
    damage(cached(tmp_path, maker(b"weights")))
    mended = cached(tmp_path, maker(b"weights"), run_id="later")
    assert mended.path.read_bytes() == b"weights"
    assert not mended.from_cache


def test_what_a_killed_session_left_is_removed(tmp_path: Path) -> None:
    partial = tmp_path / f"{KEY}.12345678.partial"
    partial.mkdir(parents=True)
    (partial / "model.onnx").write_bytes(b"half")
    cached(tmp_path, maker())
    assert not partial.exists()


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def make(output: Path) -> tuple[Path, tuple[str, ...]]:
        (output / "model.onnx").write_bytes(b"half")
        raise ModelError("cannot be made")

    with pytest.raises(ModelError, match="cannot be made"):
        cached(tmp_path, make)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_maker_that_meets_a_full_disk_is_a_users_error(tmp_path: Path) -> None:
    def make(output: Path) -> tuple[Path, tuple[str, ...]]:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        cached(tmp_path, make)


def test_an_entry_that_cannot_be_written_leaves_no_files(tmp_path: Path) -> None:
    whole = maker()

    def make(output: Path) -> tuple[Path, tuple[str, ...]]:
        (tmp_path / f"{KEY}.json").mkdir()
        return whole(output)

    with pytest.raises(UserError):
        cached(tmp_path, make)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".lock"}


def test_a_cache_below_a_file_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        cached(tmp_path / "file" / "cache", maker())


def test_processes_that_race_for_one_artifact_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    racers = [
        context.Process(target=make_slowly, args=(str(tmp_path), KEY, barrier, number))
        for number in range(3)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    assert len((tmp_path / "made").read_text().splitlines()) == 1
    [entry] = (tmp_path / "cache").glob("*.json")
    assert json.loads(entry.read_text())["files"] == ["model.onnx"]
