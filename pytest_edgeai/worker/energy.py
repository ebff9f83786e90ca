"""Run calls with nothing between them, so that a counter of energy sees the model and no clock."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from time import perf_counter_ns, process_time_ns

from pytest_edgeai.records import JSON
from pytest_edgeai.worker.protocol import ProtocolError


class EnergyOperations:
    """Runs what a worker has bound."""

    def __init__(self, calls: Mapping[str, Callable[[], object]]) -> None:
        """Run what is bound in ``calls``, by handle."""
        self._calls = calls
        self.operations: dict[str, Callable[..., JSON]] = {"run_calls": self.run_calls}

    def run_calls(self, handle: str, calls: int) -> JSON:
        """Call what is bound ``calls`` times, with the garbage collector off.

        Returns:
            ``{"wall_ns", "cpu_ns"}`` of all of them together.
        """
        call = self._calls.get(handle)
        if call is None:
            raise ProtocolError(f"nothing is prepared for {handle!r}")
        collecting = gc.isenabled()
        gc.disable()
        try:
            cpu_begin, wall_begin = process_time_ns(), perf_counter_ns()
            for _ in range(calls):
                call()
            wall_ns = perf_counter_ns() - wall_begin
            return {"wall_ns": wall_ns, "cpu_ns": process_time_ns() - cpu_begin}
        finally:
            if collecting:
                gc.enable()
