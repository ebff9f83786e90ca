from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.digests import digest_file, digest_files

NAMES = st.sampled_from(["a", "b", "ab", "d/a", "d/b", "é"])


def write(root: Path, files: dict[str, bytes]) -> list[Path]:
    paths = []
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(path)
    return paths


def test_the_definition(tmp_path: Path) -> None:
    paths = write(tmp_path, {"b": b"xy", "d/a": b""})
    expected = hashlib.sha256(
        b"\0\0\0\0\0\0\0\x01b\0\0\0\0\0\0\0\x02xy" + b"\0\0\0\0\0\0\0\x03d/a" + b"\0" * 8
    ).hexdigest()
    assert digest_files(paths, tmp_path) == expected
    assert digest_files([*paths[::-1], paths[0]], tmp_path) == expected


@given(
    one=st.dictionaries(NAMES, st.binary(max_size=4), max_size=4),
    two=st.dictionaries(NAMES, st.binary(max_size=4), max_size=4),
)
def test_digests_are_equal_exactly_where_names_and_bytes_are(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, bytes], two: dict[str, bytes]
) -> None:
    roots = [tmp_path_factory.mktemp("root") for _ in range(2)]
    first, second = (
        digest_files(write(root, files), root)
        for root, files in zip(roots, (one, two), strict=True)
    )
    assert (first == second) == (one == two)


def test_a_large_file_is_streamed_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (path,) = write(tmp_path, {"large": content})
    assert digest_file(path) == hashlib.sha256(content).hexdigest()
    expected = hashlib.sha256(
        (5).to_bytes(8, "big") + b"large" + len(content).to_bytes(8, "big") + content
    ).hexdigest()
    assert digest_files([path], tmp_path) == expected


def test_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    (path,) = write(tmp_path, {"a": b""})
    with pytest.raises(ValueError, match=r"subpath|is not"):
        digest_files([path], tmp_path / "root")
    with pytest.raises(ValueError, match="not a file below"):
        digest_files([tmp_path / "root" / ".." / "a"], tmp_path / "root")
