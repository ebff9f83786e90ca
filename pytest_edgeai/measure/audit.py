"""Known vulnerabilities of distributions, by pip-audit or by a local export of advisories.

pip-audit (PyPA, Apache-2.0) asks the JSON API of the package index. Its exit status is 0 where it
could look nothing up at all, which is why what it skipped is told apart here. A local export holds
OSV records (https://ossf.github.io/osv-schema/), as osv.dev publishes them for the ecosystem PyPI.
"""

from __future__ import annotations

import datetime
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pytest_edgeai.errors import NotCertified
from pytest_edgeai.measure.tools import Said, find_tool, run_tool
from pytest_edgeai.production_records import Finding, Inspection

PIP_AUDIT = "pip-audit"
INSTALL = "pip install 'pytest-edgeai[security]'"
OSV_EXPORT = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"
STALEST_DAYS = 90
"""A local export whose newest record is older says nothing about what became known since."""
LOCAL = (
    f'name a local export of advisories in the manifest: [production] advisories = "all.zip" '
    f"(from {OSV_EXPORT})"
)
_SOCKET_LIMIT_S = 5
_CONNECTIONS = re.compile(r"ConnectionError|ServiceError|Timeout|ProxyError|SSLError|MaxRetry")
_MODIFIED = re.compile(rb'"modified"\s*:\s*"(\d{4}-\d{2}-\d{2})')
_LARGEST_RECORD = 1 << 24


def public_version(version: str) -> str:
    """Return a version without its local part: ``2.13.0+cpu`` was built from ``2.13.0``."""
    return version.partition("+")[0]


def audit_online(
    distributions: Mapping[str, str], home: Path, *, time_limit_s: float
) -> Inspection:
    """Return what pip-audit finds in the advisories of the package index.

    Args:
        distributions: canonical name to version.
        home: folder for whatever it writes.
        time_limit_s: how long it may take.

    Raises:
        NotCertified: it is not installed, reaches no source, or does not come to an end.
    """
    tool = find_tool(PIP_AUDIT, PIP_AUDIT)
    if tool is None:
        raise NotCertified(f"{PIP_AUDIT} is not installed", advice=f"run: {INSTALL}, or {LOCAL}")
    listed = home / "requirements.txt"
    listed.write_text(
        "".join(f"{name}=={public_version(each)}\n" for name, each in distributions.items()),
        "utf-8",
    )
    options = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
    said = run_tool(
        (
            *(*tool.command, "--requirement", str(listed), *options),
            *("--timeout", str(_SOCKET_LIMIT_S), "--cache-dir", str(home)),
        ),
        home,
        time_limit_s=time_limit_s,
        online=True,
    )
    return read_pip_audit(said, distributions, f"{tool.name} {tool.version}")


def read_pip_audit(said: Said, distributions: Mapping[str, str], tool: str) -> Inspection:
    """Return what is in the JSON that pip-audit printed.

    Raises:
        NotCertified: there is none, or it looked nothing up.
    """
    try:
        entries = json.loads(said.output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = [line.strip() for line in said.errors.splitlines() if line.strip()]
        last = lines[-1][:200] if lines else f"exit status {said.code}"
        if _CONNECTIONS.search(said.errors):
            raise NotCertified(
                f"no source of advisories can be reached ({last})",
                advice=f"allow connections to the package index, or {LOCAL}",
            ) from None
        raise NotCertified(
            f"{PIP_AUDIT} gave no report ({last})", advice=f"try it by hand, or {LOCAL}"
        ) from None
    findings: list[Finding] = []
    skipped: list[str] = []
    for entry in entries:
        name = canonicalize_name(entry["name"])
        where = f"{name} {distributions.get(name, '')}".strip()
        if "skip_reason" in entry:
            skipped.append(where)
        for each in entry.get("vulns", ()):
            what = _told(each["id"], each.get("aliases", ()), each.get("fix_versions", ()))
            findings.append(Finding("vulnerability", where, what, tool))
    answered = {canonicalize_name(entry["name"]) for entry in entries}
    skipped += [f"{name} {v}" for name, v in distributions.items() if name not in answered]
    if len(skipped) == len(distributions):
        raise NotCertified(
            f"the package index told nothing about any of {len(skipped)} distributions: "
            "its JSON API cannot be reached, as behind a mirror",
            advice=f"allow connections to the package index, or {LOCAL}",
        )
    return Inspection(
        subjects=len(distributions),
        noun="distribution",
        findings=tuple(findings),
        unread=tuple(f"{each}: the package index does not know it" for each in skipped),
        tools={tool.partition(" ")[0]: tool.partition(" ")[2]},
    )


def audit_offline(
    distributions: Mapping[str, str], advisories: Path, *, today: datetime.date
) -> Inspection:
    """Return what a local export of OSV advisories says.

    Args:
        distributions: canonical name to version.
        advisories: a ``.zip`` file or a folder of JSON files.
        today: what its age is counted from.

    Raises:
        NotCertified: it cannot be read, holds no record of PyPI, or is too old.
    """
    pattern = _names_pattern(distributions)
    newest = b""
    records = 0
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        for raw in _raw_records(advisories):
            if match := _MODIFIED.search(raw):
                records += 1
                newest = max(newest, match[1])
            if pattern.search(raw.lower()):
                _add_matches(json.loads(raw), distributions, found)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, TypeError) as error:
        raise NotCertified(
            f"the advisories in {advisories.name} cannot be read ({error})",
            advice=f"fetch them again from {OSV_EXPORT}",
        ) from None
    if not records:
        raise NotCertified(
            f"{advisories.name} holds no OSV advisory", advice=f"fetch them from {OSV_EXPORT}"
        )
    age_days = (today - datetime.date.fromisoformat(newest.decode())).days
    if age_days > STALEST_DAYS:
        raise NotCertified(
            f"the newest advisory in {advisories.name} is {age_days} days old, and at most "
            f"{STALEST_DAYS} are accepted",
            advice=f"fetch them again from {OSV_EXPORT}",
        )
    unread = tuple(
        f"{name} {version}: this is no version that can be compared"
        for name, version in distributions.items()
        if _version(version) is None
    )
    return Inspection(
        subjects=len(distributions),
        noun="distribution",
        findings=tuple(_findings(distributions, found, advisories.name)),
        unread=unread,
        tools={f"{records} OSV advisories": f"up to {newest.decode()}"},
    )


