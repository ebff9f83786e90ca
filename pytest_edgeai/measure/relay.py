"""Let two models take turns by themselves, where their processes can; see :mod:`.worker.relay`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.measure.timed import CallTimes, TakesTurns, Timed

_PAIR = 2


class Relay:
    """Two models that hand over to each other."""

    def __init__(self, models: Sequence[TakesTurns], pool: ThreadPoolExecutor) -> None:
        """Relay between ``models``; one of them is asked by ``pool``."""
        self._models = models
        self._pool = pool
        self._series = 0

    def run(self, turns: Sequence[tuple[int, int]]) -> list[CallTimes]:
        """Take a series of turns; return the times of each, in order.

        Args:
            turns: the index of the model and its calls, for each turn.

        Raises:
            EdgeAIError: a process ended or hung, or a call of it failed.
        """
        self._series += 1
        calls = [[count if index == own else 0 for index, count in turns] for own in range(_PAIR)]
        first = turns[0][0]
        waiting = self._pool.submit(self._take, 1 - first, calls[1 - first])
        try:
            answers = {first: self._take(first, calls[first])}
        except MeasurementError:
            # Whoever waits for a process that is gone says so; that process knows more.
            waiting.result()
            raise
        answers[1 - first] = waiting.result()
        parts = {own: iter(answers[own]) for own in answers}
        return [next(parts[index]) for index, _ in turns]

    def _take(self, own: int, calls: Sequence[int]) -> list[CallTimes]:
        return self._models[own].take_turns(calls, self._series) if any(calls) else []


@contextmanager
def relay(models: Sequence[Timed]) -> Iterator[Relay | None]:
    """Yield what lets two models take turns by themselves; ``None`` where they cannot.

    Raises:
        EdgeAIError: a worker failed.
    """
    able = [model for model in models if isinstance(model, TakesTurns)]
    if not hasattr(os, "mkfifo") or len(able) != _PAIR or len(models) != _PAIR:
        yield None
        return
    with ThreadPoolExecutor(1) as pool:
        with tempfile.TemporaryDirectory() as folder:
            paths = [str(Path(folder) / str(own)) for own in range(_PAIR)]
            for path, model in zip(paths, able, strict=True):
                os.mkfifo(path, 0o600)
                model.listen(path)
            for path, model in zip(reversed(paths), able, strict=True):
                model.join(path)
        yield Relay(able, pool)
