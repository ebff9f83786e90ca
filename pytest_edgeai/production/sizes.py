"""What an artifact may weigh, for the gates of production that ask for it."""

from __future__ import annotations

from pytest_edgeai.judge.verdict import bytes_text
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.production_records import Finding
from pytest_edgeai.session import SIZE_GATE
from pytest_edgeai.workbench import Workbench


def size_findings(bench: Workbench, candidate: PlannedCandidate) -> tuple[Finding, ...]:
    """Return a finding where the artifact weighs more than its limit; nothing without a limit.

    The limit is that of the gate ``artifact_size``: the manifest's, or that of the target's
    packages.
    """
    limit, on = bench.session.threshold(candidate, SIZE_GATE)
    size_bytes = bench.artifact(candidate).size_bytes
    if not on or limit.value is None or size_bytes <= limit.value:
        return ()
    what = (
        f"its files take {bytes_text(size_bytes)}, and at most {bytes_text(limit.value)} "
        f"are allowed ({limit.origin})"
    )
    return (Finding("size", SIZE_GATE, what),)
