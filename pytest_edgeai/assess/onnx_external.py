"""Which files beside an ONNX model its weights lie in, without the rest of its structure."""

from __future__ import annotations

import mmap
from pathlib import Path

from pytest_edgeai.assess.onnx_tensor import read_tensor
from pytest_edgeai.assess.protobuf import LENGTH, Reader, tag
from pytest_edgeai.errors import ModelError

_MODEL_GRAPH = tag(7, LENGTH)
_GRAPH_INITIALIZER = tag(5, LENGTH)


def external_locations(path: Path) -> tuple[str, ...]:
    """Return where the external data of the graph's initializers lie, as the file spells it.

    Reads the headers of tensors alone, so that it takes next to no memory in a process whose memory
    is measured. Graphs inside of operators are not looked at.

    Args:
        path: the ``.onnx`` file.

    Returns:
        Each location once; none where there is no external data, or the file is damaged: whoever
        loads it says what is wrong with it.
    """
    found: dict[str, None] = {}
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        ):
            reader = Reader(mapped)
            for key, start, end in reader.fields(0, len(mapped)):
                if key != _MODEL_GRAPH:
                    continue
                for inner, a, b in reader.fields(start, end):
                    if inner != _GRAPH_INITIALIZER:
                        continue
                    entries = dict(read_tensor(reader, a, b, str(path)).external or ())
                    if location := entries.get("location"):
                        found[location] = None
    except (OSError, ValueError, ModelError):
        return ()
    return tuple(found)
