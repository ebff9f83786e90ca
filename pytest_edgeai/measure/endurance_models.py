"""Loaded models that are run for long, and as hard as they go."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples
from pytest_edgeai.measure.language import MODEL, LanguagePlan, LoadedLanguageRunnable
from pytest_edgeai.measure.timed import CallTimes, Timed

STREAMS = 4
"""Calls at the same time in a spike: what a device serves at most, and twice the cores of most."""

MOST_COPIED_BYTES = 256 * 2**20
"""Models above are not loaded several times for a spike, which is then one stream of calls."""

_PREFILLS = 1
_LONGEST_CALL_S = 60.0


def hangs_after_s(seconds: float) -> float:
    """Return when a part of the load that was to last ``seconds`` is taken to hang."""
    return 4 * seconds + _LONGEST_CALL_S


@dataclass(frozen=True, eq=False)
class Reading:
    """A part of the constant load, and what the process held after it.

    Attributes:
        calls: all calls.
        times: of those that were timed.
        definition: what `held_bytes` is.
        held_bytes: memory of the process.
        descriptors: open descriptors; ``None`` where the system does not tell.
        threads: likewise.
    """

    calls: int
    times: CallTimes
    definition: str
    held_bytes: int
    descriptors: int | None
    threads: int | None


@dataclass(frozen=True)
class Spike:
    """What a spike of load was.

    Attributes:
        what: in words.
        streams: streams that ran to the end.
        calls: of all of them.
        errors: what the other streams raised.
    """

    what: str
    streams: int
    calls: int
    errors: tuple[str, ...]


class EnduringModel(Timed, Protocol):
    """A loaded model that can be run for long."""

    def endure(self, seconds: float, kept: int) -> Reading:
        """Run calls, ``kept`` of them timed, and state what the process holds."""
        ...

    def spike(self, seconds: float) -> Spike:
        """Run it as hard as it goes."""
        ...


class EnduringTensors(LoadedRunnable):
    """A model of tensors, loaded in a worker of its own; see :class:`EnduringModel`.

    Attributes:
        streams: calls at the same time in a spike.
    """

    streams = STREAMS

    def endure(self, seconds: float, kept: int) -> Reading:
        """See :meth:`EnduringModel.endure`."""
        limit_s = hangs_after_s(seconds)
        answer = self._ask("endure", within_s=limit_s, handle="model", seconds=seconds, kept=kept)
        return _reading(answer)

    def spike(self, seconds: float) -> Spike:
        """Run several loads of it at the same time, each in a thread of the same process."""
        samples = self._bound()
        streams = self.streams
        self.run_on(None)
        answer = self._ask(
            "burst",
            handle="model",
            path=str(self.runnable.path),
            runtime=self.runnable.runtime,
            arrays=samples.arrays,
            first=0,
            batch=samples.batching.batch,
            streams=streams,
            seconds=seconds,
        )
        what = f"{streams} parallel streams" if streams > 1 else "1 stream, back to back"
        return Spike(what, int(answer["streams"]), int(answer["calls"]), tuple(answer["errors"]))


class EnduringText(LoadedLanguageRunnable):
    """A language model in a worker of its own: it decodes, and in a spike it reads prompts."""

    def endure(self, seconds: float, kept: int) -> Reading:
        """See :meth:`EnduringModel.endure`; a call decodes one token."""
        if self._bound_phase != "decode":
            self.time_calls(1)
        limit_s = hangs_after_s(seconds)
        answer = self._ask("endure", within_s=limit_s, handle=MODEL, seconds=seconds, kept=kept)
        return _reading(answer)

    def spike(self, seconds: float) -> Spike:
        """Read whole contexts back to back, as when many prompts arrive at once."""
        self.run_on(None)
        deadline = time.monotonic() + seconds
        calls = 0
        while not calls or time.monotonic() < deadline:
            self.time_phase("prefill", _PREFILLS)
            calls += _PREFILLS
        return Spike(f"prompts of {self.plan.context_tokens} tokens, back to back", 1, calls, ())


def load_enduring(
    runnable: Runnable,
    samples: Samples,
    language: LanguagePlan | None,
    *,
    size_bytes: int,
    time_limit_s: float,
) -> EnduringTensors | EnduringText:
    """Load a model in a fresh process, which the caller ends.

    Args:
        runnable: the model and how it is run.
        samples: what it is fed.
        language: how a language model is fed; ``None`` for any other.
        size_bytes: of its files, which decides whether a spike may load it several times.
        time_limit_s: longest time of a request.

    Raises:
        EdgeAIError: the framework is missing, the model is refused, or the worker failed.
    """
    if language is not None:
        return EnduringText(runnable, samples, language, time_limit_s=time_limit_s)
    loaded = EnduringTensors(runnable, samples, time_limit_s=time_limit_s)
    if size_bytes > MOST_COPIED_BYTES:
        loaded.streams = 1
    return loaded


def _reading(answer: Mapping[str, Any]) -> Reading:
    wall_ns = np.asarray(answer["wall_ns"], dtype=np.int64)
    preemptions = answer["preemptions"]
    return Reading(
        int(answer["calls"]),
        CallTimes(
            wall_ns,
            np.asarray(answer["cpu_ns"], dtype=np.int64),
            # Windows counts none.
            np.zeros_like(wall_ns)
            if preemptions is None
            else np.asarray(preemptions, dtype=np.int64),
        ),
        str(answer["definition"]),
        int(answer["bytes"]),
        answer["descriptors"],
        answer["threads"],
    )
