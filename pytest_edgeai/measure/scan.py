"""Look through every file of an artifact for what runs, escapes or explodes; nothing is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pytest_edgeai.measure.scan_archives import (
    Remark,
    holds_zip,
    is_archive,
    leads_elsewhere,
    scan_archive,
)
from pytest_edgeai.measure.scan_models import (
    scan_gguf,
    scan_json,
    scan_openvino,
    scan_safetensors,
    scan_template,
)
from pytest_edgeai.measure.scan_onnx import scan_onnx
from pytest_edgeai.measure.scan_pickles import dangerous_imports, may_be_pickle
from pytest_edgeai.measure.scan_programs import programs, script_line
from pytest_edgeai.records import artifact_root

MODEL_SUFFIXES = frozenset({".gguf", ".onnx", ".safetensors", ".xml"})
TEXT_SUFFIXES = frozenset({".json", ".jinja", ".jinja2", ".md", ".txt"})
"""Files that are read here from end to end, so that no other scanner has to."""
COMPANION_SUFFIXES = frozenset({".bin", ".model", ".npz", ".npy", ".tiktoken"})
"""What may lie beside a model: weights of an OpenVINO model, tokenizers, arrays."""
_TEMPLATE_SUFFIXES = frozenset({".jinja", ".jinja2"})
_START_BYTES = 512
_LONGEST_TEXT = 1 << 28


@dataclass(frozen=True)
class StaticScan:
    """What was seen in the files of an artifact.

    Attributes:
        files: POSIX names of the files below the artifact's folder.
        settled: texts that were read from end to end, and weights: no further scanner has to know
            them.
        weights: files that hold nothing but the weights of a model that names them: external data,
            and the ``.bin`` beside an OpenVINO ``.xml``. Any bytes are ordinary in them.
        remarks: what was seen, findings and what could not be looked into.
    """

    files: tuple[str, ...]
    settled: frozenset[str]
    weights: frozenset[str]
    remarks: tuple[Remark, ...]


def scan_artifact(
    path: Path, files: Sequence[Path], *, allowed_operators: Iterable[str] | None = None
) -> StaticScan:
    """Look through an artifact.

    Args:
        path: what a framework loads: a file, whose companions lie beside it, or a folder.
        files: every file of the artifact; what else lies in the folder is named.
        allowed_operators: the only operators that it may hold; ``None``: every one that its runtime
            ships.
    """
    root = artifact_root(path)
    remarks: list[Remark] = []
    entries = sorted({*files, *_entries(root)})
    operators = None if allowed_operators is None else tuple(allowed_operators)
    external: set[Path] = set()
    regular: dict[str, Path] = {}
    for entry in entries:
        name = entry.relative_to(root).as_posix() if entry.is_relative_to(root) else str(entry)
        if entry.is_symlink() and leads_elsewhere(entry, root):
            remarks.append(Remark("link", name, "it is a link that leads out of the artifact"))
        elif not entry.is_file():
            if not entry.is_dir():
                remarks.append(Remark("link", name, "it is no regular file"))
        else:
            regular[name] = entry
    for name, entry in regular.items():
        try:
            found, beside = _scan_file(entry, name, operators)
        except OSError as error:
            found, beside = [_cannot_open(name, error)], frozenset()
        remarks += found
        external |= beside
    texts = {name for name, entry in regular.items() if entry.suffix.lower() in TEXT_SUFFIXES}
    weights = {
        name
        for name, entry in regular.items()
        if entry in external
        or (entry.suffix.lower() == ".bin" and entry.with_suffix(".xml") in regular.values())
    }
    remarks += _strangers(path, regular, external)
    return StaticScan(
        tuple(regular), frozenset(texts | weights), frozenset(weights), tuple(remarks)
    )


def _entries(root: Path) -> Iterator[Path]:
    """Yield everything below a folder that is no folder itself, and links to folders."""
    for folder, folders, names in os.walk(root):
        yield from (Path(folder, name) for name in names)
        yield from (Path(folder, name) for name in folders if Path(folder, name).is_symlink())


def _cannot_open(name: str, error: OSError) -> Remark:
    return Remark("file", name, f"it cannot be read ({error.strerror or error})", unread=True)


def _scan_file(
    path: Path, name: str, operators: Iterable[str] | None
) -> tuple[list[Remark], frozenset[Path]]:
    """Return what is wrong with one file, and the files that it keeps its data in."""
    remarks: list[Remark] = []
    external: frozenset[Path] = frozenset()
    suffix = path.suffix.lower()
    with path.open("rb") as stream:
        remarks += _scan_bytes(name, stream, suffix, 1)
    if suffix == ".onnx":
        more, external = scan_onnx(path, name, operators)
        remarks += more
    elif suffix == ".xml":
        remarks += scan_openvino(path, name, operators)
    elif suffix == ".gguf":
        remarks += scan_gguf(path, name)
    elif suffix == ".safetensors":
        remarks += scan_safetensors(path, name)
    elif suffix == ".json":
        remarks += scan_json(path, name)
    elif suffix in _TEMPLATE_SUFFIXES:
        remarks += scan_template(path, name)
    elif suffix in TEXT_SUFFIXES:
        remarks += _scan_text(path, name)
    return remarks, external


def _scan_text(path: Path, name: str) -> Iterator[Remark]:
    try:
        whole = path.stat().st_size <= _LONGEST_TEXT
        text = path.read_text("utf-8") if whole else "\0"
    except ValueError:
        text = "\0"
    if "\0" in text:
        yield Remark("text", name, "this is no text", unread=True)


def _scan_bytes(name: str, stream: IO[bytes], suffix: str, depth: int) -> Iterator[Remark]:
    """Yield what the bytes of a file hold, whatever its format is."""
    start = stream.read(_START_BYTES)
    stream.seek(0)
    if line := script_line(start):
        yield Remark("program", name, f'it is a script ("{line}")')
    for kind, at in programs(stream):
        what = f"it is {kind}" if not at else f"it holds {kind} from byte {at} on"
        yield Remark("program", name, what)
    stream.seek(0)
    if is_archive(start):
        yield from scan_archive(name, stream, depth, _scan_inner)
    elif holds_zip(stream):
        yield Remark("archive", name, "a ZIP archive follows what it is named after")
        stream.seek(0)
        yield from scan_archive(name, stream, depth, _scan_inner)
    stream.seek(0)
    if may_be_pickle(start, suffix):
        # The array of a .npy follows its header; an array of objects is a pickle.
        if start.startswith(b"\x93NUMPY"):
            _skip_array_header(stream)
        for imported in dangerous_imports(stream):
            yield Remark("pickle", name, f'unpickling it imports "{imported}"')


def _skip_array_header(stream: IO[bytes]) -> None:
    """Move past the header of a .npy file (numpy.lib.format, versions 1 to 3)."""
    head = stream.read(12)
    long = len(head) == 12 and head[6] > 1
    length = int.from_bytes(head[8:12] if long else head[8:10], "little")
    stream.seek((12 if long else 10) + length)


def _scan_inner(name: str, stream: IO[bytes], depth: int) -> Iterator[Remark]:
    yield from _scan_bytes(name, stream, Path(name).suffix.lower(), depth)


def _strangers(path: Path, regular: dict[str, Path], external: set[Path]) -> Iterator[Remark]:
    """Yield the files that belong to no format; nothing is said beside a model of unknown format.

    What another scanner does not know either keeps the gate from passing.
    """
    known = any(entry.suffix.lower() in MODEL_SUFFIXES for entry in regular.values())
    for name, entry in regular.items():
        suffix = entry.suffix.lower()
        ordinary = suffix in MODEL_SUFFIXES | TEXT_SUFFIXES | COMPANION_SUFFIXES
        if known and not ordinary and entry not in external and entry != path:
            yield Remark("stranger", name, "it belongs to no model format")
