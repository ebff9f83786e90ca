"""llama.cpp's own clocks, and what each node of its graph takes while one token is decoded.

``llama_perf_context`` counts passes and their time (include/llama.h). For the nodes, the callback
``cb_eval`` of a context is asked about each one, which makes the scheduler compute them one by one
(ggml/src/ggml-backend.cpp, ``ggml_backend_sched_compute_splits``).
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.optimize.frameworks.base import OperatorProfile
from pytest_edgeai.optimize.frameworks.llamacpp_api import llama_cpp
from pytest_edgeai.optimize.frameworks.llamacpp_model import LlamaCppModel
from pytest_edgeai.profile_records import OperatorTime
from pytest_edgeai.records import RuntimeOptions

COUNTERS = "llama.cpp's own clocks (llama_perf_context)"
NODES = "llama.cpp's own clocks, and its graph computed node by node (cb_eval)"
WARM_UP_CALLS = 2

_NOTE = "nodes computed one by one: none is fused with another, and each waits for all threads"
_NO_NODES = "this build of llama.cpp does not tell the nodes of its graph"


def profile(
    path: Path,
    runtime: RuntimeOptions,
    context_tokens: int,
    tokens: NDArray[np.int32],
    calls: int,
) -> OperatorProfile:
    """Decode one token ``calls`` times with the clocks, and again node by node.

    See :class:`~pytest_edgeai.optimize.frameworks.language.ProfilingLanguageFramework`. Each is a
    load of its own.
    """
    counters = _counters(path, runtime, context_tokens, tokens, calls)
    watch = _watch()
    if watch is None:
        return OperatorProfile(COUNTERS, (), (), (), counters, _NO_NODES)
    model = LlamaCppModel(path, runtime, context_tokens, observe=watch.callback)
    try:
        decode = model.bind_decode(tokens)
        for _ in range(WARM_UP_CALLS):
            decode()
        watch.forget()
        wall_ns, operator_ns = [], []
        for _ in range(calls):
            before = watch.spent_ns
            begin = time.perf_counter_ns()
            decode()
            wall_ns.append(time.perf_counter_ns() - begin)
            operator_ns.append(watch.spent_ns - before)
    finally:
        model.close()
    return OperatorProfile(
        NODES, watch.operators(), tuple(operator_ns), tuple(wall_ns), counters, _NOTE
    )


def _counters(
    path: Path,
    runtime: RuntimeOptions,
    context_tokens: int,
    tokens: NDArray[np.int32],
    calls: int,
) -> dict[str, float]:
    model = LlamaCppModel(path, runtime, context_tokens)
    try:
        decode = model.bind_decode(tokens)
        for _ in range(WARM_UP_CALLS):
            decode()
        model.reset_counters()
        for _ in range(calls):
            decode()
        found = model.counters()
    finally:
        model.close()
    return {"eval_ns": found.decode_ns / max(1, found.decode_tokens)}


class _Watch:
    """Adds up what each node takes; llama.cpp calls it before and after it."""

    def __init__(self, name_of: Any, operator_of: Any) -> None:
        self._name_of, self._operator_of = name_of, operator_of
        self._begin = 0
        self._times: dict[tuple[bytes, bytes], list[int]] = {}
        self.spent_ns = 0
        self.callback = llama_cpp.ggml_backend_sched_eval_callback(self._see)

    def forget(self) -> None:
        """Forget what was added up."""
        self._times.clear()
        self.spent_ns = 0

    def operators(self) -> tuple[OperatorTime, ...]:
        """Return what was added up, the longest first."""
        found = [
            OperatorTime(
                name.decode("utf-8", "replace"), operator.decode("ascii", "replace"), calls, spent
            )
            for (name, operator), (calls, spent) in self._times.items()
        ]
        return tuple(sorted(found, key=lambda each: (-each.time_ns, each.name)))

    def _see(self, node: Any, asks: bool, _: Any) -> bool:
        now = time.perf_counter_ns()
        if not asks:
            spent = now - self._begin
            key = (self._name_of(node) or b"", self._operator_of(node) or b"")
            known = self._times.setdefault(key, [0, 0])
            known[0] += 1
            known[1] += spent
            self.spent_ns += spent
        self._begin = time.perf_counter_ns()
        return True


def _watch() -> _Watch | None:
    """Return a watch, ``None`` where the names of nodes cannot be read from this build."""
    library = getattr(llama_cpp.llama_cpp, "_lib", None)
    functions = []
    for name in ("ggml_get_name", "ggml_op_desc"):
        try:
            function = getattr(library, name)
        except AttributeError:
            return None
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
        functions.append(function)
    return _Watch(*functions)
