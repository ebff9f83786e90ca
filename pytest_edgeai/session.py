"""What one session works on: settings, manifest, host and plan, fixed before any test runs."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_edgeai.configuration import Settings
from pytest_edgeai.descriptors import FrameworkDescriptor, GateDescriptor, TargetDescriptor
from pytest_edgeai.errors import ModelError, UserError, WorkerFailure, unknown_word
from pytest_edgeai.gate_selection import is_required, not_asked
from pytest_edgeai.model_check import check_model
from pytest_edgeai.plan.model_plan import ALL_TARGETS, Planned, Unserved, plan_model
from pytest_edgeai.plan.selection import (
    ChooseRecipes,
    PlannedCandidate,
    Surroundings,
    check_requested,
)
from pytest_edgeai.plan.targets import artifact_limit, proxy_reason
from pytest_edgeai.records import HostFacts, ModelFacts, Threshold
from pytest_edgeai.specification import Catalogue, Manifest, ModelSpec
from pytest_edgeai.thresholds import resolve_threshold, unknown_gate
from pytest_edgeai.worker.host import ProbeResult, WorkerSpec, probe

PROBE_LIMIT_S = 60.0
SIZE_GATE = "artifact_size"


class Installations:
    """Which frameworks are installed in which interpreter; each is asked once."""

    def __init__(
        self, frameworks: Mapping[str, FrameworkDescriptor], interpreters: Mapping[str, Path]
    ) -> None:
        """Know the frameworks and the interpreters that the manifest names for them."""
        self._frameworks = frameworks
        self._interpreters = interpreters
        self._found: dict[str, ProbeResult] = {}

    def probe(self, name: str) -> ProbeResult:
        """Return what the framework's interpreter has, without importing the framework.

        Raises:
            UserError: the interpreter is no Python that can be used.
        """
        if name not in self._found:
            framework = self._frameworks[name]
            interpreter = self._interpreters.get(name)
            if interpreter is None:
                self._found[name] = _probe_here(framework)
            else:
                spec = WorkerSpec(framework, interpreter)
                try:
                    self._found[name] = probe(spec, time_limit_s=PROBE_LIMIT_S)
                except WorkerFailure as error:
                    raise UserError(
                        f"{interpreter} cannot be used: {error.what}",
                        where=f"[frameworks.{name}] python",
                        allowed="a working Python",
                    ) from None
        return self._found[name]

    def missing(self, name: str) -> str:
        """Return why a framework cannot run; an empty string where it can."""
        if name not in self._frameworks:
            return f"{name} is not part of this installation"
        result = self.probe(name)
        if not result.missing:
            return ""
        interpreter = self._interpreters.get(name)
        place = f" in {interpreter}" if interpreter else ""
        return (
            f"{name} is not installed{place} (missing: {', '.join(result.missing)}); "
            f"run: {self._frameworks[name].install}"
        )


def _probe_here(framework: FrameworkDescriptor) -> ProbeResult:
    versions: dict[str, str] = {}
    missing: list[str] = []
    for name in framework.distributions:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    for name in framework.versions_of:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return ProbeResult(sys.version.split()[0], versions, tuple(missing))


@dataclass(frozen=True)
class Session:
    """One session.

    Attributes:
        settings: resolved settings.
        catalogue: everything that can be named.
        manifest: the manifest.
        host: this machine.
        targets: the targets that are gated for.
        unserved: with ``--edge-target=all``, what is not gated for and why.
        candidates: what will be made and gated, in order.
        facts: model name to what its file says, without its hash.
        problems: model name to why it cannot be gated.
        decisions: model name to the path that led to its candidates, one sentence each.
        run_id: names this session's evidence.
        cache_directory: artifacts and evidence of all sessions.
        proxies: target name to why the host is not of its kind; empty where it is.
        installations: what the frameworks' interpreters have.
    """

    settings: Settings
    catalogue: Catalogue
    manifest: Manifest
    host: HostFacts
    targets: tuple[TargetDescriptor, ...]
    candidates: tuple[PlannedCandidate, ...]
    facts: Mapping[str, ModelFacts]
    problems: Mapping[str, ModelError]
    decisions: Mapping[str, tuple[str, ...]]
    run_id: str
    cache_directory: Path
    proxies: Mapping[str, str]
    installations: Installations
    unserved: tuple[Unserved, ...] = ()

    @property
    def evidence_directory(self) -> Path:
        """Where this session's raw samples and facts lie."""
        return self.cache_directory / "evidence" / self.run_id

    def interpreter(self, framework: str) -> Path:
        """Return the Python that runs a framework."""
        return self.manifest.interpreters.get(framework, Path(sys.executable))

    def threshold(
        self, candidate: PlannedCandidate, gate: str, *, marker: float | None = None
    ) -> tuple[Threshold, bool]:
        """Return the threshold of a gate for a candidate, and whether the gate is switched on."""
        threshold, on = resolve_threshold(
            self.catalogue.gates[gate],
            marker=marker,
            command_line=self.settings.threshold,
            command_line_origin=self.settings.origins["threshold"],
            model_table=candidate.model.gates,
            defaults_table=self.manifest.gates,
            manifest_name=self.manifest.path.name,
        )
        if on and threshold.value is None and gate == SIZE_GATE:
            return self.package_limit(candidate) or threshold, on
        return threshold, on

    def package_limit(self, candidate: PlannedCandidate) -> Threshold | None:
        """Return the limit of what the target's packages may weigh; ``None`` for none."""
        return artifact_limit(candidate.target, candidate.model.deployment)

    def gate_setting(self, candidate: PlannedCandidate, key: str) -> Any:
        """Return a further key of the ``[gates]`` tables; ``None`` where nobody set it."""
        return candidate.model.gates.get(key, self.manifest.gates.get(key))

    def gates_of(self, candidate: PlannedCandidate) -> tuple[str, ...]:
        """Return the names of the gates that a candidate meets."""
        names: list[str] = []
        for name, gate in self.catalogue.gates.items():
            threshold, on = self.threshold(candidate, name)
            if gate.only_with_limit and (not on or threshold.value is None):
                continue
            if not self.not_asked(candidate, gate):
                names.append(name)
        return tuple(names)

    def not_asked(self, candidate: PlannedCandidate, gate: GateDescriptor) -> str:
        """Return why a candidate does not meet a gate; an empty string where it does."""
        return not_asked(gate, candidate.model, self.settings, self.manifest)

    def required_gates_of(self, candidate: PlannedCandidate) -> tuple[str, ...]:
        """Return the names of the gates that the promotion of a candidate needs."""
        gates = self.catalogue.gates
        names = self.gates_of(candidate)
        return tuple(name for name in names if is_required(gates[name], self.manifest))

    def known_failure(self, candidate: PlannedCandidate, gate: str) -> str:
        """Return the reason that the manifest states for a known failure; empty for none."""
        for failure in self.manifest.known_failures:
            if (failure.model, failure.gate) == (
                candidate.model.name,
                gate,
            ) and failure.candidate in (
                None,
                candidate.recipe.id,
            ):
                return failure.reason
        return ""


