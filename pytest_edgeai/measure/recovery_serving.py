"""A candidate as a serving process: asked under load, killed, starved and started again."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples
from pytest_edgeai.measure.language import LanguagePlan, LoadedLanguageRunnable

CALLS = 4
"""Different requests that a process is asked to answer; a language model scores a block of text."""

REQUEST_S = 0.5
MOST_REPEATS = 2000


@dataclass(frozen=True, eq=False)
class Output:
    """One output of one call.

    Attributes:
        sha256: digest of all bytes.
        dtype: name of its type; ``str`` for text.
        shape: its shape.
        values: float64, elements spread over it evenly; empty for text.
    """

    sha256: str
    dtype: str
    shape: tuple[int, ...]
    values: NDArray[np.float64]


Answers: TypeAlias = Mapping[str, Output]
"""Call and output name (``0/scores``) to the output."""


class ServingTensors(LoadedRunnable):
    """A model of tensors that answers its first samples."""

    def answers(self, repeats: int = 1) -> list[Answers]:
        """Answer the same requests again and again; returns every different set of answers."""
        samples = self._bound()
        per_call = samples.batching.batch or 1
        answer = self._ask(
            "answer",
            handle="model",
            arrays=samples.arrays,
            first=0,
            calls=max(1, min(CALLS, samples.count // per_call)),
            batch=samples.batching.batch,
            repeats=repeats,
        )
        return [_answers(part) for part in answer["rounds"] if part is not None]

    def fill_disk(self, full: bool) -> bool:
        """Let writes of its process fail, or succeed again; return whether they do fail."""
        return bool(self._ask("fill_disk", full=full)["refused"])

    def load_again(self) -> None:
        """Load the model once more in the same process, in place of the first."""
        self._open()

    def kill(self) -> None:
        """End its process at once, as the kernel does for lack of memory; nobody is told."""
        os.kill(self._worker.pid, getattr(signal, "SIGKILL", signal.SIGTERM))


class ServingText(LoadedLanguageRunnable):
    """A language model that scores the first block of its text."""

    def answers(self, repeats: int = 1) -> list[Answers]:
        """See :meth:`ServingTensors.answers`; the answer is the log-likelihood of each token."""
        found: list[Answers] = []
        for _ in range(repeats):
            scored = self.score(0, Path(), "alone")
            nll = np.asarray(
                [np.nan if value is None else value for value in scored["nll"]], np.float64
            )
            digest = hashlib.sha256(nll.tobytes()).hexdigest()
            if not found or found[0]["0/nll"].sha256 != digest:
                found.append({"0/nll": Output(digest, "float64", nll.shape, nll)})
        return found

    def fill_disk(self, full: bool) -> bool:
        """See :meth:`ServingTensors.fill_disk`."""
        return bool(self._ask("fill_disk", full=full)["refused"])

    def load_again(self) -> None:
        """Do nothing: two language models may not fit into memory side by side."""

    def kill(self) -> None:
        """See :meth:`ServingTensors.kill`."""
        os.kill(self._worker.pid, getattr(signal, "SIGKILL", signal.SIGTERM))


Server: TypeAlias = ServingTensors | ServingText


def start_server(
    runnable: Runnable, samples: Samples, language: LanguagePlan | None, *, time_limit_s: float
) -> Server:
    """Start a serving process and load a model there.

    Raises:
        EdgeAIError: the framework is missing, the model is refused, or the process ended or took
            longer than ``time_limit_s`` for one of both.
    """
    if language is not None:
        return ServingText(runnable, samples, language, time_limit_s=time_limit_s)
    return ServingTensors(runnable, samples, time_limit_s=time_limit_s)


@dataclass
class UnderLoad:
    """Requests from a thread of their own, one after the other, until the server fails or stops.

    Attributes:
        server: who is asked.
        repeats: how often a request repeats its calls, so that it takes a while.
        answered: the answers so far.
        requests: how many requests were answered.
        error: what ended the load; ``None`` where it was stopped.
        request_s: how long the last request took.
    """

    server: Server
    repeats: int
    answered: list[Answers] = field(default_factory=list)
    requests: int = 0
    error: EdgeAIError | None = None
    request_s: float = REQUEST_S
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Start to ask."""
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self.answered += self.server.answers(self.repeats)
            except EdgeAIError as error:
                self.error = error
                return
            self.request_s = time.monotonic() - began
            self.requests += 1

    def wait_until_loaded(self, requests: int, limit_s: float) -> None:
        """Wait until so many requests were answered and a further one is in flight."""
        deadline = time.monotonic() + limit_s
        while self.requests < requests and self._thread.is_alive():
            if time.monotonic() >= deadline:
                return
            time.sleep(0.005)
        time.sleep(self.request_s / 4)

    def stop(self) -> None:
        """Ask nothing more; the request in flight is not touched."""
        self._stop.set()

    def ended(self, limit_s: float) -> bool:
        """Return whether the last request was answered or failed within ``limit_s`` seconds."""
        self._thread.join(limit_s)
        return not self._thread.is_alive()


def repeats_for(server: Server) -> int:
    """Return how often a request has to repeat its calls so that it takes :data:`REQUEST_S`."""
    begin = time.monotonic()
    server.answers(1)
    seconds = time.monotonic() - begin
    return max(1, min(MOST_REPEATS, int(REQUEST_S / max(seconds, 1e-4))))


def difference(reference: Answers, answers: Answers) -> float:
    """Return by how much answers differ from those of the intact model, at their worst.

    Numbers are compared in parts of the range of the reference's output, so that 0.01 is a percent
    of it; infinite where an output is missing, has another shape or type, or is not finite where
    the reference's is, and for integers and text that are not the same.
    """
    if reference.keys() != answers.keys():
        return float("inf")
    return max((_apart(reference[name], answers[name]) for name in reference), default=0.0)


def _apart(reference: Output, output: Output) -> float:
    if reference.sha256 == output.sha256 and reference.shape == output.shape:
        return 0.0
    if (reference.dtype, reference.shape) != (output.dtype, output.shape):
        return float("inf")
    if not reference.dtype.startswith(("float", "bfloat")):
        return float("inf")
    finite = np.isfinite(reference.values)
    if not np.array_equal(finite, np.isfinite(output.values)):
        return float("inf")
    if not finite.any():
        return 0.0
    known, other = reference.values[finite], output.values[finite]
    span = float(np.ptp(known)) or float(np.abs(known).max()) or 1.0
    return float(np.abs(known - other).max()) / span


def arrays_of(answers: Answers) -> dict[str, NDArray[np.float64]]:
    """Return the values of answers, for the evidence."""
    return {name.replace("/", "-"): output.values for name, output in answers.items()}


def different(sets: Sequence[Answers], reference: Answers) -> list[float]:
    """Return :func:`difference` of each set of answers."""
    return [difference(reference, answers) for answers in sets]


def _answers(calls: Sequence[Mapping[str, Any]]) -> Answers:
    found: dict[str, Output] = {}
    for index, call in enumerate(calls):
        for name, packed in call.items():
            values = np.frombuffer(base64.b64decode(packed["values"]), dtype="<f8")
            found[f"{index}/{name}"] = Output(
                packed["sha256"], packed["dtype"], tuple(packed["shape"]), values
            )
    return found


Start: TypeAlias = Callable[[Path], Server]
