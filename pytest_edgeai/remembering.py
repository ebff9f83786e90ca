"""The history at the edge: what a finished session leaves there, and what a reader is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pytest_edgeai import __version__
from pytest_edgeai.configuration import Settings
from pytest_edgeai.errors import EdgeAIError, unknown_word
from pytest_edgeai.history.records import (
    CandidateKey,
    Environment,
    Row,
    candidate_key,
    host_identity,
    rows_of,
)
from pytest_edgeai.history.render import NARROWEST, render_history
from pytest_edgeai.history.store import FILE_NAME, HistoryStore
from pytest_edgeai.plan.model_plan import ALL_TARGETS
from pytest_edgeai.plan.selection import ALL, PRIMARY, PlannedCandidate
from pytest_edgeai.records import to_json
from pytest_edgeai.report.content import Report
from pytest_edgeai.session import Installations, Session


def history_of(cache_directory: Path) -> HistoryStore:
    """Return the history of the sessions that use a cache directory."""
    return HistoryStore(cache_directory / FILE_NAME)


def remember(session: Session, report: Report, bundles: Mapping[CandidateKey, Path]) -> str:
    """Store what a session decided; return why it could not be stored, or an empty string.

    A session that decided nothing leaves nothing.

    Args:
        session: the session.
        report: its report, promotions included.
        bundles: where promoted candidates lie.
    """
    try:
        rows = rows_of(
            report,
            session.run_id,
            environments_of(session, report),
            report_path=session.settings.json,
            bundles=bundles,
        )
        history_of(session.cache_directory).append(rows)
    except EdgeAIError as error:
        return f"this session is not in the history: {error}"
    return ""


def environments_of(session: Session, report: Report) -> dict[CandidateKey, Environment]:
    """Return where each candidate that has a verdict was measured.

    Raises:
        UserError: an interpreter that the manifest names cannot be used.
    """
    planned = {(c.model.name, c.target.name, c.node): c for c in session.candidates}
    return {
        key: environment_of(session, planned[key])
        for model in report.models
        for candidate in model.candidates
        if candidate.verdicts and (key := candidate_key(model, candidate)) in planned
    }


def environment_of(session: Session, candidate: PlannedCandidate) -> Environment:
    """Return where a candidate is measured in this session.

    Raises:
        UserError: an interpreter that the manifest names cannot be used.
    """
    return Environment(
        host_identity(to_json(session.host)),
        tool_versions(
            session.installations, candidate.recipe.framework, candidate.baseline_framework
        ),
        candidate.threads(session.settings.threads),
    )


def tool_versions(
    installations: Installations, framework: str, baseline_framework: str
) -> dict[str, str]:
    """Return the version of every tool that a comparison depends on.

    Where the two frameworks have one distribution in different versions, in interpreters of their
    own, the baseline's is named apart.
    """
    mine, other = installations.probe(framework), installations.probe(baseline_framework)
    versions = {
        "pytest-edgeai": __version__,
        "python": mine.python_version,
        **mine.versions,
    }
    for name, version in {"python": other.python_version, **other.versions}.items():
        if versions.setdefault(name, version) != version:
            versions[f"{name} (baseline)"] = version
    return versions


def history_lines(
    settings: Settings, cache_directory: Path, width: int, *, ascii_only: bool
) -> list[str]:
    """Return the stored history for a terminal.

    ``--edge-model``, ``--edge-target`` and ``--edge-framework`` choose what is shown; a target that
    only the manifest sets does not, because it says what is gated by default.

    Raises:
        UserError: the history cannot be read, or a name does not stand in it.
    """
    store = history_of(cache_directory)
    rows = store.read()
    if rows:
        rows = _chosen(rows, settings)
    return render_history(
        rows,
        max(NARROWEST, width),
        place=_readable(store.path),
        ascii_only=ascii_only,
        across=settings.across,
    )


def _chosen(rows: Sequence[Row], settings: Settings) -> list[Row]:
    chosen = list(rows)
    for name, field in (("model", "model"), ("target", "target"), ("framework", "framework")):
        wanted: tuple[str, ...] = getattr(settings, name)
        if settings.origins[name].endswith(".toml") or wanted in ((), (ALL_TARGETS,), (PRIMARY,)):
            continue
        if wanted == (ALL,):
            continue
        known = sorted({getattr(row, field) for row in rows})
        _check_known(wanted, known, f"{name} of the history", settings.where(name))
        chosen = [row for row in chosen if getattr(row, field) in wanted]
    return chosen


def _check_known(names: Iterable[str], known: Sequence[str], kind: str, where: str) -> None:
    for name in names:
        if name not in known:
            raise unknown_word(kind, name, known, where=where)


def _readable(path: Path) -> str:
    """Return a path relative to the current directory where it lies below it."""
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):
        return path.as_posix()