def open_session(
    settings: Settings,
    catalogue: Catalogue,
    manifest: Manifest,
    host: HostFacts,
    *,
    choose_recipes: ChooseRecipes,
    run_id: str,
    cache_directory: Path,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Session:
    """Check every name, read every model's structure, and plan.

    Raises:
        UserError: an unknown name, nothing to gate, or the only model cannot be used.
    """
    targets = _targets(settings, catalogue)
    check_outputs(settings, manifest)
    check_requested(settings.framework, catalogue.frameworks, settings.where("framework"))
    for gate in settings.threshold:
        if gate not in catalogue.gates:
            raise unknown_gate(gate, catalogue.gates, settings.where("threshold"))
        resolve_threshold(
            catalogue.gates[gate],
            marker=None,
            command_line=settings.threshold,
            command_line_origin=settings.where("threshold"),
            model_table={},
            defaults_table={},
            manifest_name="",
        )
    names = _selected_names(settings, manifest)
    models = [model for model in manifest.models if model.name in names and _wanted(model, targets)]
    problems = {name: error for name, error in manifest.problems.items() if name in names}
    if not models and not problems:
        raise UserError(
            f"no model is for target {', '.join(target.name for target in targets)}",
            where=str(manifest.path),
            advice='See "targets" of the models',
        )
    installations = Installations(catalogue.frameworks, manifest.interpreters)
    gates_all = ALL_TARGETS in settings.target
    around = Surroundings(
        frameworks=catalogue.frameworks,
        requested=settings.framework,
        choose_recipes=choose_recipes,
        missing=installations.missing,
        host=host,
        name_target=gates_all or len(targets) > 1,
        only_listed=gates_all,
    )
    facts: dict[str, ModelFacts] = {}
    plans: dict[str, Planned] = {}
    for model in models:
        on_progress(f"reading {model.name}")
        try:
            facts[model.name] = check_model(model, host, catalogue.metrics.get(model.metric))
            plans[model.name] = plan_model(
                model, facts[model.name], targets, around, only_served=gates_all
            )
        except ModelError as error:
            problems[model.name] = error
    if problems and len(problems) == len(manifest.models) + len(manifest.problems) == 1:
        raise next(iter(problems.values()))
    candidates = tuple(each for plan in plans.values() for each in plan.candidates)
    if gates_all:
        gated = {candidate.target.name for candidate in candidates}
        targets = tuple(target for target in targets if target.name in gated) or targets
    return Session(
        settings=settings,
        catalogue=catalogue,
        manifest=manifest,
        host=host,
        targets=targets,
        candidates=candidates,
        facts=facts,
        problems=problems,
        decisions={name: plan.path for name, plan in plans.items()},
        run_id=run_id,
        cache_directory=cache_directory,
        proxies={target.name: proxy_reason(target, host) for target in targets},
        installations=installations,
        unserved=tuple(each for plan in plans.values() for each in plan.unserved),
    )


def check_outputs(settings: Settings, manifest: Manifest) -> None:
    """Refuse report files and a promotion directory that could not be written, or would do harm.

    Raises:
        UserError: a place is a directory, or a file that the session reads, or no directory.
    """
    read = {manifest.path.resolve(): "the manifest"}
    for model in manifest.models:
        read[model.path.resolve()] = f"the model {model.name}"
        for source in model.sources:
            if source.path is not None:
                read[source.path.resolve()] = f"data of the model {model.name}"
    for name in ("json", "junit", "markdown", "html"):
        path: Path | None = getattr(settings, name)
        if path is None:
            continue
        problem = ""
        if path.resolve() in read:
            problem = f"is {read[path.resolve()]} and would be overwritten"
        elif path.is_dir():
            problem = "is a directory"
        elif not _nearest(path.parent).is_dir():
            problem = f"cannot be written: {_nearest(path.parent)} is not a directory"
        if problem:
            raise UserError(
                f'"{path}" {problem}',
                where=settings.where(name),
                allowed="a file that may be written",
            )
        read[path.resolve()] = f"the file of {settings.where(name)}"
    if settings.promote is not None and not _nearest(settings.promote).is_dir():
        raise UserError(
            f'"{settings.promote}" is no directory',
            where=settings.where("promote"),
            allowed="a directory",
        )


def _nearest(path: Path) -> Path:
    """Return the deepest part of a path that exists."""
    return next((place for place in (path, *path.parents) if os.path.lexists(place)), Path())


def _targets(settings: Settings, catalogue: Catalogue) -> tuple[TargetDescriptor, ...]:
    allowed = (*catalogue.targets, ALL_TARGETS)
    where = settings.where("target")
    for name in settings.target:
        if name not in allowed:
            raise unknown_word("target", name, allowed, where=where)
    if ALL_TARGETS not in settings.target:
        return tuple(catalogue.targets[name] for name in settings.target)
    if len(settings.target) > 1:
        raise UserError(
            f'"{",".join(settings.target)}" mixes words', where=where, allowed="all, or names"
        )
    return tuple(catalogue.targets.values())


def _selected_names(settings: Settings, manifest: Manifest) -> set[str]:
    known = {model.name for model in manifest.models} | set(manifest.problems)
    for name in settings.model:
        if name not in known:
            raise unknown_word("model", name, sorted(known), where=settings.where("model"))
    return set(settings.model) or known


def _wanted(model: ModelSpec, targets: Iterable[TargetDescriptor]) -> bool:
    return model.targets is None or any(target.name in model.targets for target in targets)
