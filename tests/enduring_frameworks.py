"""A framework whose models break in the ways that only a long or a rough life shows.

Its models are planted ones (:mod:`pytest_edgeai.selfcheck.planted`); the file says what is wrong.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import Feeds
from pytest_edgeai.records import RuntimeOptions
from pytest_edgeai.selfcheck.planted import LoadedPlanted, Planted, PlantedModel

CACHE = "cache.bin"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a model; its file is this record as JSON, and padding behind it.

    Attributes:
        planted: the work, and what it leaks.
        kept_bytes: array that is kept after ``kept_every`` calls, again and again.
        kept_every: that number of calls.
        files_every: calls after which a file is opened and left.
        threads_every: calls after which a thread is started and left.
        slow_after_burst: multiple of the work once two calls ran at the same time.
        dies_after: calls after which the process ends.
        start_s: how long it takes to load.
        believes_anything: whether it loads a file that is not whole, and answers from its bytes.
        hangs_on_damage: whether it never returns from loading such a file.
        crashes_on_damage: whether such a file ends the process.
        needs_disk: what it does with every call that cannot write: ``""`` (it writes nothing),
            ``raises``, ``zeros`` (it answers wrongly) or ``for-good`` (it raises ever after).
        draws: whether its answers are drawn at random.
    """

    planted: PlantedModel = dataclasses.field(default_factory=PlantedModel)
    kept_bytes: int = 0
    kept_every: int = 1
    files_every: int = 0
    threads_every: int = 0
    slow_after_burst: int = 1
    dies_after: int = 0
    start_s: float = 0.0
    believes_anything: bool = False
    hangs_on_damage: bool = False
    crashes_on_damage: bool = False
    needs_disk: str = ""
    draws: bool = False

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(dataclasses.asdict(self)) + "\n" + "#" * 4096, encoding="utf-8")
        return path


_ACTIVE = threading.Semaphore(1)
_BURSTS = threading.Event()


class LoadedFault(LoadedPlanted):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.planted)
        self._fault = fault
        self._made = 0
        self._broken = False

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        if self._fault.needs_disk and not self._has_room():
            if self._fault.needs_disk == "zeros":
                return {key: value * 0 for key, value in super().run(feeds).items()}
            self._broken = self._fault.needs_disk == "for-good"
            raise OSError("its cache cannot be written")
        answer = super().run(feeds)
        if self._fault.draws:
            return {key: np.random.default_rng().normal(size=v.shape) for key, v in answer.items()}
        return answer

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        return self._call

    def _has_room(self) -> bool:
        if self._broken:
            return False
        try:
            Path(os.environ["TMPDIR"], CACHE).write_bytes(b"x" * 4096)
        except OSError:
            return False
        return True

    def _call(self) -> None:
        fault = self._fault
        alone = _ACTIVE.acquire(blocking=False)
        try:
            if not alone:
                _BURSTS.set()
            self._work()
            if _BURSTS.is_set():
                for _ in range(fault.slow_after_burst - 1):
                    self._work()
        finally:
            if alone:
                _ACTIVE.release()
        self._made += 1
        if fault.kept_bytes and self._made % fault.kept_every == 0:
            self._held.append(np.ones(fault.kept_bytes, np.uint8))
        if fault.files_every and self._made % fault.files_every == 0:
            os.open(os.devnull, os.O_RDONLY)
        if fault.threads_every and self._made % fault.threads_every == 0:
            threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        if fault.dies_after and self._made >= fault.dies_after:
            os._exit(7)


class Enduring(Planted):
    """Loads what :meth:`Fault.write` wrote."""

    def load(self, path: Path, runtime: RuntimeOptions) -> LoadedPlanted:
        content = path.read_bytes()
        whole = content.endswith(b"#") and content.count(b"#") == 4096
        # A file that is spoiled cannot say how its model behaves: the one beside it does.
        known = content if whole else (path.parent / "behavior.json").read_bytes()
        fault = _read(known.decode("utf-8").partition("\n")[0])
        time.sleep(fault.start_s)
        if whole:
            return LoadedFault(fault)
        if fault.hangs_on_damage:
            time.sleep(1000)
        if fault.crashes_on_damage:
            os._exit(11)
        if not fault.believes_anything:
            raise ModelError("the file is damaged", where=str(path))
        model = LoadedFault(fault)
        seed = int.from_bytes(hashlib.sha256(content).digest()[:4], "big")
        drawn = np.random.default_rng(seed).normal(size=model._weights.shape)
        model._weights = drawn.astype(np.float32)
        return model


def _read(text: str) -> Fault:
    fields = json.loads(text)
    return Fault(**{**fields, "planted": PlantedModel(**fields["planted"])})
