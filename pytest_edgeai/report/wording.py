"""The words that every report uses for an outcome and a decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_edgeai.judge.verdict import worst_by_gate
from pytest_edgeai.records import Outcome, Verdict
from pytest_edgeai.report.content import CandidateReport, HostReport, ModelReport, Report
from pytest_edgeai.report.ranking import may_be_promoted

OUTCOME_WORDS: Mapping[Outcome, str] = {
    "pass": "pass",
    "fail": "FAIL",
    "inconclusive": "inconclusive",
    "proxy": "proxy",
    "not_applicable": "not applicable",
    "error": "ERROR",
}
NOT_RUN = "not run"


@dataclass(frozen=True)
class Decision:
    """What the session decided about one candidate.

    Attributes:
        ship: whether the candidate may be promoted.
        sentence: the decision in one line.
    """

    ship: bool
    sentence: str


@dataclass(frozen=True)
class Remark:
    """Why gates of one candidate did not pass; gates that share a cause share a remark.

    Attributes:
        gates: names of the gates.
        title: the gates for a reader.
        outcome: their outcome.
        reason: why.
        advice: what to do next; may be empty.
        known_failure: the reason that the manifest states for expecting it; may be empty.
    """

    gates: tuple[str, ...]
    title: str
    outcome: Outcome
    reason: str
    advice: str
    known_failure: str


def candidate_name(model: ModelReport, candidate: CandidateReport) -> str:
    """Return how a candidate is called: model and id, with the target where ids repeat."""
    same = [other for other in model.candidates if other.id == candidate.id]
    where = f" for {candidate.target}" if len(same) > 1 else ""
    return f"{model.name} {candidate.id}{where}"


def _blockers(candidate: CandidateReport) -> str:
    """Return the gates that block promotion with their outcomes."""
    worst = worst_by_gate(candidate.verdicts)
    words = {
        gate: worst[gate].outcome.replace("_", " ") if gate in worst else NOT_RUN
        for gate in candidate.promotion_blocked_by
    }
    if len(words) > 2 and len(set(words.values())) == 1 and set(words) == _every_gate(candidate):
        return f"all {len(words)} gates ({next(iter(words.values()))})"
    return ", ".join(f"{gate} ({word})" for gate, word in words.items())


def _every_gate(candidate: CandidateReport) -> set[str]:
    return {*candidate.required_gates, *(verdict.gate for verdict in candidate.verdicts)}


def uniform(candidate: CandidateReport) -> tuple[str, Outcome | None] | None:
    """Return ``("all 7 gates", outcome)`` where one row says it all, else ``None``.

    That is where three gates or more have the same outcome and none observed anything; an outcome
    of ``None`` means that none ran.
    """
    worst = worst_by_gate(candidate.verdicts)
    every = _every_gate(candidate)
    if len(every) < 3:
        return None
    if not worst:
        return f"all {len(every)} gates", None
    outcomes = {verdict.outcome for verdict in worst.values()}
    unseen = all(verdict.observed is None for verdict in worst.values())
    if set(worst) != every or len(outcomes) > 1 or not unseen:
        return None
    return f"all {len(every)} gates", outcomes.pop()


def decision(model: ModelReport, candidate: CandidateReport) -> Decision:
    """Return what was decided about ``candidate``."""
    name = candidate_name(model, candidate)
    if may_be_promoted(candidate):
        done = "was promoted" if candidate.promoted else "may be promoted"
        return Decision(True, f"SHIP: {name} {done}")
    if candidate.unavailable:
        return Decision(False, f"DO NOT SHIP: {name} was not made: {candidate.unavailable}")
    if candidate.promotion_blocked_by:
        return Decision(False, f"DO NOT SHIP: {name} is blocked by {_blockers(candidate)}")
    if candidate.artifact is None:
        return Decision(False, f"DO NOT SHIP: {name} has no artifact")
    return Decision(False, f"DO NOT SHIP: {name} has no required gate, so nothing is known of it")


def remarks(candidate: CandidateReport) -> tuple[Remark, ...]:
    """Return why each gate without a pass did not pass, in the order of the gates."""
    grouped: dict[tuple[Outcome, str, str, str], list[str]] = {}
    for gate, verdict in worst_by_gate(candidate.verdicts).items():
        if verdict.outcome != "pass":
            known = candidate.known_failures.get(gate, "")
            key = (verdict.outcome, verdict.reason, verdict.advice, known)
            grouped.setdefault(key, []).append(gate)
    every = _every_gate(candidate)

    def title(gates: list[str]) -> str:
        if len(gates) > 2 and set(gates) == every:
            return f"all {len(gates)} gates"
        return ", ".join(gates)

    return tuple(
        Remark(tuple(gates), title(gates), outcome, reason, advice, known)
        for (outcome, reason, advice, known), gates in grouped.items()
    )


def headline(report: Report) -> str:
    """Return the decision about the whole session in a few words."""
    every = [candidate for model in report.models for candidate in model.candidates]
    ships = sum(map(may_be_promoted, every))
    if not ships:
        return "Do not ship"
    if ships == len(every) and all(model.candidates for model in report.models):
        return "Ship"
    return f"Ship {ships} of {len(every)} {'candidate' if len(every) == 1 else 'candidates'}"


def top_advice(candidate: CandidateReport) -> str:
    """Return the most promising remedy with its measured cause; empty where there is none."""
    if not candidate.advice:
        return ""
    first = candidate.advice[0]
    return f"{first.remedy} ({first.cause})" if first.cause else first.remedy


def tool_versions(report: Report) -> dict[str, set[str]]:
    """Return the tools that made the candidates, with every version that was used."""
    versions: dict[str, set[str]] = {"pytest-edgeai": {report.tool_version}}
    for model in report.models:
        for candidate in model.candidates:
            made = candidate.artifact.versions if candidate.artifact else {}
            for tool, version in made.items():
                versions.setdefault(tool, set()).add(version)
    return versions


def making_sentence(candidate: CandidateReport) -> str:
    """Return what the framework reported while it made the artifact; empty where it did not."""
    if candidate.artifact is None or not candidate.artifact.log:
        return ""
    return f"made: {'; '.join(candidate.artifact.log)}"


def host_sentence(host: HostReport) -> str:
    """Return the measuring host in one line."""
    facts = host.facts
    cores = f"{facts.logical_cores} core" + ("" if facts.logical_cores == 1 else "s")
    parts = (
        facts.cpu_model or facts.cpu_vendor or facts.architecture or "unknown processor",
        facts.architecture if facts.cpu_model or facts.cpu_vendor else "",
        cores,
        f"{facts.memory_bytes / 2**30:.3g} GiB" if facts.memory_bytes else "",
        facts.system,
        facts.virtualization,
    )
    return ", ".join(part for part in parts if part)


def target_sentence(host: HostReport) -> str:
    """Return how the host stands to the target: of its kind, or a proxy and why."""
    if not host.proxy:
        return f"target {host.target}: this host is of its kind"
    why = f": {host.proxy_reason}" if host.proxy_reason else ""
    return f"target {host.target}: this host is a proxy{why}"


def interval_title(verdicts: Iterable[Verdict]) -> str:
    """Return the heading of the intervals: ``95% interval`` where all have that confidence."""
    levels = {v.confidence for v in verdicts if v.interval is not None}
    level = levels.pop() if len(levels) == 1 else None
    return f"{level * 100:.4g}% interval" if level is not None else "interval"
