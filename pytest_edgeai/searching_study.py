"""A study: Optuna proposes points, nobody tries one twice, and no death of a process loses it."""

from __future__ import annotations

import contextlib
import math
import random
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.plan.pareto import utility
from pytest_edgeai.plan.search_space import Branch, Point, SearchSpace, digest, same
from pytest_edgeai.records import JSON, to_json
from pytest_edgeai.search_reading import trial_from_json
from pytest_edgeai.search_records import Figure, Trial
from pytest_edgeai.searching_storage import HEARTBEAT_S, Claim, StudyPlace, import_optuna

POLL_S = 0.5
MOST_LISTED = 20_000
"""Points of a space that are listed to pick one of them; of a larger one they are drawn."""
TRIALS, TIME_BOX, EXHAUSTED = "trials", "time box", "space exhausted"
_WORST = -30.0
"""Stands for the utility of what is nothing worth: 2 to this power of the baseline's speed."""
_TRIAL, _KEY, _CLAIM = "trial", "key", "claim"
_THRESHOLDS = "thresholds"

Choice = tuple[Branch, Mapping[str, JSON]]


@dataclass(frozen=True)
class Measured:
    """What came of one point.

    Attributes:
        trial: what is kept and reported of it; its number and recipe are filled in by the study.
        violations: gate to how far its threshold is missed, as a share of it; above 0 where it is
            surely missed.
    """

    trial: Trial
    violations: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """How long a search goes on.

    Attributes:
        trials: most trials of the whole study, whoever ran them.
        deadline_s: when this process ends, by ``time.monotonic``.
    """

    trials: int
    deadline_s: float


