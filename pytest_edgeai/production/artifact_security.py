"""The gate ``artifact_security``: our own look at every file, and that of maintained scanners.

Our own look alone never passes: without a scanner that others maintain it is not certified, though
what it finds fails the gate all the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pytest_edgeai.errors import NotCertified
from pytest_edgeai.judge.findings import judge_findings
from pytest_edgeai.measure.scan import StaticScan, scan_artifact
from pytest_edgeai.measure.scanners import Opinion, ask_scanners, file_of
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.production.sizes import size_findings
from pytest_edgeai.production_records import Finding, Inspection
from pytest_edgeai.records import Artifact, Threshold, Verdict, artifact_root
from pytest_edgeai.workbench import Workbench, place, title

GATE = "artifact_security"


def decide_artifact_security(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Every file of the artifact, looked through without loading it.

    Raises:
        NotCertified: nothing was found, and no maintained scanner could look through it.
    """
    artifact = bench.artifact(candidate)
    table = bench.session.manifest.production
    operators = table.allowed_operators if table is not None else None
    seen, missing = bench.once(
        ("artifact scan", artifact.sha256, str(artifact.path)),
        lambda: _inspect(bench, title(candidate), artifact, operators),
    )
    findings = (*seen.findings, *size_findings(bench, candidate))
    inspection = Inspection(seen.subjects, seen.noun, findings, seen.unread, seen.tools, seen.notes)
    bench.evidence.write_record(place(candidate, GATE), inspection)
    if missing is not None and len(findings) <= (threshold.value or 0):
        raise missing
    return judge_findings(
        GATE,
        inspection,
        threshold,
        advice="do not ship these files: make the artifact again from a source that you trust",
        unread_advice="make the artifact again, or ask its maker for a format that can be read",
    )


def _inspect(
    bench: Workbench, name: str, artifact: Artifact, operators: Iterable[str] | None
) -> tuple[Inspection, NotCertified | None]:
    """Return what was found, and why the scanners could not be asked, where that is so."""
    bench.progress.step(name, "looking through its files")
    static = scan_artifact(artifact.path, artifact.files, allowed_operators=operators)
    missing: NotCertified | None = None
    opinions: tuple[Opinion, ...] = ()
    bench.progress.step(name, "asking the scanners")
    with tempfile.TemporaryDirectory(dir=bench.scratch) as home:
        try:
            opinions = ask_scanners(
                artifact_root(artifact.path).absolute(),
                Path(home),
                time_limit_s=bench.session.settings.time_limit,
            )
        except NotCertified as error:
            missing = error
    return _combined(static, opinions), missing


def _combined(static: StaticScan, opinions: tuple[Opinion, ...]) -> Inspection:
    findings = [
        Finding(each.check, each.where, each.what) for each in static.remarks if not each.unread
    ]
    doubts: list[str] = []
    for opinion in opinions:
        for each in opinion.findings:
            # Weights are any bytes, some of which resemble the opcodes of a pickle. Our own look at
            # them counts imports that are spelled out, and no scanner calls those a mere warning.
            if each.check == "warning" and file_of(each.where) in static.weights:
                doubts.append(f"{each.where}: {each.what} ({each.found_by})")
            else:
                findings.append(each)
    return Inspection(
        subjects=len(static.files),
        noun="file",
        findings=tuple(findings),
        unread=tuple(_unread(static, opinions)),
        tools={"pytest-edgeai": ""} | {each.tool.name: each.tool.version for each in opinions},
        notes=(
            *doubts,
            *(note for each in opinions for note in each.notes),
            *(
                f"{each.tool.name} ran beside the network, with its telemetry off"
                for each in opinions
                if not each.isolated
            ),
        ),
    )


def _unread(static: StaticScan, opinions: tuple[Opinion, ...]) -> Iterator[str]:
    """Yield what nobody could look into, once for each file."""
    told: dict[str, str] = {
        each.where: f"{each.where}: {each.what}" for each in static.remarks if each.unread
    }
    for opinion in opinions:
        for name, why in opinion.unread.items():
            if name not in static.settled:
                told.setdefault(name, f"{name}: {opinion.tool.name} could not read it ({why})")
    covered = {name for opinion in opinions for name in opinion.covered} | static.settled
    for name in static.files if opinions else ():
        if name not in covered:
            told.setdefault(name, f"{name}: no installed scanner reads this format")
    yield from told.values()