def _raw_records(advisories: Path) -> Iterator[bytes]:
    if advisories.is_dir():
        for path in sorted(advisories.rglob("*.json")):
            yield path.read_bytes()
        return
    with zipfile.ZipFile(advisories) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".json"):
                if member.file_size > _LARGEST_RECORD:
                    raise ValueError(f"{member.filename} declares {member.file_size} bytes")
                yield archive.read(member)


def _names_pattern(distributions: Mapping[str, str]) -> re.Pattern[bytes]:
    """Return what finds the records that may name a distribution, so that few have to be parsed."""
    names = (re.escape(name).replace(r"\-", "[-_.]+") for name in distributions)
    return re.compile(f'"({"|".join(names)})"'.encode())


def _add_matches(
    record: dict[str, Any],
    distributions: Mapping[str, str],
    found: dict[str, list[dict[str, Any]]],
) -> None:
    if record.get("withdrawn"):
        return
    for affected in record.get("affected", ()):
        package = affected.get("package", {})
        name = canonicalize_name(str(package.get("name", "")))
        version = _version(distributions.get(name, ""))
        if package.get("ecosystem") != "PyPI" or version is None:
            continue
        if is_affected(version, affected):
            found.setdefault(name, []).append(record)


def is_affected(version: Version, affected: Mapping[str, Any]) -> bool:
    """Return whether a version is affected, by the evaluation algorithm of the OSV schema."""
    if any(_version(str(each)) == version for each in affected.get("versions", ())):
        return True
    return any(
        _in_range(version, each["events"])
        for each in affected.get("ranges", ())
        if each.get("type") == "ECOSYSTEM"
    )


def _in_range(version: Version, events: list[dict[str, str]]) -> bool:
    limits = [limit for each in events if (limit := each.get("limit")) not in (None, "*")]
    parsed = [_version(str(limit)) for limit in limits]
    if limits and not any(limit is not None and version < limit for limit in parsed):
        return False
    vulnerable = False
    for each in sorted(events, key=_event_key):
        kind, text = next(iter(each.items()))
        at = _version(text)
        if kind == "introduced":
            vulnerable = vulnerable or text == "0" or (at is not None and version >= at)
        elif at is not None and kind in ("fixed", "last_affected"):
            is_past = version >= at if kind == "fixed" else version > at
            vulnerable = vulnerable and not is_past
    return vulnerable


def _event_key(event: Mapping[str, str]) -> tuple[Version, int]:
    kind, text = next(iter(event.items()))
    # What is fixed in the version that another flaw comes with is vulnerable again.
    return _version(text) or Version("0.dev0"), 1 if kind == "introduced" else 0


def _version(text: str) -> Version | None:
    try:
        return Version(public_version(text))
    except InvalidVersion:
        return None


def _findings(
    distributions: Mapping[str, str], found: Mapping[str, list[dict[str, Any]]], source: str
) -> Iterator[Finding]:
    """Yield each vulnerability of a distribution once, though several databases record it."""
    for name in sorted(found):
        seen: set[str] = set()
        for record in sorted(found[name], key=lambda each: str(each["id"])):
            names = {str(record["id"]), *map(str, record.get("aliases", ()))}
            if seen.isdisjoint(names):
                fixed = _fixed_versions(record, name)
                what = _told(str(record["id"]), record.get("aliases", ()), fixed)
                yield Finding("vulnerability", f"{name} {distributions[name]}", what, source)
            seen |= names


def _fixed_versions(record: Mapping[str, Any], name: str) -> list[str]:
    return [
        event["fixed"]
        for affected in record["affected"]
        if canonicalize_name(str(affected.get("package", {}).get("name", ""))) == name
        for each in affected.get("ranges", ())
        if each.get("type") == "ECOSYSTEM"
        for event in each["events"]
        if "fixed" in event
    ]


def _told(identifier: str, aliases: Any, fixed: Any) -> str:
    other = f" ({', '.join(sorted(map(str, aliases))[:2])})" if aliases else ""
    ways = f"fixed in {', '.join(dict.fromkeys(map(str, fixed)))}" if fixed else "no fix is known"
    return f"{identifier}{other}, {ways}"
