"""Answer requests as a serving process does, with nothing written to a disk.

Answers travel through the pipe: a process whose disk is full has to be able to give them.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.records import JSON, TensorSpec
from pytest_edgeai.worker import arrays as samples_of

MOST_VALUES = 262_144
"""Elements of one output that travel, spread over it evenly; the digest is of all of them."""

PROBE_BYTES = 65_536


class Runs(Protocol):
    """What is needed of a :class:`~pytest_edgeai.optimize.frameworks.base.LoadedModel` here."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """Its inputs."""
        ...

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once."""
        ...


class Serving:
    """The models of a worker as a server's, and a full disk."""

    def __init__(self, model: Callable[[str], Runs]) -> None:
        """Serve models by handle."""
        self._model = model
        self.operations: dict[str, Callable[..., JSON]] = {
            "answer": self.answer,
            "fill_disk": self.fill_disk,
        }

    def answer(
        self,
        handle: str,
        arrays: Mapping[str, str],
        first: int,
        calls: int,
        batch: int | None,
        repeats: int = 1,
    ) -> JSON:
        """Answer ``calls`` calls from sample ``first`` on, all of them ``repeats`` times.

        Returns:
            ``{"rounds": [[{output name: answer} of each call] of each repeat]}``, an answer as
            :func:`packed` describes it. A repeat whose answers are those of the first one is
            ``null``.
        """
        model = self._model(handle)
        opened = samples_of.open_arrays(arrays)
        samples_of.check_inputs(opened, model.inputs, batch)
        step = batch or 1
        rounds: list[JSON] = []
        for _ in range(repeats):
            answers = []
            for call in range(calls):
                outputs = model.run(samples_of.take(opened, first + call * step, batch))
                answers.append({name: packed(value) for name, value in outputs.items()})
            rounds.append(None if rounds and answers == rounds[0] else answers)
        return {"rounds": rounds}

    def fill_disk(self, full: bool) -> JSON:
        """Let every write of this process to a file fail, or succeed again.

        The disk of the machine stays as it is: the largest file that this process may write is set
        to 0 bytes (``RLIMIT_FSIZE`` of setrlimit(2)), so that a write fails with ``EFBIG`` where a
        full disk fails it with ``ENOSPC``. Python ignores the signal that would come with it.

        Returns:
            ``{"refused"}``, whether a write was tried and refused.

        Raises:
            MeasurementError: this system has no such limit.
        """
        if sys.platform == "win32":
            raise MeasurementError("this system has no limit for the size of files")
        import resource

        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (0 if full else hard, hard))
        return {"refused": _write_is_refused()}


def packed(value: NDArray[Any]) -> dict[str, JSON]:
    """Return an output as ``{"sha256", "dtype", "shape", "values"}``.

    The digest is over all bytes in C order, or the UTF-8 text of strings; ``values`` is the base64
    of little-endian float64 of up to :data:`MOST_VALUES` elements, evenly spread; empty for text.
    """
    array = np.ascontiguousarray(value)
    values = b""
    if array.dtype.kind in "OUS":
        content = "\0".join(str(item) for item in array.reshape(-1).tolist()).encode()
    else:
        content = array.tobytes()
        stride = -(-array.size // MOST_VALUES) or 1
        values = array.reshape(-1)[::stride].astype("<f8").tobytes()
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "dtype": "str" if array.dtype.kind in "OUS" else array.dtype.name,
        "shape": list(np.shape(value)),
        "values": base64.b64encode(values).decode("ascii"),
    }


def _write_is_refused() -> bool:
    """Return whether writing a small temporary file fails for lack of room."""
    # Without the tempfile module, which looks for a folder that it can write into by writing.
    probe = Path(os.environ.get("TMPDIR", "."), f"probe-{os.getpid()}")
    try:
        with probe.open("wb", buffering=0) as file:
            file.write(bytes(PROBE_BYTES))
    except OSError as error:
        if error.errno in (errno.EFBIG, errno.ENOSPC, errno.EDQUOT):
            return True
        raise
    finally:
        probe.unlink(missing_ok=True)
    return False
