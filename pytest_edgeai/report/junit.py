"""The JUnit report of ``--edge-junit``: one suite per candidate, one test case per gate."""

from __future__ import annotations

import re
from itertools import count
from typing import Literal

from junit_xml import TestCase, TestSuite, to_xml_report_string

from pytest_edgeai.records import Verdict
from pytest_edgeai.report.content import CandidateReport, HostReport, ModelReport, Report
from pytest_edgeai.report.quantities import verdict_estimate, verdict_threshold
from pytest_edgeai.report.ranking import gates_not_run
from pytest_edgeai.report.wording import decision, host_sentence

# https://www.w3.org/TR/xml/#charsets, less the C1 controls that junit-xml removes silently.
_ILLEGAL = re.compile(
    "[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]"
)


def render_junit(report: Report, *, inconclusive: Literal["fail", "skip"] = "fail") -> str:
    """Return the report as JUnit XML in the form that junit-xml writes.

    Args:
        report: the finished session.
        inconclusive: what an inconclusive gate is, as ``--edge-inconclusive`` says.

    Suites are called ``model.target.candidate``; test cases have the gate's name, followed by the
    number of the run where a gate ran more than once: readers drop cases whose names repeat.
    """
    suites = []
    for model in report.models:
        suites += [_suite(report, model, c, inconclusive) for c in model.candidates]
        if model.problem or not model.candidates:
            suites.append(_problem_suite(report, model))
    return str(to_xml_report_string(suites, prettyprint=True, encoding="utf-8"))


def _legal(text: str) -> str:
    """Return ``text`` with what XML 1.0 cannot carry written as escapes."""
    return _ILLEGAL.sub(
        lambda m: m[0].encode("unicode_escape", "backslashreplace").decode("ascii"), text
    )


def _attribute(text: str) -> str:
    """Return ``text`` as one line: XML readers turn line ends in attributes into blanks."""
    return _legal(" ".join(text.split()))


def _unique(gate: str, taken: set[str]) -> str:
    """Return the test case name of ``gate`` that is not in ``taken``, and add it there."""
    name = _attribute(gate)
    runs = (name if run == 1 else f"{name} (run {run})" for run in count(1))
    free = next(candidate for candidate in runs if candidate not in taken)
    taken.add(free)
    return free


def _host_of(report: Report, target: str) -> HostReport | None:
    return next((host for host in report.hosts if host.target == target), None)


def _suite(
    report: Report,
    model: ModelReport,
    candidate: CandidateReport,
    inconclusive: Literal["fail", "skip"],
) -> TestSuite:
    name = _attribute(f"{model.name}.{candidate.target}.{candidate.id}")
    taken: set[str] = set()
    cases = [
        _case(_unique(verdict.gate, taken), name, candidate, verdict, inconclusive)
        for verdict in candidate.verdicts
    ]
    for gate in gates_not_run(candidate):
        case = TestCase(_unique(gate, taken), classname=name)
        if candidate.unavailable and candidate.demanded:
            case.add_failure_info(_attribute(candidate.unavailable), failure_type="unavailable")
        else:
            case.add_skipped_info(_attribute(candidate.unavailable or "did not run"))
        cases.append(case)
    properties = _properties(report, candidate.target) | {
        "model.sha256": model.sha256,
        "decision": decision(model, candidate).sentence,
        "promoted": str(candidate.promoted).lower(),
    }
    if candidate.artifact is not None:
        made = candidate.artifact
        properties["artifact.sha256"] = made.sha256
        properties["artifact.size_bytes"] = str(made.size_bytes)
        for tool, version in made.versions.items():
            properties[f"version.{tool}"] = version
    return TestSuite(
        name,
        cases,
        hostname=_hostname(report, candidate.target),
        timestamp=_timestamp(report),
        properties={_attribute(k): _attribute(v) for k, v in properties.items()},
    )


def _problem_suite(report: Report, model: ModelReport) -> TestSuite:
    name = _attribute(model.name)
    case = TestCase("candidates", classname=name)
    problem = model.problem or "no candidate was planned for this model"
    case.add_error_info(_attribute(problem), _legal(problem), "error")
    target = report.hosts[0].target if report.hosts else ""
    properties = {_attribute(k): _attribute(v) for k, v in _properties(report, target).items()}
    return TestSuite(
        name,
        [case],
        hostname=_hostname(report, target),
        timestamp=_timestamp(report),
        properties=properties,
    )


def _hostname(report: Report, target: str) -> str | None:
    host = _host_of(report, target)
    return _attribute(host.facts.hostname) or None if host else None


def _timestamp(report: Report) -> str:
    """Return the time of the session as the JUnit schema has it, without a zone."""
    return _attribute(report.created.partition("+")[0].removesuffix("Z"))


def _properties(report: Report, target: str) -> dict[str, str]:
    properties = {
        "tool": f"pytest-edgeai {report.tool_version}",
        "target": target,
        "evidence.directory": report.evidence_directory.as_posix(),
        "evidence.sha256": report.evidence_sha256,
    }
    host = _host_of(report, target)
    if host is not None:
        properties["host"] = host_sentence(host)
        properties["host.proxy"] = str(host.proxy).lower()
        if host.proxy:
            properties["host.proxy_reason"] = host.proxy_reason
    return properties


def _case(
    title: str,
    suite: str,
    candidate: CandidateReport,
    verdict: Verdict,
    inconclusive: Literal["fail", "skip"],
) -> TestCase:
    seconds = candidate.gate_seconds.get(verdict.gate)
    case = TestCase(title, classname=suite, elapsed_sec=seconds, stdout=_legal(_figures(verdict)))
    known = candidate.known_failures.get(verdict.gate)
    message = _attribute(f"{verdict.outcome.replace('_', ' ')}: {verdict.reason}")
    output = _legal("\n".join(part for part in (verdict.reason, verdict.advice) if part))
    skips = verdict.outcome in ("proxy", "not_applicable")
    skips |= verdict.outcome == "inconclusive" and inconclusive == "skip"
    if skips:
        case.add_skipped_info(message, output)
    elif known is not None and verdict.outcome == "pass":
        expected = f"passed, although the manifest knows it to fail: {known}"
        case.add_failure_info(_attribute(expected), output, "unexpected_pass")
    elif known is not None:
        case.add_skipped_info(_attribute(f"known failure: {known}"), output)
    elif verdict.outcome == "error":
        case.add_error_info(message, output, "error")
    elif verdict.outcome != "pass":
        case.add_failure_info(message, output, verdict.outcome)
    return case


def _figures(verdict: Verdict) -> str:
    """Return what was observed, one figure a line."""
    observed, interval = verdict_estimate(verdict)
    lines = [f"observed: {observed}"]
    if interval:
        level = "" if verdict.confidence is None else f" ({verdict.confidence * 100:.4g}%)"
        lines.append(f"interval{level}: {interval}")
    threshold = verdict_threshold(verdict)
    if threshold:
        lines.append(f"threshold: {threshold} ({verdict.threshold_origin})")
    lines.append(f"samples: {verdict.samples}")
    return "\n".join(lines)
