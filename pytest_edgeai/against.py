"""``--edge-against``: find the promoted artifact that a candidate is compared with, and verify it.

Stored figures decide nothing: they only choose which artifact is measured anew, on this host and in
this session, in turns with the candidate. What cannot be found, verified or run is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_edgeai.digests import digest_files
from pytest_edgeai.errors import MeasurementError, UserError
from pytest_edgeai.history.promoted import (
    Promoted,
    fastest,
    latest,
    promoted_in_report,
    promoted_in_rows,
    unlike,
)
from pytest_edgeai.history.records import Environment, Row
from pytest_edgeai.optimize.cache import ArtifactCache
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.promote.names import portable_name
from pytest_edgeai.records import JSON, Artifact, Recipe, artifact_root
from pytest_edgeai.remembering import environment_of, history_of
from pytest_edgeai.session import Session
from pytest_edgeai.workbench import CONVERT, Workbench

_DIGITS = 12
BUNDLE_FILE = "bundle.json"
_ADVICE = "promote one first, in a run without --edge-against"


@dataclass(frozen=True)
class Reference:
    """The promoted artifact that a candidate is compared with.

    Attributes:
        promoted: what was promoted.
        candidate: the candidate with the promoted artifact in the baseline's place.
        differences: what differs between where it was promoted and here.
    """

    promoted: Promoted
    candidate: PlannedCandidate
    differences: tuple[str, ...]


def check_against(path: Path, where: str) -> JSON:
    """Return the JSON report that candidates are compared with.

    Raises:
        UserError: it cannot be read or is no such report.
    """
    try:
        report = json.loads(path.read_text("utf-8"))
        promoted_in_report(report, "", "")
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(
            f'"{path}" cannot be used: {reason}',
            where=where,
            allowed="a JSON report of pytest-edgeai, last, or best",
        ) from None
    return report


def reference_of(bench: Workbench, candidate: PlannedCandidate) -> Reference:
    """Return the promoted artifact that ``candidate`` is compared with in this session.

    Raises:
        EdgeAIError: none was promoted, none can be ranked, its files are gone or changed, or its
            framework cannot run here.
    """
    key = ("reference", candidate.model.name, candidate.node)
    return bench.once(key, lambda: _reference(bench, candidate))


def _reference(bench: Workbench, candidate: PlannedCandidate) -> Reference:
    session = bench.session
    promoted = _chosen(bench, candidate)
    if promoted.framework not in session.catalogue.frameworks:
        raise MeasurementError(
            f"{_called(promoted)} cannot be measured again: {promoted.framework} is not part of "
            "this installation"
        )
    missing = session.installations.missing(promoted.framework)
    if missing:
        raise MeasurementError(f"{_called(promoted)} cannot be measured again: {missing}")
    artifact = _found(session, promoted)
    return Reference(
        promoted,
        replace(
            candidate,
            baseline_framework=promoted.framework,
            baseline_recipe=None,
            reference=artifact,
        ),
        unlike(_here(session, candidate, promoted), promoted.environment),
    )


def _here(session: Session, candidate: PlannedCandidate, promoted: Promoted) -> Environment:
    """Return where what was promoted is measured in this session."""
    if promoted.framework not in session.catalogue.frameworks:
        return environment_of(session, candidate)
    recipe = Recipe(promoted.framework, CONVERT)
    return environment_of(session, replace(candidate, recipe=recipe))


def _chosen(bench: Workbench, candidate: PlannedCandidate) -> Promoted:
    session = bench.session
    against = session.settings.against
    model, target = candidate.model.name, candidate.target.name
    recipe_id = candidate.recipe.id
    if isinstance(against, Path):
        report = bench.once(
            ("reference report",),
            lambda: check_against(against, session.settings.where("against")),
        )
        chosen = latest(promoted_in_report(report, model, target), recipe_id)
        if chosen is None:
            raise MeasurementError(f"{against} promotes no candidate of {model} for {target}")
        return chosen
    store = history_of(session.cache_directory)
    rows: list[Row] = bench.once(("history",), store.read)
    known = promoted_in_rows(rows, model, target)
    if not known:
        raise MeasurementError(
            f"no promoted candidate of {model} for {target} is in {store.path}; {_ADVICE}"
        )
    if against == "last":
        chosen = latest(known, recipe_id)
        assert chosen is not None
        return chosen
    best, refused = fastest(
        known, lambda each: _here(session, candidate, each), session.settings.across
    )
    if best is None:
        raise MeasurementError(
            f"no promoted candidate of {model} for {target} was measured where its speed-up can be "
            f"ranked here: {', '.join(refused)}; name its report, use --edge-against=last, or rank "
            "them all the same with --edge-across"
        )
    return best


def _found(session: Session, promoted: Promoted) -> Artifact:
    """Return the artifact from the first place where its bytes are those that were promoted."""
    looked: list[str] = []
    changed: list[str] = []
    for path in dict.fromkeys(_places(session, promoted)):
        looked.append(str(path))
        if not path.exists():
            continue
        root = artifact_root(path)
        listed = tuple(map(Path, promoted.files)) if str(path) == promoted.path else ()
        files = listed or tuple(sorted(file for file in root.rglob("*") if file.is_file()))
        try:
            sha256 = digest_files(files, root)
        except (OSError, ValueError) as error:
            changed.append(f"{path} cannot be read: {error}")
            continue
        if sha256 == promoted.sha256:
            return Artifact(
                path=path,
                files=files,
                framework=promoted.framework,
                claimed_precision="unknown",
                sha256=sha256,
                size_bytes=sum(file.stat().st_size for file in files),
                key="",
                from_cache=True,
                seconds=0.0,
                versions=promoted.environment.versions,
            )
        changed.append(f"{path} is not what was promoted: its digest is {sha256[:_DIGITS]}")
    if changed:
        raise MeasurementError(f"{_called(promoted)} cannot be measured: {'; '.join(changed)}")
    raise MeasurementError(
        f"{_called(promoted)} is gone: looked for {', '.join(looked) or 'it in the cache'}"
    )


def _places(session: Session, promoted: Promoted) -> Iterator[Path]:
    """Yield what to load where the artifact may lie: cache, bundles, and where it was measured."""
    settings = session.settings
    cache = session.cache_directory / "artifacts"
    yield from ArtifactCache(cache, run_id=session.run_id, refresh=False).paths_of(promoted.sha256)
    bundles = [Path(promoted.bundle)] if promoted.bundle else []
    if isinstance(settings.against, Path):
        bundle = settings.against.resolve().parent.parent.parent
        bundles += [bundle] if (bundle / BUNDLE_FILE).is_file() else []
    if settings.promote is not None:
        home = settings.promote / portable_name(promoted.model) / portable_name(promoted.target)
        # A signed bundle has its certificate's digits behind those of the artifact.
        bundles += sorted(home.glob(f"*/{promoted.sha256[:_DIGITS]}*"))
    yield from map(_in_bundle, bundles)
    path = Path(promoted.path)
    # Without a list of its files everything beside it is read, which is sure to be the artifact's
    # own directory in the cache alone.
    if promoted.files or path.is_relative_to(cache):
        yield path


def _in_bundle(bundle: Path) -> Path:
    """Return what is loaded of a bundle; a file that is missing where it is none."""
    try:
        description: Any = json.loads((bundle / BUNDLE_FILE).read_text("utf-8"))
        # Files of a bundle lie beside each other; "." is the folder.
        return bundle / "artifact" / Path(str(description["artifact"]["main"])).name
    except (OSError, ValueError, KeyError, TypeError):
        return bundle / "artifact" / f"(what {BUNDLE_FILE} names, which is damaged or missing)"


def _called(promoted: Promoted) -> str:
    """Return how a reader recognizes what was promoted."""
    return (
        f"{promoted.recipe_id}, promoted {promoted.created[:10]} "
        f"(artifact {promoted.sha256[:_DIGITS]}),"
    )
