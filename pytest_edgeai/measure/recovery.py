"""Failures that are staged around a serving process, and how long it takes to be right again.

Nothing but copies and processes of this gate's own is harmed: the artifact in the cache, the disk
of the machine and the workers of other gates stay as they are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_edgeai.errors import EdgeAIError, MeasurementError, WorkerFailure
from pytest_edgeai.measure.recovery_artifact import (
    EMPTIED,
    FLIPPED,
    TRUNCATED,
    corrupt_copy,
    is_intact,
)
from pytest_edgeai.measure.recovery_serving import (
    Answers,
    Server,
    Start,
    UnderLoad,
    different,
    repeats_for,
)
from pytest_edgeai.production_records import RecoverySamples, RecoveryScenario
from pytest_edgeai.records import Artifact

KILLED, RESTARTED = "killed under load", "restarted under load"
FULL_DISK = "out of disk"
REFERENCE_PROCESSES = 2
REFERENCE_REPEATS = 2
TOLERANCE = 1e-5
"""Of an output's range: what other instructions for the same sum may change in float32."""

REPEATABILITY_FACTOR = 10.0
REQUESTS_BEFORE = 2


@dataclass(frozen=True, eq=False)
class Reference:
    """The intact model's answers.

    Attributes:
        answers: those of the first process.
        repeatability: see :class:`~pytest_edgeai.production_records.RecoverySamples`.
        repeats: how often it was asked.
    """

    answers: Answers
    repeatability: float
    repeats: int

    @property
    def tolerance(self) -> float:
        """By how much an answer may differ, in parts of an output's range."""
        return max(TOLERANCE, REPEATABILITY_FACTOR * self.repeatability)

    def wrong(self, sets: Sequence[Answers], when: str) -> tuple[str, ...]:
        """Return a sentence for each set of answers that is not the intact model's."""
        apart = [value for value in different(sets, self.answers) if value > self.tolerance]
        return tuple(
            f"{when} it answered "
            + (
                "in another shape or with other values"
                if math.isinf(value)
                else f"{100 * value:.3g}% of the range away from the intact model's answer"
            )
            for value in apart[:1]
        )


@dataclass
class Report:
    """A scenario as it grows; see :class:`~pytest_edgeai.production_records.RecoveryScenario`."""

    name: str
    recovery_s: list[float] = field(default_factory=list)
    answers: int = 0
    wrong: tuple[str, ...] = ()
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    not_staged: str = ""

    def record(self) -> RecoveryScenario:
        """Return it as a record."""
        return RecoveryScenario(
            self.name,
            tuple(self.recovery_s),
            self.answers,
            self.wrong,
            tuple(dict.fromkeys(self.faults)),
            tuple(dict.fromkeys(self.notes)),
            self.not_staged,
        )


def take_reference(start: Start, path: Path) -> Reference:
    """Ask the intact model, in several processes and several times in each.

    Raises:
        EdgeAIError: it cannot be loaded or run.
    """
    sets: list[Answers] = []
    for _ in range(REFERENCE_PROCESSES):
        server = start(path)
        try:
            sets += server.answers(REFERENCE_REPEATS)
        finally:
            server.close()
    return Reference(
        sets[0], max(different(sets, sets[0])), REFERENCE_PROCESSES * REFERENCE_REPEATS
    )


