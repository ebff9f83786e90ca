"""An ONNX Runtime session with a planted fault, for every contestant alike.

The fault stands in ``MODEL.onnx.faults.json`` beside the model, because an ONNX graph keeps no
state from call to call: what leaks, ages or starts slowly is the runtime around it. The module
needs nothing but ONNX Runtime and NumPy, so that it runs in each contestant's own environment.
"""

from __future__ import annotations

import functools
import json
import random
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

_REFERENCE_CALLS = 10


@dataclass(frozen=True)
class Faults:
    """What a session does beside running its model.

    Attributes:
        slow_calls: first calls that run the model ``slow_factor`` times.
        slow_factor: whole number.
        tail_every: one call of so many, drawn at random, runs the model ``tail_factor`` times.
        tail_factor: whole number.
        drift_calls: calls after which a call takes twice its time; it grows linearly from the
            first call on; 0 for none.
        leak_bytes: memory that each call takes and never gives back.
        last_call: whether it returns what the call before should have returned.
    """

    slow_calls: int = 0
    slow_factor: int = 1
    tail_every: int = 0
    tail_factor: int = 1
    drift_calls: int = 0
    leak_bytes: int = 0
    last_call: bool = False

    def write(self, model: Path) -> None:
        """Write the faults of a model beside it."""
        faults_file(model).write_text(json.dumps(asdict(self)), encoding="utf-8")


HEALTHY = Faults()


def faults_file(model: Path) -> Path:
    """Return where the faults of a model stand."""
    return model.with_name(model.name + ".faults.json")


def read_faults(model: Path) -> Faults:
    """Return the faults of a model; none where none are written."""
    place = faults_file(model)
    if not place.is_file():
        return HEALTHY
    fields: Mapping[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return Faults(**fields)


class PlantedSession:
    """A session that runs its model, and its faults around it."""

    def __init__(self, session: Any, faults: Faults) -> None:
        """Wrap a session of ONNX Runtime."""
        self._session = session
        self._faults = faults
        self._calls = 0
        self._reference_s = float("inf")
        self._held: list[Any] = []
        self._before: Any = None
        self._random = random.Random()

    def __getattr__(self, name: str) -> Any:
        """Return what the session itself has."""
        return getattr(self._session, name)

    def run(self, names: Any, feeds: Any, *options: Any) -> Any:
        """Run the model as often as planted and return its outputs as planted."""
        faults = self._faults
        times = 1
        if self._calls < faults.slow_calls:
            times = faults.slow_factor
        elif faults.tail_every and self._random.random() * faults.tail_every < 1:
            times = faults.tail_factor
        begin = time.perf_counter()
        for _ in range(times):
            outputs = self._session.run(names, feeds, *options)
        if faults.drift_calls:
            self._age(begin)
        if faults.leak_bytes:
            self._held.append(np.ones(faults.leak_bytes, np.uint8))
        self._calls += 1
        if faults.last_call:
            before, self._before = self._before, outputs
            return outputs if before is None else before
        return outputs

    def _age(self, begin: float) -> None:
        """Work on for a share of an undisturbed call that grows with the calls."""
        now = time.perf_counter()
        if self._calls < _REFERENCE_CALLS:
            self._reference_s = min(self._reference_s, now - begin)
            return
        end = now + self._reference_s * self._calls / self._faults.drift_calls
        while time.perf_counter() < end:
            pass


def open_session(model: str | Path) -> Any:
    """Open a model on one thread, with its faults if it has some; else ONNX Runtime's own session.

    Raises:
        Exception: whatever ONNX Runtime raises for a file that is no model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    faults = read_faults(Path(model))
    return session if faults == HEALTHY else PlantedSession(session, faults)


def install() -> None:
    """Plant the faults below a program that opens its sessions by itself."""
    import onnxruntime

    original = onnxruntime.InferenceSession

    @functools.wraps(original)
    def planted(path: Any, *arguments: Any, **named: Any) -> Any:
        session = original(path, *arguments, **named)
        faults = read_faults(Path(str(path)))
        return session if faults == HEALTHY else PlantedSession(session, faults)

    onnxruntime.InferenceSession = planted
