"""What the page shows beside the report, and how much of it: all of it given, nothing read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.report.content import CandidateReport, ModelReport, Report
from pytest_edgeai.report.quantities import format_quantity
from pytest_edgeai.report.ranking import may_be_promoted, pareto_front, recommended

QUANTILES = (0.5, 0.95, 0.99)
MOST_DETAILED = 20
"""Candidates of one page whose gates are shown one by one; the others stand in the tables."""
MOST_DRAWN = 8
"""Candidates of one page that have plots of their own."""
MOST_BYTES = 2_000_000
"""Size that a page stays below: where its texts are long, fewer candidates are shown in detail."""

Key: TypeAlias = tuple[str, str, str]
"""Model name, target name, candidate id."""
Place: TypeAlias = tuple[int, int]
"""Where a candidate stands: index of its model, index in it."""


@dataclass(frozen=True)
class Link:
    """A file beside the page.

    Attributes:
        title: what it is.
        href: its address, relative to the page where that is possible.
    """

    title: str
    href: str


@dataclass(frozen=True, eq=False)
class Latencies:
    """Wall times of interleaved calls.

    Attributes:
        baseline_ns: of the baseline, shape ``(rounds,)``, at least one, all positive.
        candidate_ns: of the candidate, likewise.
    """

    baseline_ns: NDArray[np.int64]
    candidate_ns: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CandidateFiles:
    """What lies in the evidence of one candidate.

    Attributes:
        latencies: its timings; ``None`` where there are none.
        links: its files.
    """

    latencies: Latencies | None = None
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class PageContent:
    """Everything that a page is rendered from.

    Attributes:
        report: the session.
        files: what the evidence of each candidate holds.
        evidence: the directory of the evidence; ``None`` where it cannot be linked.
    """

    report: Report
    files: Mapping[Key, CandidateFiles] = field(default_factory=dict)
    evidence: Link | None = None

    def of(self, model: ModelReport, candidate: CandidateReport) -> CandidateFiles:
        """Return what the evidence of a candidate holds."""
        key = (model.name, candidate.target, candidate.id)
        return self.files.get(key, CandidateFiles())


@dataclass(frozen=True)
class RankedModel:
    """One model with what its candidates are to each other.

    Attributes:
        report: the model.
        front: indices of the candidates on the Pareto front; names can repeat.
        best: index of the recommended candidate; ``None`` for none.
        order: indices of all candidates, those first that a reader wants to see first.
    """

    report: ModelReport
    front: frozenset[int]
    best: int | None
    order: tuple[int, ...]


def rank(model: ModelReport) -> RankedModel:
    """Return a model with its front, its recommendation and the order of its candidates.

    The order: the recommended one, the front, what may be promoted, then what fewest gates block.
    """
    candidates = model.candidates
    index = {id(candidate): number for number, candidate in enumerate(candidates)}
    front = frozenset(index[id(each)] for each in pareto_front(candidates))
    chosen = recommended(candidates, model.weights)
    best = index[id(chosen)] if chosen is not None else None
    order = sorted(
        range(len(candidates)),
        key=lambda number: (
            number != best,
            number not in front,
            not may_be_promoted(candidates[number]),
            candidates[number].artifact is None,
            len(candidates[number].promotion_blocked_by),
            number,
        ),
    )
    return RankedModel(model, front, best, tuple(order))


def choose(models: Sequence[RankedModel], most: int) -> frozenset[Place]:
    """Return the places of at most ``most`` candidates: of each model in turn the next in order."""
    turns = sorted(
        (rank_in_model, number, index)
        for number, model in enumerate(models)
        for rank_in_model, index in enumerate(model.order)
    )
    return frozenset((number, index) for _, number, index in turns[:most])


def quantile_rows(latencies: Latencies) -> list[tuple[str, str, str]]:
    """Return what was measured as rows: name of the figure, the baseline's, the candidate's."""
    sides = (latencies.baseline_ns, latencies.candidate_ns)

    def row(name: str, values: Sequence[float]) -> tuple[str, str, str]:
        return name, format_quantity(values[0], "ns"), format_quantity(values[1], "ns")

    return [
        row("fastest", [float(side.min()) for side in sides]),
        *(
            row(f"p{round(100 * share)}", [float(np.quantile(side, share)) for side in sides])
            for share in QUANTILES
        ),
        row("slowest", [float(side.max()) for side in sides]),
        ("calls", f"{len(sides[0]):,}", f"{len(sides[1]):,}"),
    ]
