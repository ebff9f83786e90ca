"""One search, for one model and target, as one process runs it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_edgeai import __version__
from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.history.records import host_identity
from pytest_edgeai.measure.overlap import check_overlap
from pytest_edgeai.plan.finalists import choose_finalists
from pytest_edgeai.plan.search_space import BATCH, Point, default_choices, digest, label
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.progress import Progress
from pytest_edgeai.provenance import data_record
from pytest_edgeai.records import JSON, Recipe, RuntimeOptions, to_json
from pytest_edgeai.remembering import tool_versions
from pytest_edgeai.search_records import Figure, SearchReport, Trial
from pytest_edgeai.searching_plan import PlannedSearch
from pytest_edgeai.searching_restoring import restore_best, restored_of
from pytest_edgeai.searching_storage import Claim, StudyPlace
from pytest_edgeai.searching_study import TIME_BOX, Limits, Measured, Study
from pytest_edgeai.searching_trial import TIMING_S, measure_trial, time_longer
from pytest_edgeai.session import Session
from pytest_edgeai.workbench import Workbench

LONGER = "timed-longer"
"""What the study keeps of the longer timings, beside Optuna's trials, which stay as they ended."""
CONTENDERS_EACH = 2
"""Trials that are timed longer, for each finalist."""


class Unusable(EdgeAIError):
    """The model or its data cannot be used at all."""


class _TrialProgress(Progress):
    """Shows what a trial does behind the number of the trial; its notes are no notes of gates."""

    def __init__(self, outer: Progress, subject: str) -> None:
        super().__init__()
        self._outer, self._subject = outer, subject
        self.trial = "checking the model and its data"

    def step(
        self, subject: str, what: str, fraction: float | None = None, detail: str = ""
    ) -> None:
        """Say which trial it is, and beside it what that does."""
        share = "" if fraction is None else f" {fraction:.0%}"
        self._outer.step(self._subject, self.trial, detail=f"{what}{share}")

    def say(self, text: str) -> None:
        """Say nothing: it is about one trial."""

    def show(self, text: str) -> None:
        """Show nothing, likewise."""

    def note(self, text: str) -> None:
        """Keep nothing, likewise."""


