"""``--edge-search``: find the best recipes of a space, and let the session gate those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.evidence import EvidenceStore
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.progress import Progress
from pytest_edgeai.records import JSON, Recipe, RuntimeOptions, to_json
from pytest_edgeai.search_reading import REPORTS
from pytest_edgeai.search_records import SearchReport
from pytest_edgeai.searching_plan import (
    PlannedSearch,
    describe,
    plan_searches,
    space_lines,
)
from pytest_edgeai.searching_run import SearchRun, Unusable
from pytest_edgeai.searching_storage import Claim, open_place
from pytest_edgeai.session import Session
from pytest_edgeai.specification import ModelSpec, Part

SEARCHED = ".search/found"
"""The record of evidence that tells every process of a session what was found."""


class Searcher:
    """Searches for the models and targets of a session."""

    def __init__(self, session: Session) -> None:
        """Plan the searches of ``session``; nothing is tried yet.

        Raises:
            UserError: there is nothing to search, or the table does not fit the settings.
        """
        self._session = session
        self._searches = plan_searches(session)

    def header(self) -> list[str]:
        """Return one line per search."""
        trials, table = self._session.settings.search or 0, self._session.manifest.search
        return [describe(each, trials=trials, table=table) for each in self._searches]

    def space(self) -> list[str]:
        """Return every space with its size, line by line."""
        return [line for each in self._searches for line in space_lines(each)]

    def search(self, progress: Progress) -> Session:
        """Search, and return the session that gates what was found; see :func:`run_searches`."""
        if not self._searches:
            return self._session
        return run_searches(self._session, self._searches, progress)


def run_searches(
    session: Session, searches: Sequence[PlannedSearch], progress: Progress
) -> Session:
    """Search, and return the session that gates what was found.

    What was found is kept as evidence, so that other processes of the session know it
    (:func:`with_finalists`).

    Raises:
        UserError: Optuna is missing, the storage cannot be opened, or the time box is too short.
    """
    table = session.manifest.search
    where = f"{table.where} storage" if table.storage else "--edge-search"
    place = open_place(table.storage, session.cache_directory, session.manifest.directory, where)
    claim = Claim(session.cache_directory)
    evidence = EvidenceStore(session.evidence_directory)
    found: list[JSON] = []
    reports: dict[str, dict[str, SearchReport]] = {}
    several = len(session.targets) > 1
    try:
        for search in searches:
            run = SearchRun(session, search, progress, several=several)
            try:
                report = run.search(place, claim)
            except Unusable as error:
                # The check of the model before the gates says it, and is not done here.
                progress.show(f"{search.model.name}: not searched: {error}")
                continue
            finally:
                run.close()
            reports.setdefault(search.model.name, {})[search.target] = report
            found.append(_entry(search, report))
    except EdgeAIError as error:
        raise error if isinstance(error, UserError) else UserError(str(error)) from None
    finally:
        claim.release()
        progress.clear()
    for model, by_target in reports.items():
        evidence.write_record(f"{model}/{REPORTS}", by_target)
    evidence.write_record(SEARCHED, {"searches": found})
    return with_finalists(session)


def with_finalists(session: Session) -> Session:
    """Return the session that gates what its search found, as the evidence tells."""
    record = EvidenceStore(session.evidence_directory).read_record(SEARCHED)
    if record is None:
        return session
    models = {model.name: model for model in session.manifest.models}
    chosen: dict[tuple[str, str], list[JSON]] = {}
    for entry in record["searches"]:
        if entry["part"] is not None:
            models[entry["model"]] = replace(models[entry["model"]], part=Part(**entry["part"]))
        chosen[entry["model"], entry["target"]] = entry["finalists"]
    candidates: list[PlannedCandidate] = []
    for planned in session.candidates:
        planned = replace(planned, model=models[planned.model.name])
        key = (planned.model.name, planned.target.name)
        mine = [each for each in session.candidates if (each.model.name, each.target.name) == key]
        if not chosen.get(key):
            candidates.append(planned)
        elif planned.recipe == mine[0].recipe:
            templates = {each.recipe.framework: each for each in mine}
            candidates += [_gated(raw, templates, planned.model, session) for raw in chosen[key]]
    first = {each.recipe.id: at for at, each in reversed(list(enumerate(candidates)))}
    return replace(
        session,
        manifest=replace(
            session.manifest, models=tuple(models[m.name] for m in session.manifest.models)
        ),
        # Those of one recipe stand side by side, so that each is loaded once.
        candidates=tuple(sorted(candidates, key=lambda each: first[each.recipe.id])),
    )


def _entry(search: PlannedSearch, report: SearchReport) -> JSON:
    """Return what other processes have to know of a search."""
    order = {recipe_id: at for at, recipe_id in enumerate(report.finalists)}
    chosen = [trial for trial in report.trials if trial.state == "finalist"]
    return {
        "model": search.model.name,
        "target": search.target,
        "part": to_json(search.selection.gates.part),
        "finalists": [
            {
                "recipe": to_json(trial.recipe),
                "runtime": to_json(trial.runtime),
                "batch": trial.batch,
            }
            for trial in sorted(chosen, key=lambda trial: order[trial.recipe.id])
        ],
    }


def _gated(
    raw: JSON, templates: Mapping[str, PlannedCandidate], model: ModelSpec, session: Session
) -> PlannedCandidate:
    """Return a finalist as the session gates it."""
    recipe = Recipe(**raw["recipe"])
    template = templates[recipe.framework]
    plain = RuntimeOptions(
        session.settings.threads, session.catalogue.frameworks[recipe.framework].device
    )
    runtime = RuntimeOptions(**raw["runtime"])
    named = template.node.endswith(f"@{template.target.name}")
    return replace(
        template,
        model=model,
        recipe=recipe,
        node=f"{recipe.id}@{template.target.name}" if named else recipe.id,
        runtime=None if runtime == plain else runtime,
        batch=raw["batch"],
    )
