"""The report as a page at the edge: what it needs, what the evidence holds for it, and its files.

The page itself is rendered from records and samples alone, by :mod:`pytest_edgeai.report.html`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import urllib.parse
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytest_edgeai.configuration import Settings
from pytest_edgeai.errors import UserError
from pytest_edgeai.evidence import EvidenceStore
from pytest_edgeai.files import write_atomically
from pytest_edgeai.report.content import CandidateReport, ModelReport, Report
from pytest_edgeai.report.page_content import (
    CandidateFiles,
    Latencies,
    Link,
    PageContent,
    RankedModel,
    rank,
)
from pytest_edgeai.report.wording import candidate_name, decision

if TYPE_CHECKING:
    from pytest_edgeai.report.plots import Plot

INSTALL = 'pip install "pytest-edgeai[html]"'
_FILES = (
    ("timings.npz", "timings"),
    ("quality.npz", "scores of each sample"),
    ("quality.json", "outputs"),
    ("memory.json", "memory"),
    ("precision.json", "precision"),
    ("artifact.json", "artifact"),
    ("stages.json", "stages"),
    ("stability.npz", "turns"),
    ("profile.json", "profile"),
    ("energy.json", "energy"),
)
"""Files of one candidate's evidence that the page names, with what they are."""
MOST_NUMBERS = 14
"""Candidates that the caption of a Pareto plot names."""
_SAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Picture:
    """A plot that was written beside the page.

    Attributes:
        title: what it shows.
        path: its file.
        caption: what has to be known to read it; may be empty.
    """

    title: str
    path: Path
    caption: str = ""


def check_page(settings: Settings) -> None:
    """Refuse a page that could not be drawn, before anything runs.

    Raises:
        UserError: the plotting library is not installed.
    """
    if settings.html is not None and importlib.util.find_spec("matplotlib") is None:
        raise UserError(
            "the page is drawn by matplotlib, which is not installed",
            where=settings.where("html"),
            advice=f"Run: {INSTALL}",
        )


def write_page(report: Report, path: Path) -> tuple[Picture, ...]:
    """Write the page and, beside it, its plots for a pull request.

    Of each model these are its Pareto front and the gates of its recommended candidate, or else of
    the one that is nearest to shipping. A path that is no regular file gets the page alone.

    Args:
        report: the finished session.
        path: the file of the page.

    Returns:
        The plots, in the order of the models.

    Raises:
        UserError: one of the files cannot be written.
    """
    # Matplotlib takes a second to import, which only those pay who want a page. What it warns of
    # while it is imported is no matter of the user's tests, which may make errors of warnings.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytest_edgeai.report.html import render_html

    evidence = report.evidence_directory
    content = PageContent(
        report,
        {
            (model.name, candidate.target, candidate.id): _files(
                evidence, model, candidate, path.parent
            )
            for model in report.models
            for candidate in model.candidates
        },
        Link(evidence.as_posix(), _href(evidence, path.parent)) if evidence.is_dir() else None,
    )
    write_atomically(path, render_html(content))
    if path.exists() and not path.is_file():
        return ()
    pictures = []
    for name, title, plot, caption in _plots(report):
        place = path.with_name(f"{path.stem}-{name}.svg")
        write_atomically(place, plot.standalone())
        pictures.append(Picture(title, place, caption))
    return tuple(pictures)


def _plots(report: Report) -> Iterator[tuple[str, str, Plot, str]]:
    """Yield the plots for a pull request: name of the file, title, plot, caption."""
    from pytest_edgeai.report.html_model import pareto_of
    from pytest_edgeai.report.plots_gates import gates_plot

    taken: set[str] = set()
    for number, model in enumerate(report.models):
        name = _SAFE.sub("-", model.name).strip("-.") or "model"
        if name.lower() in taken:
            name = f"{name}-{number + 1}"
        taken.add(name.lower())
        ranked = rank(model)
        if not ranked.order:
            continue
        candidate = model.candidates[ranked.order[0]]
        gates = gates_plot("gates", decision(model, candidate).sentence, candidate)
        if gates is not None:
            title = f"Gates of {candidate_name(model, candidate)}"
            yield f"{name}-gates", title, gates, ""
        pareto = pareto_of(number, ranked)
        if pareto is not None:
            yield f"{name}-pareto", pareto.title, pareto, _numbers(ranked)


def _numbers(ranked: RankedModel) -> str:
    """Return which candidates the numbers in a Pareto plot stand for, the foremost of them."""
    candidates = ranked.report.candidates
    shown = sorted(ranked.order[:MOST_NUMBERS])
    named = ", ".join(f"{index + 1} {candidates[index].id}" for index in shown)
    more = f" and {len(candidates) - len(shown)} more" if len(shown) < len(candidates) else ""
    return f"{named}{more}"


def _href(path: Path, start: Path) -> str:
    """Return the address of a file from a page in ``start``: relative where there is a way."""
    try:
        relative = os.path.relpath(path, start)
    except ValueError:  # another drive of Windows
        return path.absolute().as_uri()
    return urllib.parse.quote(Path(relative).as_posix())


def picture_links(pictures: tuple[Picture, ...], start: Path) -> tuple[tuple[str, str, str], ...]:
    """Return title, address and caption of each plot, as seen from a file in ``start``."""
    return tuple(
        (picture.title, _href(picture.path, start), picture.caption) for picture in pictures
    )


def _files(
    evidence: Path, model: ModelReport, candidate: CandidateReport, start: Path
) -> CandidateFiles:
    place = evidence / model.name / candidate.recipe.id
    verdicts = evidence / model.name / candidate.id / "verdicts"
    return CandidateFiles(
        _latencies(EvidenceStore(evidence), f"{model.name}/{candidate.recipe.id}/timings"),
        tuple(_links(place, verdicts, start)),
    )


def _links(place: Path, verdicts: Path, start: Path) -> Iterator[Link]:
    for name, title in _FILES:
        if (place / name).is_file():
            yield Link(title, _href(place / name, start))
    for verdict in sorted(verdicts.glob("*.json")):
        yield Link(f"verdict {verdict.stem}", _href(verdict, start))


def _latencies(evidence: EvidenceStore, name: str) -> Latencies | None:
    """Return the wall times of both models; ``None`` where they were not timed."""
    arrays = evidence.read_arrays(name)
    if arrays is None:
        return None
    sides = [arrays[f"{side}_wall_ns"].astype(np.int64) for side in ("baseline", "candidate")]
    timed = [side[side > 0] for side in sides]
    return Latencies(*timed) if all(len(side) for side in timed) else None