class SearchRun:
    """One search, as this process runs it."""

    def __init__(
        self, session: Session, search: PlannedSearch, progress: Progress, *, several: bool
    ) -> None:
        """Search for one model and target.

        Args:
            session: the session as it was planned.
            search: what is searched.
            progress: where it shows how far it is.
            several: whether the session has several targets, which a study of the user's own name
                is then told apart by.
        """
        self._search, self._outer = search, progress
        self._session = session
        self._table = session.manifest.search
        self._several = several
        self._trials = session.settings.search or 0
        settings = replace(
            session.settings,
            budget=min(session.settings.budget, TIMING_S),
            time_limit=min(session.settings.time_limit, self._table.time_box_s),
            promote=None,
            against=None,
            refresh=False,
        )
        spec = search.selection.search
        self._templates = {
            name: replace(each, model=spec) for name, each in search.templates.items()
        }
        self._progress = _TrialProgress(progress, f"{spec.name} search")
        self._bench = Workbench(
            replace(
                session,
                settings=settings,
                manifest=replace(session.manifest, models=(spec,)),
                candidates=tuple(self._templates.values()),
                run_id=f"{session.run_id}/.search",
            ),
            self._progress,
        )
        self._best: tuple[Trial, ...] = ()
        self._began = time.monotonic()

    def close(self) -> None:
        """End the workers."""
        self._bench.close()

    def search(self, place: StudyPlace, claim: Claim) -> SearchReport:
        """Run the search, or read what it found before.

        Raises:
            Unusable: the model or its data cannot be used.
            EdgeAIError: the storage failed, or no trial fits into the time box.
        """
        about = self._about()
        study = Study(
            place, self._name(about), self._search.space, self._objectives(), claim, about
        )
        concluded = study.read(self._conclusion())
        if concluded is not None and not self._may_go_on(concluded):
            ids, ended = concluded["finalists"], concluded["ended"]
        else:
            ended = self._run(study)
            table = self._table
            chosen = choose_finalists(
                self._trials_of(study), table.objective, table.weights, table.finalists
            )
            ids = [trial.recipe.id for trial in chosen]
            study.keep(
                self._conclusion(),
                {"finalists": ids, "ended": ended, "time_box_s": table.time_box_s},
            )
        return self._report(study, place.shown, ids, ended)

    def _trials_of(self, study: Study) -> tuple[Trial, ...]:
        """Return every trial, with the longest timing that there is of it."""
        longer = study.read(LONGER) or {}
        trials = (*study.trials(), *(each.trial for each in restored_of(study)))
        return tuple(
            replace(t, figures={**t.figures, "speedup": Figure(**longer[t.recipe.id])})
            if t.recipe.id in longer
            else t
            for t in trials
        )

    def _run(self, study: Study) -> str:
        space = self._search.space
        facts = self._session.facts[self._search.model.name]
        calibrated = self._search.model.calibration is not None
        study.begin_with(default_choices(space, facts, calibrated=calibrated))
        self._best = self._best_of(study.trials())
        deadline_s = self._began + self._table.time_box_s

        def measure(point: Point, done: int) -> Measured:
            self._say(done, deadline_s)
            measured = measure_trial(
                self._bench, self._candidate_at(point), self._search.constraints, self._stage
            )
            self._best = self._best_of((*self._best, measured.trial))
            return measured

        ended = study.run(
            measure,
            Limits(self._trials, deadline_s),
            lambda words: self._outer.step(f"{self._search.model.name} search", words),
        )
        self._check_outcome(study.trials(), ended)
        self._progress.trial = "after the trials"
        problem = restore_best(
            self._bench,
            study,
            lambda trial: self._candidate(trial.recipe, trial.runtime, trial.batch),
            self._search.constraints,
            deadline_s,
            self._stage,
        )
        if problem:
            self._outer.note(f"{self._search.model.name}: {problem}")
        self._time_contenders(study, deadline_s)
        return ended

    def _time_contenders(self, study: Study, deadline_s: float) -> None:
        """Time longer what may go on, in the time that is left: short timings tie too much."""
        table = self._table
        known = dict(study.read(LONGER) or {})
        most = CONTENDERS_EACH * table.finalists
        for trial in choose_finalists(self._trials_of(study), table.objective, table.weights, most):
            name = trial.recipe.id
            if name in known or trial.misses or time.monotonic() >= deadline_s:
                continue
            self._stage(f"timing {name} for longer")
            try:
                candidate = self._candidate(trial.recipe, trial.runtime, trial.batch)
                figure = time_longer(self._bench, candidate, self._search.constraints)
            except EdgeAIError as error:
                self._outer.note(f"{self._search.model.name} {name}: not timed longer ({error})")
                continue
            if figure is not None:
                known[name] = to_json(figure)
                study.keep(LONGER, {**(study.read(LONGER) or {}), **known})

    def _check_outcome(self, trials: Sequence[Trial], ended: str) -> None:
        made = [trial for trial in trials if trial.state != "failed"]
        if made:
            return
        if ended == TIME_BOX:
            raise UserError(
                f"no trial of {self._search.model.name} came to its end in "
                f"{self._table.time_box_s:g} s",
                where=f"{self._table.where} time_box_s",
                allowed="more seconds than one trial takes",
                advice=f"The first one ended so: {trials[0].reason}" if trials else "",
            )
        self._outer.note(
            f"{self._search.model.name}: none of {len(trials)} trials could be made, so that the "
            f"plan's own candidates are gated; the first one: {trials[0].reason}"
        )

    def _say(self, done: int, deadline_s: float) -> None:
        most = min(self._trials, self._search.space.size)
        left = max(0.0, deadline_s - time.monotonic())
        best = self._best
        so_far = ""
        if best and "speedup" in best[0].figures:
            so_far = f"; best so far {best[0].figures['speedup'].observed:.2f}x"
            accuracy = best[0].figures.get("accuracy_retained")
            so_far += f" with {accuracy.observed:.1%}" if accuracy else ""
        self._progress.trial = f"trial {done + 1} of {most} ({left:.0f} s left{so_far})"

    def _best_of(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        return choose_finalists(trials, self._table.objective, self._table.weights, 1)

    def _stage(self, words: str) -> None:
        self._progress.step("", words)

    def _candidate_at(self, point: Point) -> PlannedCandidate:
        threads = self._session.settings.threads
        recipe = replace(point.recipe, label=label(point, threads=threads))
        device = self._session.catalogue.frameworks[recipe.framework].device
        return self._candidate(recipe, point.runtime(device), point.batch)

    def _candidate(
        self, recipe: Recipe, runtime: RuntimeOptions, batch: int | None
    ) -> PlannedCandidate:
        own = runtime != self._bench.runtime(recipe.framework)
        return replace(
            self._templates[recipe.framework],
            recipe=recipe,
            node=recipe.id,
            runtime=runtime if own else None,
            batch=batch,
        )

    def _objectives(self) -> tuple[str, ...]:
        if self._table.objective == "pareto":
            return ("speedup", "accuracy_retained", "memory_cut")
        return (self._table.objective,)

    def _about(self) -> dict[str, JSON]:
        """Return everything that the figures of a trial depend on.

        Raises:
            Unusable: the model or its data cannot be used.
        """
        session, search = self._session, self._search
        try:
            model = self._bench.model(search.model.name)
            self._check_disjoint()
        except UserError as error:
            raise Unusable(str(error)) from None
        versions = {
            name: tool_versions(session.installations, name, each.baseline_framework)
            for name, each in search.templates.items()
        }
        about: dict[str, JSON] = {
            "model": model.facts.sha256,
            "data": data_record(model),
            "metric": model.metric_name,
            "batch": model.samples.batching.samples_per_call,
            "space": search.space.to_json(),
            "threads": search.space.threads,
            "baselines": {n: each.baseline_framework for n, each in search.templates.items()},
            "thresholds": to_json(
                {g: [c.threshold.value, c.on] for g, c in search.constraints.items()}
            ),
            "objective": self._table.objective,
            "clock": session.settings.clock,
            "versions": {**versions, "pytest-edgeai": __version__},
            "host": host_identity(to_json(session.host)),
        }
        return {key: digest(to_json(value))[:16] for key, value in about.items()}

    def _check_disjoint(self) -> None:
        """Refuse selection data that share a sample with what the gates judge by."""
        spec = self._search.selection.gates
        gates = Workbench(
            replace(
                self._session,
                manifest=replace(self._session.manifest, models=(spec,)),
                run_id=f"{self._session.run_id}/.search/gates",
            ),
            self._progress,
        )
        try:
            judged = gates.model(spec.name).evaluation
        finally:
            gates.close()
        selected = self._bench.model(spec.name).evaluation
        check_overlap(judged, selected, "selection")
        most = min(judged.samples, selected.samples)
        batches = self._table.space.get(BATCH, ())
        if any(batch > most for batch in batches):
            raise UserError(
                f"{max(batches)} samples per call, and the search or the gates have {most}",
                where=f"{self._table.where} space {BATCH}",
                allowed=f"1 to {most}",
            )

    def _name(self, about: Mapping[str, JSON]) -> str:
        name = self._search.model.name
        if not self._table.study:
            return f"{name}-{digest(dict(about))[:24]}"
        return f"{self._table.study}.{name}" + (f".{self._search.target}" if self._several else "")

    def _conclusion(self) -> str:
        """Return the name that the outcome of this very search is kept by."""
        table = self._table
        key = digest([self._trials, table.objective, dict(table.weights), table.finalists])
        return f"concluded-{key[:16]}"

    def _may_go_on(self, concluded: Mapping[str, JSON]) -> bool:
        longer = bool(self._table.time_box_s > concluded["time_box_s"])
        return concluded["ended"] == TIME_BOX and longer

    def _report(self, study: Study, storage: str, ids: Sequence[str], ended: str) -> SearchReport:
        table = self._table
        return SearchReport(
            study=study.name,
            storage=storage,
            space={**self._search.space.to_json(), "points": self._search.space.size},
            trials=tuple(
                replace(trial, state="finalist") if trial.recipe.id in ids else trial
                for trial in self._trials_of(study)
            ),
            finalists=tuple(ids),
            seconds=time.monotonic() - self._began,
            ended=ended,
            restored={each.trial.recipe.id: each.layers for each in restored_of(study)},
            settings={
                "trials": self._trials,
                "time_box_s": table.time_box_s,
                "objective": table.objective,
                "finalists": table.finalists,
                "weights": dict(table.weights),
                "selection": self._search.selection.words,
            },
        )
