"""MLPerf LoadGen in a worker: it drives the model in this process, without a message per query.

LoadGen (https://github.com/mlcommons/inference, folder ``loadgen``) issues the queries of a
scenario and measures each from the time that it was *scheduled* for, so that a query that waits
behind another one is charged its wait. One stream therefore answers inside of the callback: a
server with a first-in-first-out queue does the same, and nothing is handed between threads.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import queue
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from time import perf_counter, perf_counter_ns, process_time_ns
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.records import JSON

if sys.platform != "win32":
    from resource import RUSAGE_SELF, getrusage

DISTRIBUTION = "mlcommons-loadgen"
MODULE = "mlperf_loadgen"
LOGS = ("mlperf_log_summary.txt", "mlperf_log_detail.txt")
ARRAYS = "queries.npz"
MESSAGES = 5
MOST_THREADS = 16
STEP = 256
"""Samples that one batch of completions of the Offline scenario has at most."""

_SAMPLE = re.compile(
    rb'"ph":"b".*?"ts":([0-9.]+),.*?"sample_seq":(\d+).*?"issue_start_ns":(-?\d+)'
    rb',"complete_ns":(\d+)'
)
_LINE = re.compile(r"^\s*([^:]+?)\s*:\s*(\S.*?)\s*$")

Call = Callable[..., object]
"""Runs the sample of an index; a stream of tokens takes what it calls after the first, too."""


def generator() -> ModuleType | None:
    """Return the module of LoadGen; ``None`` where it is not installed."""
    try:
        return importlib.import_module(MODULE)
    except ImportError:
        return None


def generator_version() -> str:
    """Return the version of LoadGen in this interpreter, empty where it is not installed."""
    if generator() is None:
        return ""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


class RunDelay:
    """Time that the threads of this process were ready to run and had to wait for a core.

    Linux counts it in the second figure of ``/proc/self/task/*/schedstat``, in ns
    (Documentation/scheduler/sched-stats.rst). A call that sleeps or waits for a lock is not ready,
    so this tells what other processes took from what the model did. Only threads that there are
    when this is made are read.
    """

    def __init__(self) -> None:
        """Open the counters, where the system has them."""
        self._open: list[int] = []
        with contextlib.suppress(OSError):
            for task in sorted(Path("/proc/self/task").iterdir())[:MOST_THREADS]:
                self._open.append(os.open(task / "schedstat", os.O_RDONLY))
        if self.read() < 0:
            self.close()

    def read(self) -> int:
        """Return the waits of all threads so far in ns; -1 where they are not known."""
        try:
            return sum(int(os.pread(counter, 96, 0).split()[1]) for counter in self._open) or (
                0 if self._open else -1
            )
        except (OSError, IndexError, ValueError):
            return -1

    def close(self) -> None:
        """Close the counters."""
        while self._open:
            os.close(self._open.pop())


class Recorder:
    """What every call took, and which of them raised; calls that raise are answered all the same.

    An exception must not leave a callback of LoadGen: it would end the process.
    """

    def __init__(self, call: Call, delay: Callable[[], int] = lambda: -1) -> None:
        """Watch ``call``; ``delay`` is :meth:`RunDelay.read`."""
        self._call = call
        self._delay = delay
        self.delay_ns: list[int] = []
        self.wall_ns: list[int] = []
        self.cpu_ns: list[int] = []
        self.preemptions: list[int] = []
        self.sequence: list[int] = []
        self.failed: list[bool] = []
        self.messages: dict[str, int] = {}

    def __call__(self, index: int, key: int, *announce: Callable[[], None]) -> None:
        """Run sample ``index`` for the query ``key`` and note what it took.

        ``announce`` is called after the first token of a model that generates them.
        """
        raised = False
        delay_begin = self._delay()
        switches = _switches()
        cpu_begin = process_time_ns()
        begin = perf_counter_ns()
        try:
            self._call(index, *announce)
        except BaseException as error:
            raised = True
            self._note(error)
        self.wall_ns.append(perf_counter_ns() - begin)
        self.cpu_ns.append(process_time_ns() - cpu_begin)
        self.preemptions.append(_switches() - switches)
        self.delay_ns.append(self._delay() - delay_begin if delay_begin >= 0 else -1)
        self.sequence.append(key)
        self.failed.append(raised)

    def run_all(self, indices: Sequence[int]) -> None:
        """Run samples one after the other with one clock alone, which is read once per call."""
        call, walls, fails = self._call, self.wall_ns, self.failed
        begin = perf_counter_ns()
        for index in indices:
            raised = False
            try:
                call(index)
            except BaseException as error:
                raised = True
                self._note(error)
            end = perf_counter_ns()
            walls.append(end - begin)
            fails.append(raised)
            begin = end
        count = len(indices)
        self.cpu_ns += self.wall_ns[-count:]
        self.preemptions += [0] * count
        self.delay_ns += [-1] * count
        self.sequence += [0] * count

    def _note(self, error: BaseException) -> None:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if text in self.messages or len(self.messages) < MESSAGES:
            self.messages[text] = self.messages.get(text, 0) + 1


class Run:
    """One scenario of LoadGen against calls of samples.

    Args of the constructor:
        loadgen: the module.
        calls: one call per stream; the first runs in this thread where it is the only one.
        samples: how many different samples there are.
        tokens: tokens of an answer, where the calls generate them; only one stream does then.
    """

    def __init__(
        self, loadgen: ModuleType, calls: Sequence[Call], samples: int, tokens: int = 0
    ) -> None:
        """Prepare; nothing is driven yet."""
        self._loadgen = loadgen
        self._samples = samples
        self._tokens = tokens
        self._delay = RunDelay()
        self.recorders = [Recorder(call, self._delay.read) for call in calls]
        self._issued: queue.SimpleQueue[tuple[int, int, int] | None] = queue.SimpleQueue()
        self._position = 0

    def drive(self, settings: Any, output: Path, *, trace: bool) -> float:
        """Run the scenario, write LoadGen's logs into ``output`` and return its seconds."""
        loadgen = self._loadgen
        logs = loadgen.LogSettings()
        logs.enable_trace = trace
        logs.log_output = loadgen.LogOutputSettings()
        logs.log_output.outdir = str(output)
        issue = self._answer if len(self.recorders) == 1 else self._pass_on
        if self._tokens:
            issue = self._answer_in_tokens
        elif settings.scenario == loadgen.TestScenario.Offline and len(self.recorders) == 1:
            issue = self._answer_in_batches
        sut = loadgen.ConstructFastSUT(issue, _nothing)
        library = loadgen.ConstructQSL(self._samples, self._samples, _nothing_of, _nothing_of)
        servers = self._start_servers()
        gc.collect()
        collecting = gc.isenabled()
        gc.disable()
        begin = perf_counter()
        try:
            loadgen.StartTestWithLogSettings(
                sut, library, settings, logs, str(output / "no-audit.config")
            )
        finally:
            seconds = perf_counter() - begin
            if collecting:
                gc.enable()
            for _ in servers:
                self._issued.put(None)
            for server in servers:
                server.join()
            self._delay.close()
            loadgen.DestroyQSL(library)
            loadgen.DestroyFastSUT(sut)
        return seconds

    def _answer(self, ids: list[int], indices: list[int]) -> None:
        loadgen, recorder = self._loadgen, self.recorders[0]
        for identity, index in zip(ids, indices, strict=True):
            recorder(index, self._position)
            self._position += 1
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(identity, 0, 0)])

    def _answer_in_tokens(self, ids: list[int], indices: list[int]) -> None:
        """LoadGen is told of the first token apart, see ``use_token_latencies``."""
        loadgen, recorder = self._loadgen, self.recorders[0]
        for identity, index in zip(ids, indices, strict=True):
            told: list[bool] = []

            def announce(identity: int = identity, told: list[bool] = told) -> None:
                told.append(True)
                loadgen.FirstTokenComplete([loadgen.QuerySampleResponse(identity, 0, 0)])

            recorder(index, self._position, announce)
            self._position += 1
            if not told:
                announce()  # it raised before: LoadGen waits for both reports of a query
            done = loadgen.QuerySampleResponse(identity, 0, 0, self._tokens)
            loadgen.QuerySamplesComplete([done])

    def _answer_in_batches(self, ids: list[int], indices: list[int]) -> None:
        """Offline: throughput alone counts, so that completions are told in batches."""
        loadgen, recorder = self._loadgen, self.recorders[0]
        response = loadgen.QuerySampleResponse
        for first in range(0, len(ids), STEP):
            recorder.run_all(indices[first : first + STEP])
            done = [response(identity, 0, 0) for identity in ids[first : first + STEP]]
            loadgen.QuerySamplesComplete(done)

    def _pass_on(self, ids: list[int], indices: list[int]) -> None:
        for identity, index in zip(ids, indices, strict=True):
            self._issued.put((identity, index, self._position))
            self._position += 1

    def _start_servers(self) -> list[threading.Thread]:
        if len(self.recorders) == 1:
            return []
        servers = [
            threading.Thread(target=self._serve, args=(recorder,), daemon=True)
            for recorder in self.recorders
        ]
        for server in servers:
            server.start()
        return servers

    def _serve(self, recorder: Recorder) -> None:
        loadgen = self._loadgen
        while (issued := self._issued.get()) is not None:
            identity, index, position = issued
            recorder(index, position)
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(identity, 0, 0)])


def make_settings(loadgen: ModuleType, scenario: str, wanted: Mapping[str, JSON]) -> Any:
    """Return LoadGen's settings of one run.

    Args:
        loadgen: the module.
        scenario: ``SingleStream``, ``MultiStream``, ``Server`` or ``Offline``.
        wanted: attributes of ``TestSettings`` by name.

    Raises:
        MeasurementError: LoadGen knows no such scenario or attribute.
    """
    settings = loadgen.TestSettings()
    if not hasattr(loadgen.TestScenario, scenario):
        raise MeasurementError(f"LoadGen has no scenario {scenario!r}")
    settings.scenario = getattr(loadgen.TestScenario, scenario)
    settings.mode = loadgen.TestMode.PerformanceOnly
    for name, value in wanted.items():
        if not hasattr(settings, name):
            raise MeasurementError(f"this version of LoadGen has no setting {name!r}")
        setattr(settings, name, value)
    return settings


def finish(
    output: Path,
    recorders: Sequence[Recorder],
    seconds: float,
    extra: Mapping[str, NDArray[Any]],
) -> dict[str, JSON]:
    """Write the arrays of a run beside LoadGen's logs and return what it says.

    The trace is read and removed: nine hundred bytes per query say what four numbers do.

    Args:
        output: the folder of LoadGen's logs.
        recorders: one for each stream.
        seconds: what the run took.
        extra: arrays that are written beside those of the queries.

    Returns:
        ``{"seconds", "summary", "messages", "arrays", "logs"}``; the arrays have one entry per
        query: ``wall_ns``, ``cpu_ns``, ``preemptions``, ``delay_ns`` (-1: unknown), ``failed`` and,
        with a trace, ``scheduled_ns`` (from the first), ``issue_delay_ns`` and ``latency_ns``.
    """
    arrays: dict[str, NDArray[Any]] = {}
    order = np.argsort([key for one in recorders for key in one.sequence], kind="stable")
    for name, kind in (
        ("wall_ns", np.int64),
        ("cpu_ns", np.int64),
        ("preemptions", np.int64),
        ("delay_ns", np.int64),
        ("failed", np.bool_),
    ):
        joined = [value for one in recorders for value in getattr(one, name)]
        arrays[name] = np.asarray(joined, dtype=kind)[order]
    arrays |= _read_trace(output / "mlperf_log_trace.json")
    for name in ("mlperf_log_trace.json", "mlperf_log_accuracy.json"):
        (output / name).unlink(missing_ok=True)
    np.savez(output / ARRAYS, allow_pickle=False, **arrays, **extra)
    messages: dict[str, int] = {}
    for one in recorders:
        for text, count in one.messages.items():
            messages[text] = messages.get(text, 0) + count
    return {
        "seconds": seconds,
        "summary": read_summary((output / LOGS[0]).read_text(encoding="utf-8", errors="replace")),
        "messages": messages,
        "arrays": str(output / ARRAYS),
        "logs": [str(output / name) for name in LOGS],
    }


def read_summary(text: str) -> dict[str, str]:
    """Return the ``name : value`` lines of ``mlperf_log_summary.txt``."""
    found = (_LINE.match(line) for line in text.splitlines())
    return {line[1]: line[2] for line in found if line}


def _read_trace(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        return {}
    rows = _SAMPLE.findall(path.read_bytes())
    if not rows:
        return {}
    sequence = np.asarray([int(row[1]) for row in rows])
    order = np.argsort(sequence, kind="stable")
    scheduled = np.asarray([round(float(row[0]) * 1e3) for row in rows], dtype=np.int64)[order]
    return {
        "scheduled_ns": scheduled - scheduled[0],
        "issue_delay_ns": np.asarray([int(row[2]) for row in rows], dtype=np.int64)[order],
        "latency_ns": np.asarray([int(row[3]) for row in rows], dtype=np.int64)[order],
    }


def _switches() -> int:
    """Return the involuntary context switches of this process; 0 where they are not counted."""
    return 0 if sys.platform == "win32" else getrusage(RUSAGE_SELF).ru_nivcsw


def _nothing() -> None:
    """Answer ``FlushQueries``: nothing is held back."""


def _nothing_of(_: list[int]) -> None:
    """Answer the loading of samples: they are staged before a run."""
