"""What a search of the optimization space tried, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pytest_edgeai.records import JSON, Recipe, RuntimeOptions

DEFAULT_WEIGHTS: Mapping[str, float] = {"speedup": 0.5, "accuracy_retained": 0.3, "memory_cut": 0.2}
"""What each objective counts for where a manifest says nothing; an objective that is not named here
counts for nothing."""

TrialState: TypeAlias = Literal["screened-out", "measured", "finalist", "failed"]


@dataclass(frozen=True)
class Figure:
    """One measured objective with its interval.

    Attributes:
        observed: point estimate.
        low: lower bound; ``None``: open.
        high: upper bound; ``None``: open.
    """

    observed: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Trial:
    """One point of the space.

    Attributes:
        number: its number in the study.
        recipe: what it is made by.
        runtime: how it runs.
        state: how far it came.
        figures: objective name (``speedup``, ``accuracy_retained``, ``memory_cut``,
            ``energy_retained``) to what was measured; on the selection data alone.
        seconds: how long it took.
        reason: why it ended there, in one sentence.
        size_bytes: size of its artifact; 0 where it was not made.
        misses: gates whose threshold its figures do not reach, ``surely`` where the intervals say
            so and ``likely`` where the estimates do.
        batch: samples per call, where that was searched.
    """

    number: int
    recipe: Recipe
    runtime: RuntimeOptions
    state: TrialState
    figures: Mapping[str, Figure]
    seconds: float
    reason: str = ""
    size_bytes: int = 0
    misses: Mapping[str, Literal["likely", "surely"]] = field(default_factory=dict)
    batch: int | None = None


@dataclass(frozen=True)
class SearchReport:
    """One search, for one model and target.

    Attributes:
        study: name of the study in its storage.
        storage: where the study lies, without credentials.
        space: dimension name to its values, as plain JSON.
        trials: every trial, in order.
        finalists: ids of the candidates that met the full gates.
        seconds: time of this session's share.
        ended: why the search ended (``trials``, ``time box``, ``space exhausted``).
        restored: layers that were kept at full precision, by candidate id, most harmful first.
        settings: what the ``[search]`` table said.
    """

    study: str
    storage: str
    space: Mapping[str, JSON]
    trials: tuple[Trial, ...]
    finalists: tuple[str, ...]
    seconds: float
    ended: str
    restored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[str, JSON] = field(default_factory=dict)
