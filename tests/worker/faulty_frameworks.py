"""Frameworks that go wrong in every way a real one can; importable in the parent only."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.optimize.frameworks.base import (
    ExecutionFacts,
    Feeds,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.records import RuntimeOptions, TensorSpec

PEAK_BYTES = 96 * 2**20
KEPT_BYTES = 16 * 2**20
FILE_BYTES = 32 * 2**20
TOUCHED_BYTES = 8 * 2**20


class Doubling:
    """A model that doubles its input ``x`` of shape ``(n, 2)``."""

    def __init__(self, batch: int | None = None) -> None:
        self.inputs: Sequence[TensorSpec] = [TensorSpec("x", "float32", (batch, 2))]
        self.outputs: Sequence[TensorSpec] = [TensorSpec("y", "float32", (batch, 2))]

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        return {"y": feeds["x"] * 2}

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        return lambda: self.run(feeds)

    def execution(self) -> ExecutionFacts:
        return ExecutionFacts({"float32": 1}, ("CPU",))

    def close(self) -> None:
        pass


def _segfault() -> None:
    ctypes.string_at(0)


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    time.sleep(1000)


def _hang_with_interpreter_lock() -> None:
    ctypes.PyDLL(None).sleep(1000)


def _garbage() -> None:
    os.write(1, bytes(range(256)) * 64)
    os.write(2, b"\x00\x00\x00\x05hello" * 64)
    sys.stdout.write('{"type":"result","id":1,"value":null}\n')


def _flood() -> None:
    line = b"flood " * 1000 + b"\n"
    for _ in range(8000):
        os.write(1, line)
    os.write(1, b"the last line\n")


def _memory() -> None:
    raise MemoryError("4096 GiB asked for")


def _exception() -> None:
    print("about to fail")
    raise ValueError("the framework says\nno")


def _model_error() -> None:
    raise ModelError("unfit", where="here", allowed="fit ones", advice="Try another")


def _user_error() -> None:
    raise UserError("wrong", where="there")


def _sys_exit() -> None:
    sys.exit("the framework wants to go")


def _missing_import() -> None:
    import a_module_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401


def _leave_grandchild() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    print(f"grandchild {child.pid}", flush=True)


BEHAVIORS: dict[str, Callable[[], None]] = {
    "segfault": _segfault,
    "killed": _killed,
    "exit": lambda: os._exit(7),
    "hang": _hang,
    "hang-with-interpreter-lock": _hang_with_interpreter_lock,
    "garbage": _garbage,
    "flood": _flood,
    "memory": _memory,
    "exception": _exception,
    "model-error": _model_error,
    "user-error": _user_error,
    "sys-exit": _sys_exit,
    "missing-import": _missing_import,
    "grandchild": _leave_grandchild,
}


class Faulty:
    """Loads the doubling model, after doing what the name of the file says."""

    def load(self, path: Path, runtime: RuntimeOptions) -> Doubling:
        BEHAVIORS.get(path.name, lambda: None)()
        return Doubling(3 if path.name == "fixed-batch" else None)

    def load_null_model(self, runtime: RuntimeOptions) -> Doubling:
        return Doubling()

    def optimize(self, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
        assert request.calibration is not None
        total = 0.0
        for index, feeds in enumerate(request.calibration):
            progress("adding", index / len(request.calibration))
            total += float(np.sum(feeds["x"]))
        artifact = request.output / "total.txt"
        if request.recipe.options.get("write", True):
            artifact.write_text(str(total))
        return OptimizeResult(artifact, ("added", request.recipe.id))


class CannotImport:
    """An import that fails although everything is installed, as with a missing shared library."""

    def __init__(self) -> None:
        raise ImportError("libfaulty.so.1: cannot open shared object file")


class CrashesOnImport:
    """An import that takes the process down."""

    def __init__(self) -> None:
        _segfault()


class HangsOnImport:
    """An import that never ends."""

    def __init__(self) -> None:
        _hang()


class WhereAmI(Faulty):
    """Tells where it runs, by way of its model's input names."""

    def load(self, path: Path, runtime: RuntimeOptions) -> Doubling:
        import pytest_edgeai

        model = Doubling()
        facts = {
            "package": str(pytest_edgeai.__file__),
            "module": __file__,
            "executable": sys.executable,
            "path": os.pathsep.join(sys.path),
            "environment": " ".join(sorted(os.environ)),
            "group": str(os.getpgrp()),
        }
        model.inputs = [TensorSpec(f"{key}={value}", "str", ()) for key, value in facts.items()]
        return model


def touched(size: int) -> mmap.mmap:
    """Return pages that are resident."""
    block = mmap.mmap(-1, size)
    for page in range(0, size, mmap.PAGESIZE):
        block[page] = 1
    return block


class FailsWhenCalled(Faulty):
    """Loads a model whose third call does what the name of its file says."""

    def load(self, path: Path, runtime: RuntimeOptions) -> Doubling:
        return ThirdCallFails(path.name)


class ThirdCallFails(Doubling):
    """Doubles twice, and then hangs, raises or ends the process."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how
        self._calls = 0

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        def call() -> object:
            self._calls += 1
            if self._calls == 3 and self._how == "ends":
                os._exit(3)
            if self._calls == 3 and self._how == "raises":
                raise ValueError("enough")
            if self._calls == 3 and self._how == "hangs":
                time.sleep(600)
            return self.run(feeds)

        return call


class Peaked(Doubling):
    """Keeps a little; each call takes much for a moment."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = touched(KEPT_BYTES)

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        def call() -> object:
            touched(PEAK_BYTES).close()
            return None

        return call


class PeaksAbove(Faulty):
    """Loads a model whose peak is far above its steady state."""

    def load(self, path: Path, runtime: RuntimeOptions) -> Doubling:
        return Peaked()


class MappedWeights(Doubling):
    """Maps its weights and touches a quarter of them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        with path.open("rb") as file:
            self._weights = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Without it the kernel maps the pages around each that is touched as well.
        self._weights.madvise(mmap.MADV_RANDOM)
        self.seen = sum(self._weights[page] for page in range(0, TOUCHED_BYTES, mmap.PAGESIZE))

    def close(self) -> None:
        self._weights.close()


class MapsItsWeights(Faulty):
    """Loads a model that maps its weights, whatever it is told."""

    def load(self, path: Path, runtime: RuntimeOptions) -> Doubling:
        return MappedWeights(path)
