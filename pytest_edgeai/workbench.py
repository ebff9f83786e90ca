"""The one orchestrator of the flow; fixtures and collected gates both call it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pytest_edgeai.errors import (
    EdgeAIError,
    ModelError,
)
from pytest_edgeai.evidence import EvidenceStore
from pytest_edgeai.language_preparation import prepare_language_model
from pytest_edgeai.leftovers import Scratch
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples, close_all
from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.measure.exclusive import exclusive
from pytest_edgeai.measure.language import LoadedLanguageRunnable, tokenize
from pytest_edgeai.one_runtime import require_one_runtime
from pytest_edgeai.optimize.cache import ArtifactCache, artifact_key
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.preparation import PreparedModel, prepare_model
from pytest_edgeai.progress import Progress
from pytest_edgeai.provenance import DATA_RECORD, INPUT_RECORD, data_record, input_record
from pytest_edgeai.records import Artifact, ModelFacts, Recipe, RuntimeOptions, Verdict
from pytest_edgeai.session import Session
from pytest_edgeai.specification import ModelSpec
from pytest_edgeai.tasks import GENERATION_TASKS
from pytest_edgeai.worker.host import Worker, WorkerSpec

T = TypeVar("T")
LOCK_LIMIT_S = 6 * 3600.0
"""Longer than any gate holds the machine: `endurance` does so for an hour by default."""
START_LIMIT_S = 120.0
CONVERT = "convert"
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+")


class Workbench:
    """Makes and measures candidates for one process, each step once.

    Results lie in the session's evidence directory, so that processes of one session share them. A
    step that failed is not tried again: its error answers every gate that needs it.
    """

    def __init__(
        self,
        session: Session,
        progress: Progress,
        on_verdict: Callable[[PlannedCandidate, Verdict], None] = lambda candidate, verdict: None,
    ) -> None:
        """Work on ``session``; nothing is started yet."""
        self.session = session
        self.progress = progress
        self.evidence = EvidenceStore(session.evidence_directory)
        self._scratch = Scratch()
        self.scratch = self._scratch.directory
        self.on_verdict = on_verdict
        self._cache = ArtifactCache(
            session.cache_directory / "artifacts",
            run_id=session.run_id,
            refresh=session.settings.refresh,
        )
        self._results: dict[tuple[str, ...], Any] = {}
        self._failures: dict[tuple[str, ...], EdgeAIError] = {}
        self._loaded: dict[tuple[str, ...], LoadedRunnable] = {}
        self._tails: dict[str, str] = {}

    def close(self) -> None:
        """End every worker and remove the scratch files."""
        close_all(self._loaded.values())
        self._loaded.clear()
        self._scratch.close()

    def once(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """Return the result of ``make``, called at most once for ``key``; its error is kept too."""
        if key not in self._results:
            self._results[key] = self.guard(key, make)
        result: T = self._results[key]
        return result

    def guard(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """Return the result of ``make``; once it failed, its error answers every further call."""
        self.known_failure(key)
        try:
            return make()
        except EdgeAIError as error:
            self._failures[key] = error
            raise

    def known_failure(self, key: tuple[str, ...]) -> None:
        """Raise the error of a step that failed before; do nothing where it did not."""
        if key in self._failures:
            raise self._failures[key]

    def tail_shown_by(self, tail: str, gate: str) -> str:
        """Return the gate that shows a worker's last output; ``gate`` where none does yet.

        Addresses, process ids and times in it make no other output.
        """
        return self._tails.setdefault(_VARYING.sub("#", tail), gate)

    def heavy(self, candidate_name: str) -> Any:
        """Hold the machine for a heavy step; waiting shows as progress."""
        return exclusive(
            time_limit_s=LOCK_LIMIT_S,
            waiting=lambda waited_s: self.progress.step(
                candidate_name,
                f"waiting for another measurement on this machine ({waited_s:.0f} s)",
            ),
        )

    def model(self, name: str) -> PreparedModel:
        """Return a model with its data, checked."""
        spec = next(model for model in self.session.manifest.models if model.name == name)
        return self.once(("model", name), lambda: self._prepare(spec))

    def _prepare(self, spec: ModelSpec) -> PreparedModel:
        manifest = self.session.manifest
        if spec.task in GENERATION_TASKS:
            prepared = prepare_language_model(
                spec, manifest.directory, self.scratch, lambda text: self.tokenize(spec, text)
            )
        else:
            prepared = prepare_model(spec, self.session.catalogue, manifest, self.scratch)
        self.evidence.write_record(f"{spec.name}/model", prepared.facts)
        self.evidence.write_record(f"{spec.name}/{DATA_RECORD}", data_record(prepared))
        self.evidence.write_record(f"{spec.name}/{INPUT_RECORD}", input_record(prepared))
        return prepared

    def tokenize(self, spec: ModelSpec, text: Path) -> list[int]:
        """Return the tokens of a text, by the framework of the first candidate that can run.

        Raises:
            ModelError: no framework is there that could, or the model has no working tokenizer.
        """
        able = (c for c in self.session.candidates if c.model.name == spec.name)
        candidate = next((c for c in able if not c.unavailable), None)
        if candidate is None:
            raise ModelError("no framework is installed that could tokenize it", where=spec.where)
        name = candidate.recipe.framework
        framework = self.session.catalogue.frameworks[name]
        runnable = Runnable(
            framework, self.session.interpreter(name), spec.path, self.runtime(name)
        )
        try:
            return tokenize(runnable, text, time_limit_s=self.session.settings.time_limit)
        except ModelError as error:
            file = f'"{Path(error.where).name}": ' if error.where else ""
            raise ModelError(
                f"{file}{error.what}",
                where=f"{spec.where} path",
                allowed=error.allowed,
                advice=error.advice,
            ) from None

    def artifact(self, candidate: PlannedCandidate) -> Artifact:
        """Return the candidate's artifact, from the cache or made."""
        artifact = self._artifact(candidate, candidate.recipe)
        place = f"{candidate.model.name}/{candidate.recipe.id}/artifact"
        self.once(("artifact evidence", place), lambda: self.evidence.write_record(place, artifact))
        return artifact

    def converted(self, candidate: PlannedCandidate) -> Artifact:
        """Return the model at full precision in the candidate's framework."""
        return self._artifact(candidate, Recipe(candidate.recipe.framework, CONVERT))

    def _artifact(self, candidate: PlannedCandidate, recipe: Recipe) -> Artifact:
        key = ("artifact", candidate.model.name, recipe.id)
        return self.once(key, lambda: self._make_artifact(candidate, recipe))

    def _make_artifact(self, candidate: PlannedCandidate, recipe: Recipe) -> Artifact:
        model = self.model(candidate.model.name)
        calibrated = recipe.scheme != CONVERT and model.calibration is not None
        return self.make(
            model.facts,
            recipe,
            model.calibration_samples if calibrated else None,
            model.calibration.digest() if calibrated and model.calibration else "",
            candidate.model.name,
        )

    def make(
        self,
        facts: ModelFacts,
        recipe: Recipe,
        calibration: Samples | None,
        calibration_sha256: str,
        title: str,
    ) -> Artifact:
        """Return the artifact that ``recipe`` makes of a model, from the cache or made in a worker.

        Args:
            facts: the model, hash included.
            recipe: what to do.
            calibration: staged calibration samples; ``None`` for none.
            calibration_sha256: their digest.
            title: how progress calls the model.
        """
        framework = self.session.catalogue.frameworks[recipe.framework]
        installed = self.session.installations.probe(recipe.framework)
        subject = f"{title} {recipe.id}"
        key = artifact_key(
            facts.sha256,
            recipe,
            calibration_sha256,
            {**installed.versions, "python": installed.python_version},
            facts.architecture,
            framework.implementation,
        )

        def make(output: Path) -> tuple[Path, tuple[str, ...]]:
            arrays = calibration and {
                "arrays": calibration.arrays,
                "batch": calibration.batching.batch,
            }
            spec = WorkerSpec(framework, self.session.interpreter(recipe.framework))
            with self.heavy(subject), Worker.start(spec, time_limit_s=START_LIMIT_S) as worker:
                answer = worker.request(
                    "optimize",
                    time_limit_s=self.session.settings.time_limit,
                    on_progress=lambda what, done: self.progress.step(subject, what, done),
                    source=str(facts.path),
                    recipe=recipe,
                    architecture=facts.architecture,
                    inputs=facts.inputs,
                    calibration=arrays,
                    output=str(output),
                )
            return Path(answer["path"]), tuple(answer["log"])

        self.progress.step(subject, "looking for the artifact")
        return self._cache.get_or_make(
            key, recipe, framework.schemes.get(recipe.scheme, "unknown"), installed.versions, make
        )

    def keep(self, loaded: LoadedRunnable) -> LoadedRunnable:
        """Take over a loaded model, so that it is ended with the session."""
        self._loaded[("test", str(len(self._loaded)), str(loaded.runnable.path))] = loaded
        return loaded

    def runtime(self, framework: str, beside: PlannedCandidate | None = None) -> RuntimeOptions:
        """Return how a framework runs its models while they are compared.

        Args:
            framework: name of the framework.
            beside: the candidate that it is compared with, whose threads it has.
        """
        session = self.session
        threads = session.settings.threads
        if beside is not None:
            threads = beside.threads(threads)
        return RuntimeOptions(threads, session.catalogue.frameworks[framework].device)

    def baseline_runnable(self, candidate: PlannedCandidate) -> Runnable:
        """Return the baseline as it is run beside a candidate.

        In its native runtime that is the model's own file; otherwise it is the model converted at
        full precision.

        Raises:
            MeasurementError: the runtime that both sides share has another version there.
        """
        require_one_runtime(self.session, candidate)
        name = candidate.baseline_framework
        framework = self.session.catalogue.frameworks[name]
        return Runnable(
            framework,
            self.session.interpreter(name),
            self.baseline_path(candidate),
            self.runtime(name, candidate),
        )

    def baseline_path(self, candidate: PlannedCandidate) -> Path:
        """Return the file that the baseline is loaded from, or what stands in its place."""
        if candidate.reference is not None:
            return candidate.reference.path
        if candidate.baseline_recipe is None:
            return self.model(candidate.model.name).facts.path
        return self.baseline_artifact(candidate).path

    def baseline_artifact(self, candidate: PlannedCandidate) -> Artifact:
        """Return the conversion at full precision that the baseline is, where it is one."""
        assert candidate.baseline_recipe is not None
        return self._artifact(candidate, candidate.baseline_recipe)

    def candidate_runnable(self, candidate: PlannedCandidate) -> Runnable:
        """Return the candidate as it is run."""
        name = candidate.recipe.framework
        framework = self.session.catalogue.frameworks[name]
        return Runnable(
            framework,
            self.session.interpreter(name),
            self.artifact(candidate).path,
            candidate.runtime or self.runtime(name),
        )

    def loaded_baseline(self, candidate: PlannedCandidate) -> LoadedRunnable:
        """Return the baseline, loaded in a worker that lives on while its model is worked on."""
        return self.loaded(
            _baseline_key(candidate), candidate, lambda: self.baseline_runnable(candidate)
        )

    def loaded_candidate(self, candidate: PlannedCandidate) -> LoadedRunnable:
        """Return the candidate, loaded in a worker that lives on while it is worked on."""
        return self.loaded(
            _candidate_key(candidate), candidate, lambda: self.candidate_runnable(candidate)
        )

    def check_loadable(self, candidate: PlannedCandidate) -> None:
        """Raise the error of a load of baseline or candidate that failed before, if one did."""
        self.known_failure(("load", *_baseline_key(candidate)))
        self.known_failure(("load", *_candidate_key(candidate)))

    def loaded(
        self, key: tuple[str, ...], candidate: PlannedCandidate, runnable: Callable[[], Runnable]
    ) -> LoadedRunnable:
        """Return a loaded model, started where it is not running; strangers to it are ended.

        A model that did not load is not tried again.
        """
        kept = self._loaded.get(key)
        if kept is not None and kept.alive:
            return kept
        companion = _candidate_key(candidate)
        for other in list(self._loaded):
            stranger = other[0] not in (key[0], "test") or (
                other[1] == "candidate" and other != companion
            )
            if other == key or stranger:
                self._loaded.pop(other).close()
        self.progress.step(f"{candidate.model.name} {candidate.node}", f"loading the {key[1]}")
        self._loaded[key] = self.guard(
            ("load", *key), lambda: self.load(candidate.model.name, runnable(), candidate)
        )
        return self._loaded[key]

    def samples(self, candidate: PlannedCandidate) -> Samples:
        """Return the staged evaluation samples, as many per call as a candidate's pair takes."""
        samples = self.model(candidate.model.name).samples
        if candidate.batch is None:
            return samples
        return replace(samples, batching=Batching(candidate.batch, fixed=False))

    def load(
        self, model: str, runnable: Runnable, beside: PlannedCandidate | None = None
    ) -> LoadedRunnable:
        """Load a runnable of a model in a worker of its own, which the caller ends.

        Args:
            model: name of the model.
            runnable: what is loaded.
            beside: the candidate of whose pair it is, for the samples per call.

        Raises:
            EdgeAIError: the framework is missing, the model is refused, or the worker failed.
        """
        prepared = self.model(model)
        limit_s = self.session.settings.time_limit
        if prepared.language is not None:
            return LoadedLanguageRunnable(
                runnable, prepared.samples, prepared.language, time_limit_s=limit_s
            )
        samples = prepared.samples if beside is None else self.samples(beside)
        return LoadedRunnable(runnable, samples, time_limit_s=limit_s)


def place(candidate: PlannedCandidate, what: str) -> str:
    """Return the evidence name of something measured of a candidate."""
    return f"{candidate.model.name}/{candidate.comparison}/{what}"


def title(candidate: PlannedCandidate) -> str:
    """Return how progress calls a candidate."""
    return f"{candidate.model.name} {candidate.node}"


def _baseline_key(candidate: PlannedCandidate) -> tuple[str, ...]:
    model = candidate.model
    recipe = candidate.baseline_recipe
    how = recipe.id if recipe else "as it is"
    if candidate.reference is not None:
        how = candidate.reference.sha256
    threads = str(candidate.runtime.threads) if candidate.runtime else ""
    batch = str(candidate.batch or "")
    return (model.name, candidate.counterpart, candidate.baseline_framework, how, threads, batch)


def _candidate_key(candidate: PlannedCandidate) -> tuple[str, ...]:
    return (candidate.model.name, "candidate", candidate.recipe.id)
