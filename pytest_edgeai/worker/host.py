"""Workers as the test process sees them: started, asked, limited in time, and always reaped."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pytest_edgeai.errors import EdgeAIError, UserError, WorkerFailure
from pytest_edgeai.records import JSON, to_json
from pytest_edgeai.worker.channel import ChannelClosed
from pytest_edgeai.worker.exits import (
    describe_exit,
    end_group,
    out_of_memory_kills,
    wait_for_exit,
)
from pytest_edgeai.worker.failures import to_error
from pytest_edgeai.worker.launch import (
    WorkerSpec,
    launch,
    locate,
    shared_path,
    where_interpreter,
)
from pytest_edgeai.worker.protocol import (
    Failure,
    Hello,
    Progress,
    ProtocolError,
    Request,
    Result,
    encode,
)

__all__ = ["MEMORY_ENVIRONMENT", "ProbeResult", "Worker", "WorkerSpec", "probe"]

OLDEST_PYTHON = (3, 11)
MEMORY_ENVIRONMENT: Mapping[str, str] = {"MALLOC_MMAP_THRESHOLD_": "131072"}
"""Environment of workers that measure memory (mallopt(3)): glibc otherwise raises the size from
which it maps blocks as it runs, and peaks become bimodal."""

_EXIT_GRACE_S = 2.0

ProgressCallback = Callable[[str, float], None]


@dataclass(frozen=True)
class ProbeResult:
    """What an interpreter has, found without importing the framework.

    Attributes:
        python_version: version of the interpreter.
        versions: version of every distribution of the framework that is installed.
        missing: distributions that the framework needs (NumPy included) and that are not installed.
    """

    python_version: str
    versions: Mapping[str, str]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _Limit:
    """How long a request may take, and when that is over on ``time.monotonic``."""

    seconds: float
    deadline: float

    @classmethod
    def of(cls, seconds: float) -> Self:
        return cls(seconds, time.monotonic() + seconds)


@dataclass(frozen=True)
class Ordered:
    """A request that was sent.

    Attributes:
        number: of the worker's requests.
        operation: what was asked for.
    """

    number: int
    operation: str


def probe(spec: WorkerSpec, *, time_limit_s: float) -> ProbeResult:
    """Start the interpreter once and ask what it has, without importing the framework.

    Raises:
        UserError: the path is not a Python of a supported version; names the manifest key.
        WorkerFailure: the interpreter crashed or did not answer.
    """
    with Worker(spec) as worker:
        answer = worker._introduce("probe", time_limit_s)
        return ProbeResult(worker.python_version, answer["versions"], tuple(answer["missing"]))


class Worker:
    """One framework in a process of its own; a context manager. Made by :meth:`start`.

    Attributes:
        spec: what was asked for.
        versions: version of every distribution of the framework that is installed there.
        pid: process id.
        python_version: version of its interpreter.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        """Start the interpreter; :meth:`start` also imports the framework.

        Raises:
            UserError: there is no such interpreter.
        """
        self.spec = spec
        self.versions: Mapping[str, str] = {}
        self.python_version = ""
        self._kills_before = out_of_memory_kills()
        self._launched = launch(spec)
        self.pid = self._launched.process.pid
        self._owner = os.getpid()
        self._requests = 0
        self._unanswered: set[int] = set()
        self._answers: dict[int, Result | Failure] = {}
        self._ended = ""
        _living.add(self)

    @classmethod
    def start(cls, spec: WorkerSpec, *, time_limit_s: float) -> Self:
        """Start a worker and import its framework there.

        Raises:
            FrameworkMissing: the framework is not installed in that interpreter.
            UserError: the interpreter is not a Python of a supported version.
            WorkerFailure: the import failed, crashed or took longer than ``time_limit_s``.
        """
        worker = cls(spec)
        try:
            worker.versions = worker._introduce("start", time_limit_s)["versions"]
        except BaseException:
            worker._end("ended after a failed start")
            raise
        return worker

    @property
    def alive(self) -> bool:
        """Whether requests can be made."""
        return not self._ended and not wait_for_exit(self._launched.process, 0.0)

    def output_tail(self) -> str:
        """Return the last lines that the worker printed."""
        return self._launched.channel.tail()

    def request(
        self,
        operation: str,
        /,
        *,
        time_limit_s: float,
        on_progress: ProgressCallback | None = None,
        **arguments: JSON,
    ) -> JSON:
        """Perform one operation of :mod:`pytest_edgeai.worker.service` and return its result.

        Args:
            operation: name of the operation.
            time_limit_s: after so long the worker is killed with everything it started.
            on_progress: called with what is being done and the fraction done.
            arguments: the operation's; records, paths and tuples become plain JSON.

        Raises:
            UserError: raised there; as ``ModelError`` where it was one.
            FrameworkMissing: an import failed there because a distribution is missing.
            MeasurementError: raised there.
            WorkerFailure: anything else, and a crash or a time limit that ended the worker.
        """
        limit = _Limit.of(time_limit_s)
        return self._answer(self._order(operation, arguments, limit), limit, on_progress)

    def order(self, operation: str, /, *, time_limit_s: float, **arguments: JSON) -> Ordered:
        """Send a request that is performed after those before it; nobody waits for it here.

        Args:
            operation: name of the operation.
            time_limit_s: after so long a worker that does not read is killed.
            arguments: see :meth:`request`.

        Returns:
            What :meth:`answer` takes.

        Raises:
            WorkerFailure: the worker is not running, or does not read.
        """
        return self._order(operation, arguments, _Limit.of(time_limit_s))

    def answer(self, ordered: Ordered, *, time_limit_s: float) -> JSON:
        """Wait for the answer to a request; see :meth:`request`, which raises the same.

        Args:
            ordered: what :meth:`order` returned; it is answered once.
            time_limit_s: after so long, from now on, the worker is killed.
        """
        return self._answer(ordered, _Limit.of(time_limit_s), None)

    def _order(self, operation: str, arguments: Mapping[str, JSON], limit: _Limit) -> Ordered:
        self._require_running(operation)
        self._requests += 1
        ordered = Ordered(self._requests, operation)
        frame = encode(Request(ordered.number, operation, to_json(arguments)))
        with self._exchanging(operation, limit):
            self._launched.channel.send(frame, limit.deadline)
        self._unanswered.add(ordered.number)
        return ordered

    def _answer(
        self, ordered: Ordered, limit: _Limit, on_progress: ProgressCallback | None
    ) -> JSON:
        if ordered.number not in self._answers:
            self._require_running(ordered.operation)
        try:
            with self._exchanging(ordered.operation, limit):
                message = self._awaited(ordered, limit, on_progress)
        finally:
            self._unanswered.discard(ordered.number)
        if isinstance(message, Failure):
            raise to_error(
                message,
                self.spec.framework,
                str(self.spec.interpreter),
                ordered.operation,
                self.output_tail(),
            )
        return message.value

    def _require_running(self, operation: str) -> None:
        if self._ended:
            raise self._failure(f"the worker is not running: it {self._ended}", operation)

    @contextmanager
    def _exchanging(self, operation: str, limit: _Limit) -> Iterator[None]:
        """Make failures of the worker of those of its pipes."""
        try:
            yield
        except TimeoutError:
            raise self._timed_out(operation, limit) from None
        except ChannelClosed:
            raise self._failure(self._end_crashed(), operation) from None
        except (EdgeAIError, ProtocolError):
            raise
        except BaseException:
            # An answer is still to come that belongs to nobody: such a worker is of no use.
            self._end("was interrupted")
            raise

    def close(self) -> None:
        """Ask the worker to end, end it if it does not, and reap it. May be called again."""
        if self._ended:
            return
        if os.getpid() != self._owner:
            return
        try:
            self._launched.channel.send(
                encode(Request(0, "shutdown")), time.monotonic() + _EXIT_GRACE_S
            )
            wait_for_exit(self._launched.process, _EXIT_GRACE_S)
        except (ChannelClosed, TimeoutError):
            pass  # ended below either way
        finally:
            self._end("was closed")

    def __enter__(self) -> Self:
        """Return the worker."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the worker, whatever happened."""
        self.close()

    def _introduce(self, operation: str, time_limit_s: float) -> JSON:
        """Wait for the interpreter's first words, check them, and tell it what to be."""
        limit = _Limit.of(time_limit_s)
        self._greet(limit)
        framework = self.spec.framework
        arguments: dict[str, JSON] = {
            "implementation": framework.implementation,
            "distributions": list(framework.distributions),
            "versions_of": list(framework.versions_of),
            "locations": locate(framework),
            "path": shared_path(self.spec.interpreter),
        }
        return self._answer(self._order(operation, arguments, limit), limit, None)

    def _greet(self, limit: _Limit) -> None:
        try:
            hello = self._launched.channel.receive(limit.deadline)
        except TimeoutError:
            raise self._timed_out("start", limit) from None
        except ChannelClosed:
            how = self._end_crashed()
            lines = self.output_tail().splitlines()
            said = f" ({lines[-1]})" if lines else ""
            raise self._not_python(f"is not a working Python: it {how}{said}") from None
        if not isinstance(hello, Hello):
            self._end("spoke out of turn")
            raise self._failure("spoke out of turn", "start")
        self.python_version = hello.python_version
        if tuple(hello.version_info[:2]) < OLDEST_PYTHON:
            self._end("is too old")
            raise self._not_python(f"is Python {hello.python_version}, which is too old")

    def _awaited(
        self, ordered: Ordered, limit: _Limit, on_progress: ProgressCallback | None
    ) -> Result | Failure:
        """Read until a request is answered; answers to others that were ordered are kept."""
        while ordered.number not in self._answers:
            message = self._launched.channel.receive(limit.deadline)
            match message:
                case Progress(id=answered) if answered == ordered.number:
                    if on_progress is not None:
                        on_progress(message.what, message.fraction)
                case Result(id=answered) | Failure(id=answered) if answered in self._unanswered:
                    self._answers[answered] = message
                case Progress(id=answered) | Result(id=answered) | Failure(id=answered) if (
                    answered < ordered.number
                ):
                    pass  # to a request whose progress callback raised
                case _:
                    self._end("answered out of turn")
                    raise self._failure("answered out of turn", ordered.operation)
        return self._answers.pop(ordered.number)

    def _timed_out(self, operation: str, limit: _Limit) -> WorkerFailure:
        what = f"no answer within {limit.seconds:g} s"
        self._end(f"gave {what} to {operation}")
        return self._failure(f"{what}; it was killed with everything it had started", operation)

    def _failure(self, what: str, operation: str) -> WorkerFailure:
        name = self.spec.framework.name
        tail = self.output_tail()
        return WorkerFailure(what, framework=name, step=operation, output_tail=tail)

    def _not_python(self, what: str) -> UserError:
        oldest = ".".join(str(number) for number in OLDEST_PYTHON)
        return UserError(
            f"{self.spec.interpreter} {what}",
            where=where_interpreter(self.spec),
            allowed=f"the path of a Python {oldest} or newer",
        )

    def _end_crashed(self) -> str:
        """Reap a worker whose connection closed, and say how it ended."""
        ended = wait_for_exit(self._launched.process, _EXIT_GRACE_S)
        return self._end("" if ended else "closed its connection and went on running")

    def _end(self, how: str = "") -> str:
        """Kill, reap and release; return why it ended, by default from its exit code."""
        if not self._ended:
            code = end_group(self._launched.process)
            self._ended = how or describe_exit(code, self._kills_before, out_of_memory_kills())
            self._launched.release()
            _living.discard(self)
        return self._ended


_living: set[Worker] = set()


@atexit.register
def _end_living() -> None:
    for worker in list(_living):
        if worker._owner == os.getpid():
            worker._end("was ended with the test process")
