"""Run the planted cases within a budget, one after the other."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pytest_edgeai.errors import EdgeAIError, MeasurementError
from pytest_edgeai.measure.exclusive import exclusive
from pytest_edgeai.records import PairedTimings, to_json
from pytest_edgeai.selfcheck.accuracy import PROMISED_RATIO, rows, simulate
from pytest_edgeai.selfcheck.artifacts import check_artifacts, check_precision
from pytest_edgeai.selfcheck.cases import (
    Case,
    CheckedCase,
    TimedCase,
    UncoveredCase,
    WatchedCase,
    share_of_time,
    shares,
)
from pytest_edgeai.selfcheck.faults import check_memory, check_outputs, check_unmeasurable
from pytest_edgeai.selfcheck.noise import Noise, Reading, noise_of, read_machine
from pytest_edgeai.selfcheck.rates import (
    Answer,
    CaseResult,
    Tally,
    breaks_promise,
    falsehoods,
    tally,
)
from pytest_edgeai.selfcheck.resolution import Resolution, resolution_of
from pytest_edgeai.selfcheck.timed import Trial, run_trial
from pytest_edgeai.selfcheck.watched import Watch, watch
from pytest_edgeai.selfcheck.workload import Workshop

TRIAL_S = 5.0
"""Longest measurement of one pair. 5% are told within it on a shared machine of two cores."""

SHORTEST_TRIAL_S = 1.0
SAME_MODEL = "same-model"

T = TypeVar("T")

Say = Callable[[str, str, float | None], None]
"""Called with the case, what is being done, and the share of it that is done."""


class SelfCheck:
    """One self-check: cases are run one by one, and share the budget.

    Attributes:
        results: what was run so far, in order.
    """

    def __init__(
        self, folder: Path, cases: Iterable[Case], *, budget_s: float, say: Say, seed: int
    ) -> None:
        """Prepare; the time runs from the first case on.

        Args:
            folder: for files that may be removed afterwards.
            cases: what will be run, in this order.
            budget_s: seconds for all cases together.
            say: hears of progress.
            seed: of the random order of rounds, and of the simulations.
        """
        self.results: list[CaseResult] = []
        self._folder = folder
        self._weights = dict(shares(cases))
        self._budget_s = budget_s
        self._say = say
        self._seed = seed
        self._generator = random.Random(seed)
        self._workshop = Workshop(folder / "models")
        self._begin: float | None = None
        self._readings: list[Reading] = []
        self._same: list[Trial] = []
        self._quiet: list[PairedTimings] = []

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return 0.0 if self._begin is None else time.monotonic() - self._begin

    @property
    def noise(self) -> Noise:
        """The noise found so far."""
        return noise_of(self._readings, self._quiet)

    @property
    def resolution(self) -> Resolution | None:
        """What can be told apart here; ``None`` where the same model was not measured."""
        return resolution_of(self._same)

    def run(self, case: Case) -> CaseResult:
        """Run one case within its share of the time that is left; one that ran may run again.

        A case that could not be measured says so in its ``error``.
        """
        begin = time.monotonic()
        if self._begin is None:
            self._begin = begin
            self._readings.append(read_machine())
        weights = {**self._weights, case.name: case.weight}
        allowed_s = share_of_time(weights, case.name, self._left())
        self._weights.pop(case.name, None)
        try:
            result = self._run(case, allowed_s)
        except EdgeAIError as error:
            result = CaseResult(case.name, case.group, case.truth, error=str(error))
        result = replace(result, seconds=time.monotonic() - begin)
        self._readings.append(read_machine())
        self.results.append(result)
        return result

    def _run(self, case: Case, allowed_s: float) -> CaseResult:
        match case:
            case UncoveredCase():
                return CaseResult(case.name, case.group, case.truth, not_run=case.reason)
            case CheckedCase(check="accuracy"):
                return self._simulate(case, allowed_s)
            case CheckedCase():
                return self._check(case)
            case TimedCase():
                deadline = time.monotonic() + allowed_s
                return self._alone(case, lambda: self._time(case, deadline))
            case WatchedCase():
                deadline = time.monotonic() + allowed_s
                return self._alone(case, lambda: self._watch(case, deadline))

    def _left(self) -> float:
        return self._budget_s - self.seconds

    def _check(self, case: CheckedCase) -> CaseResult:
        def say(what: str) -> None:
            self._say(case.name, what, None)

        answers: tuple[Answer, ...]
        folder = self._folder / case.name
        folder.mkdir(parents=True, exist_ok=True)
        if case.check == "precision":
            answers = check_precision(folder)
        elif case.check == "artifacts":
            answers = check_artifacts(folder)
        else:
            check = {
                "outputs": check_outputs,
                "unmeasurable": check_unmeasurable,
                "memory": check_memory,
            }[case.check]
            answers = check(self._workshop, say)
        return CaseResult(
            case.name, case.group, case.truth, tally(answers), falsehoods=falsehoods(answers)
        )

    def _simulate(self, case: CheckedCase, allowed_s: float) -> CaseResult:
        if allowed_s <= 0:
            return _skipped(case, "the budget was used up before")
        cells = simulate(
            budget_s=allowed_s,
            seed=self._seed,
            progress=lambda share: self._say(case.name, case.truth, share),
        )
        wrong = []
        for cell in cells:
            where = f"a loss of {cell.loss:.0%} on {cell.samples:,} samples"
            if breaks_promise(cell.counts, PROMISED_RATIO):
                wrong.append(f"{where}: more than {PROMISED_RATIO:.0%} of the verdicts are false")
            if cell.disagreements:
                wrong.append(f"{where}: the gate does not say what its rule says")
        table = {
            str(samples): {f"{cell.loss:g}": to_json(cell.counts) for cell in cells_of_samples}
            for samples, cells_of_samples in rows(cells)
        }
        return CaseResult(
            case.name,
            case.group,
            case.truth,
            sum((cell.counts for cell in cells), Tally()),
            falsehoods=tuple(wrong),
            details={"samples": table},
        )

    def _alone(self, case: Case, measure: Callable[[], CaseResult]) -> CaseResult:
        """Measure while no other session does, where there is time for that."""
        if self._left() < SHORTEST_TRIAL_S:
            return _skipped(case, "the budget was used up before")
        with ExitStack() as stack:
            try:
                stack.enter_context(
                    exclusive(
                        time_limit_s=self._left(),
                        waiting=lambda waited_s: self._say(
                            case.name, f"another session is measuring, {waited_s:.0f} s", None
                        ),
                    )
                )
            except MeasurementError as error:
                return _skipped(case, str(error))
            return measure()

    def _time(self, case: TimedCase, deadline: float) -> CaseResult:
        def measure(budget_s: float) -> Trial:
            return run_trial(
                case,
                self._workshop,
                budget_s=budget_s,
                generator=self._generator,
                progress=lambda what, share: self._say(case.name, what, share),
            )

        trials = self._repeated(measure, deadline)
        if case.load == "none":
            self._quiet += [trial.timings for trial in trials]
        if case.name == SAME_MODEL:
            self._same += trials
        return _measured(case, trials, "rounds", [trial.timings.rounds for trial in trials])

    def _watch(self, case: WatchedCase, deadline: float) -> CaseResult:
        def measure(budget_s: float) -> Watch:
            return watch(
                case,
                self._workshop,
                budget_s=budget_s,
                generator=self._generator,
                progress=lambda what, share: self._say(case.name, what, share),
            )

        watches = self._repeated(measure, deadline)
        return _measured(case, watches, "turns", [watched.turns for watched in watches])

    def _repeated(self, measure: Callable[[float], T], deadline: float) -> list[T]:
        """Measure a pair in fresh processes until its time is up; once at least."""
        trials: list[T] = []
        longest_s = 0.0
        while not trials or time.monotonic() + longest_s < deadline:
            begin = time.monotonic()
            trials.append(measure(min(TRIAL_S, max(SHORTEST_TRIAL_S, deadline - begin))))
            self._readings.append(read_machine())
            longest_s = max(longest_s, time.monotonic() - begin)
        return trials


def _skipped(case: Case, reason: str) -> CaseResult:
    return CaseResult(case.name, case.group, case.truth, not_run=reason)


def _measured(
    case: TimedCase | WatchedCase,
    measurements: Sequence[Trial | Watch],
    unit: str,
    counts: Sequence[int],
) -> CaseResult:
    """Return the result of a case that was measured several times."""
    answers = [answer for measured in measurements for answer in measured.answers]
    return CaseResult(
        case.name,
        case.group,
        case.truth,
        tally(answers),
        falsehoods=falsehoods(answers),
        details={
            unit: list(counts),
            "seconds": [measured.seconds for measured in measurements],
            "answers": [to_json(answer) for answer in answers],
        },
    )
