"""``edge_compare``: judge a gate of a candidate, and let its verdict decide the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_edgeai.errors import UserError
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import JSON, Verdict, to_json
from pytest_edgeai.thresholds import marker_limit, unknown_gate
from pytest_edgeai.verdicts import reach_verdict
from pytest_edgeai.workbench import Workbench

VERDICTS = pytest.StashKey[list[JSON]]()
"""The verdicts that a test reached, as plain JSON."""


class EdgeCompare:
    """Compares one candidate with its baseline; call it with the name of a gate."""

    def __init__(
        self,
        bench: Workbench,
        candidate: PlannedCandidate,
        running: Callable[[], pytest.Item | None],
    ) -> None:
        """Compare ``candidate``.

        Args:
            bench: makes and measures.
            candidate: what is compared.
            running: returns the test that is running, whose marker may set a limit and which keeps
                the verdicts for the reports.
        """
        self._bench = bench
        self._candidate = candidate
        self._running = running

    def __call__(self, gate: str, **limit: float) -> Verdict:
        """Judge ``gate`` and let its verdict decide the test.

        Args:
            gate: name of a gate.
            limit: at most one of ``at_least``, ``more_than`` and ``at_most``, as the gate has it.

        Returns:
            The verdict, which is then a pass.

        Raises:
            pytest.fail.Exception: ``fail``, ``error`` or, by default, ``inconclusive``.
            pytest.skip.Exception: ``proxy``, ``not_applicable`` or, where the session says so,
                ``inconclusive``.
            UserError: no such gate, or a limit that it does not have.
        """
        __tracebackhide__ = True
        verdict = self.verdict(gate, **limit)
        tail = verdict.details.get("output_tail")
        enforce(
            verdict,
            inconclusive=self._bench.session.settings.inconclusive,
            tail_shown_by=self._bench.tail_shown_by(str(tail), gate) if tail else gate,
        )
        return verdict

    def verdict(self, gate: str, **limit: float) -> Verdict:
        """Judge ``gate`` and return the verdict, whatever it is.

        Raises:
            UserError: no such gate, or a limit that it does not have.
        """
        __tracebackhide__ = True
        gates = self._bench.session.catalogue.gates
        if gate not in gates:
            raise unknown_gate(gate, gates, "edge_compare")
        marker = marker_limit(gates[gate], limit, "edge_compare")
        item = self._running()
        if marker is None and item is not None:
            for mark in item.iter_markers("edge_gate"):
                name, limit_of_mark = marker_overrides(mark, gates, item.nodeid)
                if name == gate and marker is None:
                    marker = limit_of_mark
        if self._candidate.unavailable:
            refuse(self._candidate)
        verdict = reach_verdict(self._bench, self._candidate, gate, marker=marker)
        if item is not None:
            keep_verdict(item, self._candidate, verdict)
        return verdict


def refuse(candidate: PlannedCandidate) -> None:
    """Skip the test of a candidate whose framework is absent; fail it where the user named it."""
    if candidate.demanded:
        pytest.fail(candidate.unavailable, pytrace=False)
    pytest.skip(candidate.unavailable)


def enforce(verdict: Verdict, *, inconclusive: str, tail_shown_by: str) -> None:
    """Let a verdict decide the test that asked for it.

    Args:
        verdict: what was decided.
        inconclusive: ``fail`` or ``skip``.
        tail_shown_by: the gate whose test shows the worker's last output.

    Raises:
        pytest.fail.Exception: ``fail``, ``error``, or ``inconclusive`` where that fails.
        pytest.skip.Exception: ``proxy``, ``not_applicable``, or ``inconclusive`` where that skips.
    """
    if verdict.outcome == "pass":
        return
    text = describe(verdict, tail_shown_by=tail_shown_by)
    if verdict.outcome in ("proxy", "not_applicable") or (
        verdict.outcome == "inconclusive" and inconclusive == "skip"
    ):
        pytest.skip(text)
    pytest.fail(text, pytrace=False)


def describe(verdict: Verdict, *, tail_shown_by: str) -> str:
    """Return the verdict for a test report: what, why, and what to do.

    The worker's last output stands there once: the other gates that it explains name that one.
    """
    lines = [f"{verdict.gate}: {verdict.outcome.replace('_', ' ')}. {verdict.reason}"]
    if verdict.advice:
        lines.append(verdict.advice)
    tail = verdict.details.get("output_tail")
    if tail and tail_shown_by != verdict.gate:
        lines[-1] += f" (the worker's last output: see {tail_shown_by})"
    elif tail:
        lines += ["the worker's last output:", *(f"  {line}" for line in str(tail).splitlines())]
    return "\n".join(lines)


def keep_verdict(item: pytest.Item, candidate: PlannedCandidate, verdict: Verdict) -> None:
    """Keep a verdict with its test: for our reports, and as properties for JUnit."""
    item.stash.setdefault(VERDICTS, []).append(
        {"model": candidate.model.name, "node": candidate.node, "verdict": to_json(verdict)}
    )
    low, high = verdict.interval or (None, None)
    figures = {
        "model": candidate.model.name,
        "candidate": candidate.node,
        "target": candidate.target.name,
        "gate": verdict.gate,
        "outcome": verdict.outcome,
        "observed": verdict.observed,
        "interval_low": low,
        "interval_high": high,
        "confidence": verdict.confidence,
        "threshold": verdict.threshold,
        "relation": verdict.relation,
        "unit": verdict.unit,
        "samples": verdict.samples,
        "reason": verdict.reason,
    }
    item.user_properties[:] = [p for p in item.user_properties if not p[0].startswith("edge_")]
    item.user_properties += [
        (f"edge_{key}", value) for key, value in figures.items() if value is not None
    ]


def marker_overrides(marker: pytest.Mark, gates: Any, where: str) -> tuple[str, float | None]:
    """Return the gate that an ``edge_gate`` marker names, and the limit it sets.

    Raises:
        UserError: no such gate, or arguments that it does not have.
    """
    if len(marker.args) != 1 or not isinstance(marker.args[0], str):
        raise UserError(
            "edge_gate takes the name of one gate", where=where, allowed='edge_gate("speedup")'
        )
    name = marker.args[0]
    if name not in gates:
        raise unknown_gate(name, gates, f"{where} edge_gate")
    return name, marker_limit(gates[name], marker.kwargs, f"{where} edge_gate")
