"""The scanners that others maintain: which are installed, and what they say of an artifact.

modelaudit (Promptfoo, MIT) reads every format that the shipped frameworks write and says of each
file whether it knew it; picklescan (MIT) knows pickles alone, and is asked as a second opinion.
Both run in processes of their own, without network and without telemetry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_edgeai.errors import NotCertified
from pytest_edgeai.measure.tools import Said, Tool, find_tool, run_tool
from pytest_edgeai.production_records import Finding

MODELAUDIT = "modelaudit"
PICKLESCAN = "picklescan"
INSTALL = "pip install 'pytest-edgeai[security]'"
ALONE = (
    f"or into an environment of its own: pipx install {MODELAUDIT}, pipx inject {MODELAUDIT} onnx"
)
_FINDING_SEVERITIES = frozenset({"warning", "critical"})
# Rules S901 and S902: the analysis did not come to its end.
_INCOMPLETE_RULES = frozenset({"S901", "S902"})
# What modelaudit says of licences is no matter of security; the gate `compliance` judges those.
_OF_LICENSES = "license_warning"
# Analyses that say nothing about what runs: statistics of weights, and a schema check that is left
# out where data lie beside a model.
_INCIDENTAL = re.compile(r"weight_distribution|schema_validation")
_PICKLESCAN_LINE = re.compile(r"^(?P<file>.+): (?P<what>\S.* import '.+') FOUND$")


@dataclass(frozen=True)
class Opinion:
    """What one scanner says of an artifact.

    Attributes:
        tool: the scanner.
        findings: what it found; ``check`` is ``warning`` or ``critical``, as it weighs them.
        covered: POSIX names, below the artifact's folder, of the files that it knew and read.
        unread: file name to why it could not be read.
        notes: remarks that are no findings.
        isolated: whether it ran without any network.
    """

    tool: Tool
    findings: tuple[Finding, ...]
    covered: frozenset[str]
    unread: Mapping[str, str]
    notes: tuple[str, ...]
    isolated: bool


def ask_scanners(root: Path, home: Path, *, time_limit_s: float) -> tuple[Opinion, ...]:
    """Return what every installed scanner says.

    Args:
        root: folder of the artifact.
        home: folder for whatever the scanners write.
        time_limit_s: how long each of them may take.

    Raises:
        NotCertified: none is installed that reads models, or one did not come to an end.
    """
    audit = find_tool(MODELAUDIT, MODELAUDIT)
    if audit is None:
        raise NotCertified(f"no scanner of models is installed ({MODELAUDIT})", advice=_advice())
    opinions = [_ask_modelaudit(audit, root, home, time_limit_s)]
    second = find_tool(PICKLESCAN, PICKLESCAN)
    if second is not None:
        opinions.append(_ask_picklescan(second, root, home, time_limit_s))
    return tuple(opinions)


def _advice() -> str:
    return f"run: {INSTALL}, {ALONE}"


def _ask_modelaudit(tool: Tool, root: Path, home: Path, time_limit_s: float) -> Opinion:
    options = ("--format", "json", "--no-cache", "--quiet", "--timeout", str(int(time_limit_s)))
    said = run_tool(
        (*tool.command, "scan", *options, str(root)), home, time_limit_s=time_limit_s, online=False
    )
    try:
        content = json.loads(said.output)
        return read_modelaudit(content, tool, root, isolated=said.isolated)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _no_answer(tool, said) from None


def read_modelaudit(
    content: Mapping[str, Any], tool: Tool, root: Path, *, isolated: bool
) -> Opinion:
    """Return the opinion in a JSON report of ``modelaudit scan``.

    A file counts as read where the report names its format, and where no analysis that looks for
    code broke off; what it calls ``info`` is a note.
    """
    findings: list[Finding] = []
    unread: dict[str, str] = {}
    notes: list[str] = []
    for issue in content["issues"]:
        where = _name(str(issue.get("location") or root), root)
        if issue["severity"] not in _FINDING_SEVERITIES or issue.get("type") == _OF_LICENSES:
            notes.append(f"{where}: {issue['message']}")
        elif issue.get("rule_code") in _INCOMPLETE_RULES:
            unread[file_of(where)] = str(issue["message"])
        else:
            findings.append(
                Finding(
                    issue["severity"], where, str(issue["message"]), f"{tool.name} {tool.version}"
                )
            )
    for path, facts in content["file_metadata"].items():
        reasons = list(facts.get("scan_outcome_reasons", ()))
        broken = [each for each in reasons if not _INCIDENTAL.search(each)]
        if facts.get("operational_error") or broken:
            missing = facts.get("missing_dependency")
            why = f"{tool.name} needs the package {missing}" if missing else ", ".join(broken)
            unread.setdefault(_name(path, root), why or "the analysis broke off")
    known = {
        _name(asset["path"], root) for asset in content["assets"] if asset["type"] != "unknown"
    }
    return Opinion(
        tool, tuple(findings), frozenset(known - unread.keys()), unread, tuple(notes), isolated
    )


def _ask_picklescan(tool: Tool, root: Path, home: Path, time_limit_s: float) -> Opinion:
    said = run_tool(
        (*tool.command, "--path", str(root)), home, time_limit_s=time_limit_s, online=False
    )
    # 0: clean, 1: found something, 2: an error (README of picklescan, "exit codes").
    if said.code not in (0, 1):
        raise _no_answer(tool, said)
    findings = tuple(_picklescan_findings(said.output + said.errors, tool, root))
    return Opinion(tool, findings, frozenset(), {}, (), said.isolated)


def _picklescan_findings(text: str, tool: Tool, root: Path) -> Iterator[Finding]:
    for line in text.splitlines():
        if match := _PICKLESCAN_LINE.match(line.strip()):
            yield Finding(
                "critical",
                _name(match["file"], root),
                match["what"],
                f"{tool.name} {tool.version}",
            )


def _no_answer(tool: Tool, said: Said) -> NotCertified:
    lines = [line for line in said.errors.splitlines() if line.strip()]
    last = f": {lines[-1].strip()[:200]}" if lines else ""
    return NotCertified(
        f"{tool.name} {tool.version} gave no report (exit status {said.code}){last}",
        advice=f"try it by hand, or install it again; {_advice()}",
    )


def _name(location: str, root: Path) -> str:
    """Return a location that a scanner names, without the artifact's folder before it."""
    if location in (str(root), str(root.resolve())):
        return "the artifact"
    for prefix in dict.fromkeys((f"{root}/", f"{root.resolve()}/")):
        location = location.removeprefix(prefix)
    return location


def file_of(where: str) -> str:
    """Return the file of a location such as ``a.pkl (pos 39)``."""
    return where.partition(" (")[0]
