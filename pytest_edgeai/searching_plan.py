"""What a session would search: for each model and target its space, its data and its thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.measure.dataset import npz_headers
from pytest_edgeai.plan.search_space import (
    BATCH,
    MOST_CALIBRATION_CALLS,
    THREADS,
    SearchSpace,
    SpaceFacts,
    search_space,
)
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.planning import INT8_FEATURES
from pytest_edgeai.searching_trial import GATES, Constraint
from pytest_edgeai.selection_data import SelectionPlan, plan_selection
from pytest_edgeai.session import Session
from pytest_edgeai.specification import ModelSpec, Search
from pytest_edgeai.tasks import GENERATION_TASKS

_X86 = frozenset({"x86_64", "amd64", "AMD64", "i686"})


@dataclass(frozen=True)
class PlannedSearch:
    """One search, for one model and target.

    Attributes:
        model: the model, as the manifest has it.
        target: name of the target.
        space: what can be tried.
        selection: what it chooses by.
        templates: framework name to the candidate that the plan has of it.
        constraints: gate to its threshold.
    """

    model: ModelSpec
    target: str
    space: SearchSpace
    selection: SelectionPlan
    templates: Mapping[str, PlannedCandidate]
    constraints: Mapping[str, Constraint]


def plan_searches(session: Session) -> tuple[PlannedSearch, ...]:
    """Return what would be searched; a model that no framework can be had for is left out.

    Raises:
        UserError: a space has no point, or its values do not go together with the settings.
    """
    search = session.manifest.search
    _check_threads(session, search)
    searches: list[PlannedSearch] = []
    for model in session.manifest.models:
        if model.name not in session.facts or model.name in session.problems:
            continue
        _check_batch(session, model, search)
        try:
            selection = plan_selection(
                model,
                session.catalogue,
                session.manifest.directory,
                share=search.selection_share,
            )
        except ModelError:
            continue  # the check of the model before the gates says it
        for target in session.targets:
            templates = {
                each.recipe.framework: each
                for each in session.candidates
                if each.model.name == model.name and each.target == target and not each.unavailable
            }
            if not templates:
                continue
            space = _space(session, model, templates, search)
            if not space.branches:
                raise UserError(
                    f"there is nothing to search for {model.name} and {target.name}: no scheme of "
                    f"{', '.join(templates)} fits the model, its data and the table",
                    where=f"{search.where} space" if search.space else "--edge-search",
                    advice="Name other frameworks or schemes, or calibration data",
                )
            first = next(iter(templates.values()))
            constraints = {
                gate: Constraint(*session.threshold(first, gate))
                for gate in GATES
                if gate in session.catalogue.gates
            }
            searches.append(
                PlannedSearch(model, target.name, space, selection, templates, constraints)
            )
    return tuple(searches)


def describe(search: PlannedSearch, *, trials: int, table: Search) -> str:
    """Return a search in one line, for the header."""
    points = search.space.size
    return (
        f"searching {search.model.name} for {search.target}: up to {min(trials, points)} trials of "
        f"{points} points ({', '.join(search.space.frameworks)}), {table.time_box_s:g} s at most, "
        f"chosen by {search.selection.words}"
    )


def space_lines(search: PlannedSearch) -> list[str]:
    """Return the space dimension by dimension, for ``--edge-plan``."""
    lines = [
        f"search of {search.model.name} for {search.target}: {search.space.size} points",
        f"  chosen by {search.selection.words}",
    ]
    for branch in search.space.branches:
        lines.append(f"  {branch.framework} {branch.scheme}: {branch.size} points")
        lines += [
            f"    {name}: {', '.join(_text(value) for value in values)}"
            for name, values in branch.dimensions.items()
        ]
    return lines


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_threads(session: Session, search: Search) -> None:
    threads = search.space.get(THREADS, ())
    if session.settings.clock == "cpu-led" and any(each != 1 for each in threads):
        raise UserError(
            "several threads cannot be searched where CPU time decides",
            where=f"{search.where} space {THREADS}",
            allowed=f"1 thread, or another clock than {session.settings.where('clock')}",
        )


def _check_batch(session: Session, model: ModelSpec, search: Search) -> None:
    inputs = session.facts[model.name].inputs
    is_open = model.task not in GENERATION_TASKS and all(
        not each.has_shape or (len(each.shape) > 0 and each.shape[0] is None) for each in inputs
    )
    if BATCH in search.space and not is_open:
        raise UserError(
            f"{model.name} prescribes how many samples a call takes",
            where=f"{search.where} space {BATCH}",
            allowed="only with models that leave the first axis of their inputs open",
        )


def _space(
    session: Session, model: ModelSpec, templates: Mapping[str, PlannedCandidate], search: Search
) -> SearchSpace:
    simd = set(session.host.simd)
    about = SpaceFacts(
        task=model.task,
        calibration_calls=_calibration_calls(model),
        saturates=bool(simd) and session.host.architecture in _X86 and not INT8_FEATURES & simd,
        threads=session.settings.threads,
    )
    frameworks = [session.catalogue.frameworks[name] for name in templates]
    return search_space(session.facts[model.name], frameworks, about, search)


def _calibration_calls(model: ModelSpec) -> int | None:
    """Return how many calls the calibration data gives, as far as its header tells."""
    source = model.calibration
    if source is None:
        return None
    if source.path is None or source.path.suffix != ".npz":
        return MOST_CALIBRATION_CALLS
    shapes = [shape for shape, _ in npz_headers(source).values() if shape]
    samples = max((shape[0] for shape in shapes), default=0)
    return max(1, samples // model.batch)
