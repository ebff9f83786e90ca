"""Profiles from their JSON form, as the evidence keeps them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pytest_edgeai.profile_records import (
    Bottleneck,
    CandidateProfile,
    HostPeaks,
    OperatorTime,
    Profile,
    RuntimeCost,
)
from pytest_edgeai.records import RuntimeOptions

_COUNTS = ("minor_faults", "major_faults", "voluntary_switches", "involuntary_switches")


def profile_from_json(raw: Mapping[str, Any]) -> CandidateProfile:
    """Return the record that :func:`~pytest_edgeai.records.to_json` was given."""
    return CandidateProfile(
        baseline=_side(raw["baseline"]),
        candidate=_side(raw["candidate"]),
        peaks=peaks_from_json(raw["peaks"]),
        baseline_bottleneck=Bottleneck(**raw["baseline_bottleneck"]),
        candidate_bottleneck=Bottleneck(**raw["candidate_bottleneck"]),
    )


def peaks_from_json(raw: Mapping[str, Any]) -> HostPeaks:
    """Return the record that :func:`~pytest_edgeai.records.to_json` was given."""
    values = dict(raw)
    values["method"] = tuple(values["method"])
    by_size = {int(size): rate for size, rate in values["bytes_per_s_by_size"].items()}
    values["bytes_per_s_by_size"] = dict(sorted(by_size.items()))
    values["runtime_costs"] = {
        name: RuntimeCost(**cost) for name, cost in values["runtime_costs"].items()
    }
    return HostPeaks(**values)


def _side(raw: Mapping[str, Any]) -> Profile:
    values = dict(raw)
    values["runtime"] = RuntimeOptions(**values["runtime"])
    values["operators"] = tuple(OperatorTime(**each) for each in values["operators"])
    # JSON has no NaN, which stands for what the system does not count.
    values |= {name: math.nan if values[name] is None else values[name] for name in _COUNTS}
    return Profile(**values)