class Study:
    """One study in its storage, as one process sees it."""

    def __init__(
        self,
        place: StudyPlace,
        name: str,
        space: SearchSpace,
        objectives: Sequence[str],
        claim: Claim,
        about: Mapping[str, JSON],
    ) -> None:
        """Open the study ``name``, or begin it.

        Args:
            place: its storage.
            name: its name.
            space: what can be tried.
            objectives: what is maximized.
            claim: of this process.
            about: what the study depends on; the first process keeps it there.

        Raises:
            EdgeAIError: a study of that name was made for something else.
        """
        self._optuna = import_optuna()
        self._place, self._space = place, space
        self._objectives, self._claim = tuple(objectives), claim
        self.name = name
        with self._guarded(), place.alone():
            self._study = self._optuna.create_study(
                storage=place.storage,
                study_name=name,
                directions=["maximize"] * len(self._objectives),
                load_if_exists=True,
            )
            known = self._study.user_attrs.get("about")
            if known is None:
                self._study.set_user_attr("about", dict(about))
            elif known != dict(about):
                changed = [key for key in about if known.get(key) != about[key]]
                raise EdgeAIError(
                    f'the study "{name}" in {place.shown} was made for something else '
                    f"({', '.join(changed) or 'other keys'}); name another one, or none"
                )
        self._queued = False

    def begin_with(self, choices: Sequence[Choice]) -> None:
        """Let the study begin with some points, unless it has begun."""
        with self._guarded(), self._place.alone():
            if self._study.get_trials(deepcopy=False):
                return
            for branch, choice in choices:
                self._study.enqueue_trial(self._parameters(branch, choice))

    def run(
        self,
        measure: Callable[[Point, int], Measured],
        limits: Limits,
        waiting: Callable[[str], None],
    ) -> str:
        """Try points until a limit is reached; return which one.

        Args:
            measure: tries a point; given how many were tried before. What it raises ends the run,
                and the point stays untried.
            limits: see there.
            waiting: told why nothing is tried for a while.
        """
        while True:
            self._bury_the_dead()
            done, running = self._counts()
            if done >= limits.trials:
                return TRIALS
            if done >= self._space.size:
                return EXHAUSTED
            if time.monotonic() + self._expected_s() >= limits.deadline_s:
                return TIME_BOX
            if done + running >= min(limits.trials, self._space.size):
                waiting(f"{running} of the last trials run in another process")
                time.sleep(POLL_S)
                continue
            self._one(measure, done, running)

    def trials(self) -> tuple[Trial, ...]:
        """Return every trial that came to an end, of all processes, in order."""
        found: dict[str, Trial] = {}
        for frozen in self._finished():
            raw = {**frozen.user_attrs[_TRIAL], "number": frozen.number}
            found.setdefault(_key(frozen), trial_from_json(raw))
        return tuple(found.values())

    def read(self, name: str) -> JSON:
        """Return what was kept with the study under ``name``; ``None`` for nothing."""
        with self._guarded():
            return self._study.user_attrs.get(name)

    def keep(self, name: str, value: JSON) -> None:
        """Keep something with the study."""
        with self._guarded():
            self._study.set_user_attr(name, value)

    def _one(self, measure: Callable[[Point, int], Measured], done: int, running: int) -> None:
        """Try one point, unless the proposed one was tried before."""
        failed = self._optuna.trial.TrialState.FAIL
        # Two processes that ask a SQLite file at once could be given the same trial.
        with self._guarded(), self._place.alone():
            self._study.sampler = self._sampler(done + running)
            self._queued = False
            trial = self._study.ask()
            branch, choice = self._suggest(trial)
            point = self._space.point(branch, choice)
            if point.key in self._taken():
                self._study.tell(trial, state=failed)
                self._queue_neighbor(branch, choice, trial.number)
                return
            trial.set_user_attr(_CLAIM, {**self._claim.to_json(), _KEY: point.key})
        try:
            with self._beating(trial.number):
                measured = measure(point, done)
        except BaseException:
            with self._guarded(), self._unless_buried():
                self._study.tell(trial, state=failed)
            raise
        with self._guarded(), self._unless_buried():
            self._keep(trial, measured)

    def _keep(self, trial: Any, measured: Measured) -> None:
        missed = [violation for violation in measured.violations.values() if violation > 0.0]
        trial.set_constraint(_THRESHOLDS, math.fsum(missed))
        # Written at once: a trial without it was cut off.
        trial.set_user_attr(_TRIAL, to_json(measured.trial))
        if measured.trial.state != "measured":
            self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)
            return
        figures = measured.trial.figures
        self._study.tell(trial, [_value(name, figures.get(name)) for name in self._objectives])

    @contextlib.contextmanager
    def _beating(self, number: int) -> Iterator[None]:
        """Say of a trial that it lives, for as long as it does."""
        storage, over = self._place.storage, threading.Event()
        study_id = storage.get_study_id_from_name(self.name)
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)

        def beat() -> None:
            while not over.is_set():
                # A beat that the database misses is made up by the next one.
                with contextlib.suppress(self._optuna.exceptions.StorageInternalError):
                    storage.record_heartbeat(trial_id)
                over.wait(HEARTBEAT_S)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextlib.contextmanager
    def _unless_buried(self) -> Iterator[None]:
        """Let go of a trial that others took for dead meanwhile; they try its point again."""
        with contextlib.suppress(ValueError, self._optuna.exceptions.UpdateFinishedTrialError):
            yield

    def _suggest(self, trial: Any) -> Choice:
        space = self._space
        framework = trial.suggest_categorical("framework", space.frameworks)
        scheme = trial.suggest_categorical(f"{framework}.scheme", space.schemes(framework))
        branch = space.branch(framework, scheme)
        return branch, {
            name: trial.suggest_categorical(branch.name(name), values)
            for name, values in branch.dimensions.items()
        }

    def _parameters(self, branch: Branch, choice: Mapping[str, JSON]) -> dict[str, JSON]:
        return {
            "framework": branch.framework,
            f"{branch.framework}.scheme": branch.scheme,
            **{branch.name(name): value for name, value in choice.items()},
        }

    def _queue_neighbor(self, wanted: Branch, choice: Mapping[str, JSON], seed: int) -> None:
        """Put the untried point next in the queue that is nearest to one that was tried.

        That is one of the same scheme that differs in the fewest dimensions, by chance among those
        alike, and one of another scheme where this one is exhausted.
        """
        taken = self._taken()
        chance = random.Random(f"{self.name}/{seed}")

        def distance(point: Choice) -> tuple[bool, int]:
            branch, values = point
            if branch is not wanted:
                return True, 0
            return False, sum(not same(values[name], choice[name]) for name in values)

        if self._space.size <= MOST_LISTED:
            points = list(self._space.points())
            chance.shuffle(points)
        else:
            points = [self._draw(chance) for _ in range(MOST_LISTED)]
        for branch, values in sorted(points, key=distance):
            if self._space.point(branch, values).key not in taken:
                self._study.enqueue_trial(self._parameters(branch, values))
                self._queued = True
                return

    def _draw(self, chance: random.Random) -> Choice:
        branches = self._space.branches
        branch = chance.choices(branches, [each.size for each in branches])[0]
        return branch, {name: chance.choice(values) for name, values in branch.dimensions.items()}

    def _sampler(self, trials: int) -> Any:
        """Return the sampler of the next trial.

        It is seeded by the trials before it, so that a study that was cut off goes on as it would
        have, and two processes do not propose the same.
        """
        seed = int(digest([self.name, trials])[:8], 16)
        if self._queued:  # the next point is known, and nothing need be modelled for it
            return self._optuna.samplers.RandomSampler(seed=seed)
        return self._optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=max(4, min(10, self._space.size // 8)),
            multivariate=True,
            group=True,
        )

    def _taken(self) -> set[str]:
        """Return the keys of all points that were tried or are being tried."""
        running = self._optuna.trial.TrialState.RUNNING
        return {
            _key(frozen)
            for frozen in self._study.get_trials(deepcopy=False)
            if _CLAIM in frozen.user_attrs
            and (_TRIAL in frozen.user_attrs or frozen.state == running)
        }

    def _finished(self) -> list[Any]:
        with self._guarded():
            return [
                frozen
                for frozen in self._study.get_trials(deepcopy=False)
                if _TRIAL in frozen.user_attrs and _CLAIM in frozen.user_attrs
            ]

    def _expected_s(self) -> float:
        """Return how long a trial may take, going by those that were measured; 0 for none yet."""
        known = [trial.seconds for trial in self.trials() if trial.state == "measured"]
        return statistics.median(known) if known else 0.0

    def _counts(self) -> tuple[int, int]:
        """Return how many points were tried, and how many are being tried by living processes."""
        state = self._optuna.trial.TrialState
        done = {_key(each) for each in self._finished()}
        with self._guarded():
            running = {
                _key(each)
                for each in self._study.get_trials(deepcopy=False, states=(state.RUNNING,))
                if _CLAIM in each.user_attrs
            }
        return len(done), len(running - done)

    def _bury_the_dead(self) -> None:
        """Mark trials of dead processes as failed, and try their points again.

        Those of this machine are known by their claim; for others Optuna's heartbeat has to have
        stopped for a while.
        """
        optuna = self._optuna
        running = (optuna.trial.TrialState.RUNNING,)
        with self._guarded():
            optuna.storages.fail_stale_trials(self._study)
        with self._guarded(), self._place.alone():
            for frozen in self._study.get_trials(deepcopy=False, states=running):
                if not self._claim.is_dead(frozen.user_attrs.get(_CLAIM)):
                    continue
                with self._unless_buried():
                    self._study.tell(frozen.number, state=optuna.trial.TrialState.FAIL)
                    if _TRIAL not in frozen.user_attrs:
                        self._study.enqueue_trial(frozen.params)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Keep the library's warnings to itself, and say a database's failure in one line."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except (SQLAlchemyError, self._optuna.exceptions.StorageInternalError) as error:
            reason = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
            raise EdgeAIError(
                f"the storage {self._place.shown} of the search failed ({reason})"
            ) from None


def _value(name: str, figure: Figure | None) -> float:
    found = utility(name, figure.observed) if figure is not None else _WORST
    return min(max(found, _WORST), -_WORST) if found == found else _WORST


def _key(frozen: Any) -> str:
    return str(frozen.user_attrs[_CLAIM][_KEY])
