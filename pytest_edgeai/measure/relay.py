"""Let two models take turns by themselves, where their processes can; see :mod:`.worker.relay`."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_edgeai.errors import EdgeAIError, MeasurementError
from pytest_edgeai.measure.timed import CallTimes, TakesTurns, Timed, Turns

_PAIR = 2


@dataclass(frozen=True)
class _Series:
    number: int
    turns: Sequence[tuple[int, int]]
    taken: Sequence[Callable[[], Turns]]


class Relay:
    """Two models that hand over to each other, in series of turns that may be ordered ahead."""

    def __init__(self, models: Sequence[TakesTurns], pool: ThreadPoolExecutor) -> None:
        """Relay between ``models``; one of them is waited for in ``pool``."""
        self._models = models
        self._pool = pool
        self._number = 0
        self._ordered: deque[_Series] = deque()

    def order(self, turns: Sequence[tuple[int, int]]) -> None:
        """Have a series taken after those that were ordered before.

        Args:
            turns: the index of the model and its calls, for each turn.

        Raises:
            EdgeAIError: a process ended. What was ordered before is waited for, and lost.
        """
        self._number += 1
        before = self._ordered[-1] if self._ordered else None
        taken: list[Callable[[], Turns]] = []
        self._ordered.append(_Series(self._number, turns, taken))
        try:
            for own, model in enumerate(self._models):
                waits = before is not None and before.turns[-1][0] != own == turns[0][0]
                after = before.number if before is not None and waits else None
                calls = [count if index == own else 0 for index, count in turns]
                taken.append(model.order_turns(calls, self._number, after))
        except EdgeAIError:
            self._forget()
            raise

    def taken(self) -> tuple[list[CallTimes], bool]:
        """Wait for the first series that was ordered.

        Returns:
            the times of each turn, in order, and whether both models ran on the core that they were
            told of.

        Raises:
            EdgeAIError: a process ended or hung, or a call of it failed. What was ordered after it
                is waited for as well, and lost.
        """
        series = self._ordered.popleft()
        try:
            models = self._answers(series)
        except EdgeAIError:
            self._forget()
            raise
        parts = [iter(model.times) for model in models]
        times = [next(parts[index]) for index, _ in series.turns]
        return times, all(model.placed for model in models)

    def _answers(self, series: _Series) -> list[Turns]:
        first = series.turns[0][0]
        waiting = self._pool.submit(series.taken[1 - first])
        try:
            answers = {first: series.taken[first]()}
        except EdgeAIError as error:
            told = waiting.exception()
            if told is not None and isinstance(error, MeasurementError):
                # Whoever waits for a process that is gone says so; that process knows more.
                raise told from None
            raise
        answers[1 - first] = waiting.result()
        return [answers[own] for own in range(_PAIR)]

    def _forget(self) -> None:
        while self._ordered:
            for taken in self._ordered.popleft().taken:
                # What went wrong is told already; a series after it has no more to say.
                with suppress(EdgeAIError):
                    taken()


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
