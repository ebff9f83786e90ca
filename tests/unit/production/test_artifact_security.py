"""How our own look and the scanners' opinions become one inspection."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_edgeai.measure.scan import StaticScan
from pytest_edgeai.measure.scan_archives import Remark
from pytest_edgeai.measure.scanners import Opinion
from pytest_edgeai.measure.tools import Tool
from pytest_edgeai.production.artifact_security import _combined
from pytest_edgeai.production_records import Finding

BY = "modelaudit 1.0"


def opinion(
    *findings: Finding,
    covered: tuple[str, ...] = (),
    unread: Mapping[str, str] | None = None,
    isolated: bool = True,
) -> Opinion:
    tool = Tool("modelaudit", ("modelaudit",), "1.0")
    return Opinion(tool, findings, frozenset(covered), unread or {}, (), isolated)


def static(*remarks: Remark) -> StaticScan:
    return StaticScan(
        ("m.xml", "m.bin", "t.json"), frozenset({"m.bin", "t.json"}), frozenset({"m.bin"}), remarks
    )


def test_every_file_has_to_be_known_to_a_scanner_or_settled() -> None:
    assert _combined(static(), (opinion(covered=("m.xml",)),)).unread == ()
    assert _combined(static(), (opinion(),)).unread == (
        "m.xml: no installed scanner reads this format",
    )
    broken = opinion(unread={"m.xml": "torn", "m.bin": "odd"})
    assert _combined(static(), (broken,)).unread == ("m.xml: modelaudit could not read it (torn)",)


def test_what_we_could_not_read_is_told_once() -> None:
    remark = Remark("format", "m.xml", "it cannot be read: torn", unread=True)
    seen = _combined(static(remark), (opinion(unread={"m.xml": "torn"}),))
    assert seen.unread == ("m.xml: it cannot be read: torn",)
    assert seen.findings == ()


def test_a_warning_about_the_bytes_of_weights_is_a_note() -> None:
    found = [
        Finding("warning", "m.bin (pos 0)", "an opcode", BY),
        Finding("critical", "m.bin (pos 9)", "os.system", BY),
        Finding("warning", "m.xml", "a plugin", BY),
    ]
    ours = Remark("pickle", "m.bin", 'unpickling it imports "os system"')
    seen = _combined(static(ours), (opinion(*found, covered=("m.xml",)),))
    assert [(each.where, each.found_by) for each in seen.findings] == [
        ("m.bin", ""),
        ("m.bin (pos 9)", BY),
        ("m.xml", BY),
    ]
    assert seen.notes == (f"m.bin (pos 0): an opcode ({BY})",)


def test_a_scanner_beside_the_network_is_noted() -> None:
    seen = _combined(static(), (opinion(covered=("m.xml",), isolated=False),))
    assert seen.notes == ("modelaudit ran beside the network, with its telemetry off",)
    assert seen.tools == {"pytest-edgeai": "", "modelaudit": "1.0"}
    assert (seen.subjects, seen.noun) == (3, "file")
