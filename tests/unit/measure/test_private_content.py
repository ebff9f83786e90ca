"""Samples and paths in files: found at any offset, and nothing found that is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_edgeai.measure.private_content import find_places, find_samples, index_samples


def data(dtype: str = "float32", width: int = 16) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(40, width)) * 100
    return drawn.astype(dtype)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.bin"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("offset", range(9))
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8"])
def test_a_sample_is_found_at_any_offset(tmp_path: Path, offset: int, dtype: str) -> None:
    x = data(dtype, 64)
    noise = np.random.default_rng(1).bytes(5000)
    path = written(tmp_path, noise[: 1000 + offset] + x[7].tobytes() + noise)
    index = index_samples({"evaluation": {"x": x}})
    assert find_samples(path, index) == ['evaluation sample 7, input "x"']


def test_weights_hold_no_sample(tmp_path: Path) -> None:
    path = written(tmp_path, np.random.default_rng(2).normal(size=200_000).astype("f4").tobytes())
    assert find_samples(path, index_samples({"evaluation": {"x": data()}})) == []


def test_a_sample_across_blocks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_edgeai.measure.private_content._BLOCK_BYTES", 64)
    x = data()
    for offset in range(40, 70):
        path = written(tmp_path, bytes(offset) + x[3].tobytes() + bytes(100))
        assert find_samples(path, index_samples({"calibration": {"x": x}})) == [
            'calibration sample 3, input "x"'
        ]


def test_rows_that_identify_nobody_are_not_looked_for() -> None:
    positions = np.tile(np.arange(64), (10, 1))
    masks = np.ones((10, 64), np.int64)
    short = data(width=4)
    indexed = index_samples({"e": {"positions": positions[:1], "masks": masks, "short": short}})
    assert len(indexed.words) == 1
    shared = index_samples({"e": {"positions": positions}, "c": {"positions": positions}})
    assert len(shared.words) == 0


def test_an_image_with_a_dark_border_is_found(tmp_path: Path) -> None:
    image = np.zeros((2, 1, 28, 28), np.float32)
    image[:, :, 10:18, 10:18] = np.random.default_rng(0).random((2, 1, 8, 8))
    index = index_samples({"member": {"image": image}})
    assert find_samples(written(tmp_path, bytes(333) + image[1].tobytes()), index) == [
        'member sample 1, input "image"'
    ]
    assert find_samples(written(tmp_path, bytes(100_000)), index) == []


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    assert find_samples(written(tmp_path, b""), index_samples({"e": {"x": data()}})) == []


def test_paths_are_found_as_they_are_spelled() -> None:
    places = ["/home/somebody/project"]
    content = b'\0\x12/home/somebody/project/a b.onnx\0"/home/somebody/project"'
    assert find_places(content, places) == [
        "/home/somebody/project/a",
        "/home/somebody/project",
    ]
    assert find_places("x/home/somebody/project/ä\n".encode(), places) == [
        "/home/somebody/project/ä"
    ]
    wide = "C: /home/somebody/project/w.dll\0".encode("utf-16-le")
    assert find_places(wide, places) == ["/home/somebody/project/w.dll"]


def test_a_directory_that_begins_alike_is_another_one() -> None:
    assert find_places(b"/home/somebody/projects/x", ["/home/somebody/project"]) == []


def test_names_of_layers_are_no_paths(tmp_path: Path) -> None:
    """A short directory is named like a layer, so what lies in it has to exist."""
    short = Path(tmp_path.anchor) / tmp_path.parts[1]
    assert find_places(f"{short}/encoder/conv1".encode(), [str(short)]) == []
    inside = str(tmp_path)
    assert find_places(inside.encode(), [str(short)]) == [inside]
