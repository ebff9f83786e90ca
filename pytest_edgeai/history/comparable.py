"""What keeps the two sides of one comparison, or of two sessions, from being compared."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.history.records import Environment, differences
from pytest_edgeai.records import JSON


def runtime_conflict(
    candidate: FrameworkDescriptor,
    baseline: FrameworkDescriptor,
    candidate_versions: Mapping[str, str],
    baseline_versions: Mapping[str, str],
) -> str:
    """Return how the versions of a runtime that both sides run in differ; empty where they agree.

    Frameworks in interpreters of their own can share a runtime, as Olive and ONNX Runtime do. A
    framework's runtime is the first of its distributions; the others only make models.

    Args:
        candidate: the candidate's framework.
        baseline: the baseline's.
        candidate_versions: distribution name to version in the candidate's interpreter.
        baseline_versions: likewise in the baseline's.
    """
    shared = set(candidate.distributions) & set(baseline.distributions)
    for name in sorted(shared & {candidate.distributions[0], baseline.distributions[0]}):
        mine, other = candidate_versions.get(name), baseline_versions.get(name)
        if mine is not None and other is not None and mine != other:
            return f"{name} is {other} for {baseline.name} and {mine} for {candidate.name}"
    return ""


def stored_refusal(here: Environment, stored: JSON, across: Collection[str] = ()) -> str:
    """Return why a stored measurement is not compared with one of this session; empty if it is.

    Args:
        here: where this session measures.
        stored: an :class:`~pytest_edgeai.history.records.Environment` in JSON, as it was stored.
        across: what may differ: ``host``, ``versions`` or ``threads``.
    """
    try:
        there = Environment(dict(stored["host"]), dict(stored["versions"]), int(stored["threads"]))
    except (KeyError, TypeError, ValueError):
        return "where it was measured is not known"
    return ", ".join(differences(here, there, across))
