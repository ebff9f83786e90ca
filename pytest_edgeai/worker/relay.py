"""Hand over to and fro between the processes of two models, with nobody asked in between.

Where the parent orders every turn, the core idles while an answer and the next order travel: two
wake-ups of sleeping processes and what the parent does with the answer, 0.3 to 1 ms of a virtual
machine, next to turns of 5 ms. A process that is woken by the one before it on the same core runs
at once.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Mapping, Sequence

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.records import JSON
from pytest_edgeai.worker.placement import run_on
from pytest_edgeai.worker.protocol import ProtocolError
from pytest_edgeai.worker.timing import time_calls

SERIES = 128
"""Series that are told apart by the one byte that is handed over; its last bit says that a call
failed."""

_GONE = "the process of the other model ended in its turn"


class Relay:
    """The turns of what a worker has bound, in series with another worker's."""

    def __init__(self, calls: Mapping[str, Callable[[], object]], cores: frozenset[int]) -> None:
        """Call what is bound in ``calls``, by handle; ``cores`` are those of this process."""
        self._calls = calls
        self._cores = cores
        self._incoming = self._outgoing = -1
        self.operations: dict[str, Callable[..., JSON]] = {
            "listen": self.listen,
            "join": self.join,
            "take_turns": self.take_turns,
        }

    def listen(self, path: str) -> JSON:
        """Open the FIFO that says when a turn of this process begins."""
        self._close()
        self._incoming = os.open(path, os.O_RDONLY | _NO_WAIT)
        self._poller = select.poll()
        self._poller.register(self._incoming, select.POLLIN)
        return {}

    def join(self, path: str) -> JSON:
        """Open the FIFO that the other process listens to, which it does by now."""
        self._outgoing = os.open(path, os.O_WRONLY | _NO_WAIT)
        return {}

    def take_turns(
        self,
        handle: str,
        calls: Sequence[int],
        number: int,
        core: int | None,
        limit_s: float,
        after: int | None = None,
    ) -> JSON:
        """Time this process's turns of a series, waiting for the other's in between.

        Whoever has the last turn hands over after it too, so that a series can be ordered before
        the one before it has ended.

        Args:
            handle: what is called.
            calls: calls of each turn of the series; 0 where it is the other process's.
            number: of the series.
            core: where this process is put before it; ``None`` leaves it where it is.
            limit_s: longest time of a turn of the other process.
            after: the series whose end is waited for before the first turn, where that is this
                process's and the other one has the last turn of the series before.

        Returns:
            ``{"turns", "placed"}``: times as of
            :func:`~pytest_edgeai.worker.timing.time_calls` for each of its turns, and whether the
            process was put on ``core``.

        Raises:
            MeasurementError: the other process is gone, or a call of it failed or did not end.
        """
        call = self._calls.get(handle)
        if call is None:
            raise ProtocolError(f"nothing is prepared for {handle!r}")
        placed = core is None or run_on(core, self._cores)
        series = number % SERIES
        turns = []
        for position, count in enumerate(calls):
            if not count:
                continue
            if position == 0 and after is not None:
                self._wait(after % SERIES, limit_s)
            if position and not calls[position - 1]:
                self._wait(series, limit_s)
            try:
                times = time_calls(call, count)
            except BaseException:
                self._hand_over(series, failed=True)
                raise
            if position + 1 == len(calls) or not calls[position + 1]:
                self._hand_over(series)
            turns.append(times)
        return {
            "placed": placed,
            "turns": [
                {"wall_ns": each.wall_ns, "cpu_ns": each.cpu_ns, "preemptions": each.preemptions}
                for each in turns
            ],
        }

    def _wait(self, series: int, limit_s: float) -> None:
        while True:
            if not self._poller.poll(limit_s * 1000):
                raise MeasurementError(f"the turn of the other model took over {limit_s:g} s")
            told = os.read(self._incoming, 1)
            if not told:
                raise MeasurementError(_GONE)
            of, failed = divmod(told[0], 2)
            # A hand-over may be left that nobody waited for: of a series that broke off, or that
            # ended with nothing ordered after it.
            if of == series and failed:
                raise MeasurementError("a call of the other model failed")
            if of == series:
                return

    def _hand_over(self, series: int, *, failed: bool = False) -> None:
        try:
            os.write(self._outgoing, bytes((2 * series + failed,)))
        except BrokenPipeError:
            if not failed:
                raise MeasurementError(_GONE) from None

    def _close(self) -> None:
        for descriptor in (self._incoming, self._outgoing):
            if descriptor >= 0:
                os.close(descriptor)
        self._incoming = self._outgoing = -1


_NO_WAIT = 0 if sys.platform == "win32" else os.O_NONBLOCK
"""A FIFO that nobody writes to yet is opened at once."""
