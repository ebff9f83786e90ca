"""What baseline and candidate took in energy, block by block, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.samples import BoolArray, Int64Array

FloatArray: TypeAlias = NDArray[np.float64]

ENERGY_SOURCES = ("RAPL", "NVML", "powermetrics", "battery", "CPU time")
"""What energy is read from; the last one is an estimate and no counter."""


@dataclass(frozen=True)
class EnergyMethod:
    """Where the joules of a measurement come from.

    Attributes:
        sources: counters that were read, of :data:`ENERGY_SOURCES`.
        measured: whether they are counters of this machine; an estimate is none.
        domains: name of each counter to the file or device it was read from.
        what: in one sentence, what the figure is.
        not_measured: why it is no measurement; empty where it is one.
        unreadable: counters that could not be read, and why, one sentence each.
        update_s: time between two changes of the slowest counter; 0 for an estimate.
        block_s: length of a block.
        watts_per_core: power that an estimate multiplies CPU time with; ``None`` for counters.
        samples_per_call: inferences that one call answers.
    """

    sources: tuple[str, ...]
    measured: bool
    domains: Mapping[str, str]
    what: str
    not_measured: str = ""
    unreadable: tuple[str, ...] = ()
    update_s: float = 0.0
    block_s: float = 0.0
    watts_per_core: float | None = None
    samples_per_call: int = 1


@dataclass(frozen=True, eq=False)
class EnergySamples:
    """Pairs of blocks of baseline and candidate, in the order of measuring.

    Attributes:
        baseline_joules: energy of each of the baseline's blocks, float64 of shape ``(pairs,)``.
        candidate_joules: likewise, of the candidate's.
        baseline_calls: calls of each block, int64 of shape ``(pairs,)``.
        candidate_calls: likewise.
        baseline_wall_s: how long each block lasted, float64 of shape ``(pairs,)``.
        candidate_wall_s: likewise.
        candidate_first: whether the candidate's block came first, bool of shape ``(pairs,)``.
        idle_watts: power while neither ran, float64, one per idle block; empty for an estimate.
        method: where the joules come from.
    """

    baseline_joules: FloatArray
    candidate_joules: FloatArray
    baseline_calls: Int64Array
    candidate_calls: Int64Array
    baseline_wall_s: FloatArray
    candidate_wall_s: FloatArray
    candidate_first: BoolArray
    idle_watts: FloatArray
    method: EnergyMethod

    @property
    def pairs(self) -> int:
        """Number of pairs of blocks."""
        return len(self.baseline_joules)


@dataclass(frozen=True)
class CarbonFactor:
    """What a kilowatt-hour emits in a region.

    Attributes:
        region: as the setting names it (``DEU``, ``USA/california``, ``gcp/europe-west1``).
        name: for people (``Germany``).
        grams_per_kwh: grams of CO2-equivalent.
        source: where the factor comes from, with its version.
    """

    region: str
    name: str
    grams_per_kwh: float
    source: str


@dataclass(frozen=True)
class EnergyReport:
    """Energy per inference of both models, for the report.

    Attributes:
        baseline_joules: median energy of one of the baseline's inferences.
        candidate_joules: likewise, of the candidate's.
        ratio: median over the pairs of candidate over baseline.
        interval: of the ratio; an open side is ``None``.
        confidence: two-sided, of the interval.
        pairs: pairs of blocks.
        idle_watts: median power while neither ran; ``None`` where it was not measured.
        above_idle_ratio: the ratio with the idle power subtracted from both sides; ``None`` where
            that leaves nothing, or was not measured.
        method: where the joules come from; an estimate says so.
        carbon: what a kilowatt-hour emits; ``None`` where no region is set.
        baseline_grams_per_million: grams of CO2-equivalent of a million of the baseline's
            inferences; ``None`` without a region.
        candidate_grams_per_million: likewise, of the candidate's.
    """

    baseline_joules: float
    candidate_joules: float
    ratio: float
    interval: tuple[float | None, float | None]
    confidence: float
    pairs: int
    method: EnergyMethod
    idle_watts: float | None = None
    above_idle_ratio: float | None = None
    carbon: CarbonFactor | None = None
    baseline_grams_per_million: float | None = None
    candidate_grams_per_million: float | None = None


def method_from_json(record: Mapping[str, Any]) -> EnergyMethod:
    """Return the record that :func:`~pytest_edgeai.records.to_json` was given."""
    lists = {name: tuple(record[name]) for name in ("sources", "unreadable")}
    return EnergyMethod(**{**record, **lists})


def energy_from_json(record: Mapping[str, Any] | None) -> EnergyReport | None:
    """Return the record that :func:`~pytest_edgeai.records.to_json` was given, or ``None``."""
    if record is None:
        return None
    values = dict(record)
    values["interval"] = tuple(values["interval"])
    values["method"] = method_from_json(values["method"])
    if values["carbon"] is not None:
        values["carbon"] = CarbonFactor(**values["carbon"])
    return EnergyReport(**values)