class Stage:
    """Failures of one candidate, each staged around processes of its own."""

    def __init__(
        self,
        artifact: Artifact,
        reference: Reference,
        start: Start,
        *,
        folder: Path,
        patience_s: float,
    ) -> None:
        """Stage failures.

        Args:
            artifact: what is served; copies of it are spoiled.
            reference: the answers that are right.
            start: starts a serving process that gives up after `patience_s`.
            folder: for copies; it exists.
            patience_s: longest wait for anything.
        """
        self._artifact = artifact
        self._reference = reference
        self._start = start
        self._folder = folder
        self._patience_s = patience_s
        self._copies = 0
        self.scenarios: dict[str, Callable[[Report], None]] = {
            KILLED: self._kill,
            RESTARTED: self._restart,
            TRUNCATED: lambda report: self._corrupt(report, TRUNCATED),
            EMPTIED: lambda report: self._corrupt(report, EMPTIED),
            FLIPPED: lambda report: self._corrupt(report, FLIPPED),
            FULL_DISK: self._fill_disk,
        }

    def run(
        self,
        *,
        limit_s: float,
        repeats: int,
        progress: Callable[[str, float], None],
    ) -> RecoverySamples:
        """Stage every failure, until a wrong answer was served.

        A recovery that takes longer than the limit is staged once more: a busy machine is slow to
        start a process, and the next time it may not be.

        Args:
            limit_s: longest recovery that is allowed.
            repeats: how often each failure is staged.
            progress: called with the failure and the share that is done.
        """
        done: list[RecoveryScenario] = []
        for index, (name, stage) in enumerate(self.scenarios.items()):
            report = Report(name)
            staged = 0
            while staged < repeats and not (report.wrong or report.not_staged):
                progress(name, (index + staged / repeats) / len(self.scenarios))
                stage(report)
                staged += 1
                late = [seconds for seconds in report.recovery_s if seconds > limit_s]
                if late and repeats == staged == 1 and not report.wrong:
                    stage(report)
            done.append(report.record())
            if report.wrong:
                break
        return RecoverySamples(
            tuple(done),
            compared=len(self._reference.answers),
            repeats=self._reference.repeats,
            repeatability=self._reference.repeatability,
        )

    def _kill(self, report: Report) -> None:
        """Kill the process while a request is in flight, and start another one."""
        server = self._serve(report)
        if server is None:
            return
        try:
            load = UnderLoad(server, repeats_for(server))
            load.wait_until_loaded(REQUESTS_BEFORE, self._patience_s)
            server.kill()
            began = time.monotonic()
            if not load.ended(self._patience_s):
                report.faults.append("the request in flight hung when the process was killed")
            elif load.error is None:
                report.faults.append("no request failed although the process was killed")
            elif not isinstance(load.error, WorkerFailure):
                report.faults.append(f"the request in flight ended with {load.error}")
        finally:
            load.stop()
            server.close()
        report.answers += load.requests * load.repeats
        self._check(report, load.answered, "before it was killed")
        self._serve_again(report, began)

    def _restart(self, report: Report) -> None:
        """Let the request in flight be answered, end the process, and start another one."""
        server = self._serve(report)
        if server is None:
            return
        try:
            load = UnderLoad(server, repeats_for(server))
            load.wait_until_loaded(REQUESTS_BEFORE, self._patience_s)
            began = time.monotonic()
            load.stop()
            if not load.ended(self._patience_s):
                report.faults.append("the request in flight was not answered before the restart")
            elif load.error is not None:
                report.faults.append(f"a request was lost in the restart: {load.error}")
        finally:
            load.stop()
            server.close()
        report.answers += load.requests * load.repeats
        self._check(report, load.answered, "before the restart")
        self._serve_again(report, began)

    def _corrupt(self, report: Report, how: str) -> None:
        """Restart on a spoiled copy, which must not be served, and then on the intact artifact."""
        self._copies += 1
        try:
            path = corrupt_copy(self._artifact, how, self._folder / f"copy-{self._copies}")
        except MeasurementError as error:
            report.not_staged = str(error)
            return
        began = time.monotonic()
        if is_intact(self._artifact, path):
            report.faults.append("the digest of the spoiled copy is that of the artifact")
        else:
            report.notes.append("refused by its digest")
        self._load_spoiled(report, path, how)
        if how == FLIPPED:
            # No runtime can tell; what it does with the copy is not what a deployment waits for.
            began = time.monotonic()
        self._serve_again(report, began)

    def _load_spoiled(self, report: Report, path: Path, how: str) -> None:
        """Load a spoiled copy without asking for its digest; only an error is right."""
        try:
            server = self._start(path)
        except EdgeAIError as error:
            self._note_refusal(report, error, "loading it")
            return
        try:
            sets = server.answers()
        except EdgeAIError as error:
            self._note_refusal(report, error, "running it")
            return
        finally:
            server.close()
        wrong = self._reference.wrong(sets, f"loaded from a file {how}")
        if wrong and how != FLIPPED:
            report.wrong = wrong
        elif wrong:
            report.notes.append("the runtime alone would serve it, wrongly: check the digest")
        else:
            report.notes.append("the runtime served it, with the right answers")

    def _note_refusal(self, report: Report, error: EdgeAIError, doing: str) -> None:
        text = " ".join(str(error).split())
        if isinstance(error, WorkerFailure) and "no answer within" in error.what:
            report.faults.append(f"{doing} from a spoiled file hung: {text}")
        elif isinstance(error, WorkerFailure) and not error.what.startswith(("killed", "exited")):
            report.notes.append(f"the runtime raised while {doing}: {text}")
        elif isinstance(error, WorkerFailure):
            report.notes.append(f"the runtime crashed while {doing}: {text}")
        else:
            report.notes.append(f"the runtime refuses it: {text}")

    def _fill_disk(self, report: Report) -> None:
        """Let every write fail while it serves and loads, and succeed again."""
        server = self._serve(report)
        if server is None:
            return
        try:
            try:
                refused = server.fill_disk(True)
            except MeasurementError as error:
                report.not_staged = str(error)
                return
            if not refused:
                report.not_staged = "writes go on succeeding under RLIMIT_FSIZE"
                return
            self._under_full_disk(report, server, "running", server.answers)
            self._under_full_disk(report, server, "loading", lambda: _loaded_again(server))
            if report.wrong:
                return
            began = time.monotonic()
            if server.alive:
                server.fill_disk(False)
                try:
                    self._check(report, server.answers(), "once there was room again")
                    report.answers += 1
                    report.recovery_s.append(time.monotonic() - began)
                    return
                except EdgeAIError as error:
                    report.notes.append(f"it had to be started anew: {error}")
        finally:
            server.close()
        self._serve_again(report, began)

    def _under_full_disk(
        self,
        report: Report,
        server: Server,
        doing: str,
        ask: Callable[[], list[Answers]],
    ) -> None:
        if not server.alive or report.wrong:
            return
        try:
            self._check(report, ask(), f"{doing} without room on the disk")
            report.answers += 1
        except WorkerFailure as error:
            if "no answer within" in error.what:
                report.faults.append(f"{doing} without room on the disk hung: {error.what}")
            else:
                report.notes.append(f"{doing} failed cleanly: {error.what}")
        except EdgeAIError as error:
            report.notes.append(f"{doing} failed cleanly: {error}")

    def _serve(self, report: Report) -> Server | None:
        """Start a process on the intact artifact; ``None``, and noted, where it does not start."""
        try:
            return self._start(self._artifact.path)
        except EdgeAIError as error:
            self._note_absence(report, error, "start")
            return None

    def _serve_again(self, report: Report, began: float) -> None:
        """Start a process on the intact artifact, and note when it has answered."""
        server = None if report.wrong else self._serve(report)
        if server is None:
            return
        try:
            sets = server.answers()
            report.recovery_s.append(time.monotonic() - began)
        except EdgeAIError as error:
            self._note_absence(report, error, "answer")
            return
        finally:
            server.close()
        report.answers += 1
        self._check(report, sets, "started again")

    def _note_absence(self, report: Report, error: EdgeAIError, what: str) -> None:
        report.recovery_s.append(math.inf)
        late = isinstance(error, WorkerFailure) and "no answer within" in error.what
        known = report.notes if late else report.faults
        known.append(f"it did not {what} again: {' '.join(str(error).split())}")

    def _check(self, report: Report, sets: list[Answers], when: str) -> None:
        if not report.wrong:
            report.wrong = self._reference.wrong(sets, when)


def _loaded_again(server: Server) -> list[Answers]:
    server.load_again()
    return server.answers()
