"""Where a promoted artifact is looked for, and that its bytes decide whether it is the one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from models import linear_classifier, write_project

from pytest_edgeai.against import check_against, reference_of
from pytest_edgeai.assess.hardware import read_host
from pytest_edgeai.configuration import resolve
from pytest_edgeai.digests import digest_files
from pytest_edgeai.errors import MeasurementError, UserError
from pytest_edgeai.history.records import Row
from pytest_edgeai.manifest import read_manifest
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.progress import Progress
from pytest_edgeai.remembering import environment_of, history_of, tool_versions
from pytest_edgeai.session import open_session
from pytest_edgeai.shipped import GATES
from pytest_edgeai.specification import Catalogue
from pytest_edgeai.workbench import Workbench, place

CATALOGUE = Catalogue(FRAMEWORKS, TARGETS, METRICS, GATES)
Open = Callable[..., Workbench]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Open a session on a small model; nothing of it is run."""
    benches: list[Workbench] = []

    def make(**flags: Any) -> Workbench:
        manifest_path = write_project(tmp_path, [linear_classifier(tmp_path)])
        given = {"edge_target": ["cross"], **{f"edge_{key}": flags[key] for key in flags}}
        manifest = read_manifest(manifest_path, CATALOGUE)
        settings = resolve(
            given, {}, {}, manifest_path=manifest_path, invocation_directory=tmp_path
        )
        session = open_session(
            settings,
            CATALOGUE,
            manifest,
            read_host(),
            choose_recipes=lambda model, facts, framework, target: None,
            run_id="run",
            cache_directory=tmp_path / "cache",
        )
        benches.append(Workbench(session, Progress(None)))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


def put(folder: Path, content: bytes = b"weights") -> tuple[Path, str]:
    """Write an artifact of two files; return what is loaded, and the digest."""
    folder.mkdir(parents=True)
    path = folder / "model.onnx"
    path.write_bytes(content)
    (folder / "model.data").write_bytes(b"more")
    return path, digest_files(list(folder.iterdir()), folder)


def remember(bench: Workbench, path: Path | str, sha256: str, **changes: Any) -> None:
    """Store a session that promoted an artifact."""
    candidate = bench.session.candidates[0]
    row = Row(
        created="2026-11-20T10:00:00+00:00",
        run_id="old",
        environment=environment_of(bench.session, candidate),
        model=candidate.model.name,
        model_sha256="",
        target="cross",
        candidate=candidate.node,
        framework="onnxruntime",
        artifact_sha256=sha256,
        artifact_path=str(path),
        gate="speedup",
        outcome="pass",
        observed=2.0,
        interval=(None, None),
        threshold=None,
        relation="at_least",
        unit="ratio",
        promoted=True,
        bundle="",
        report="",
        evidence="",
    )
    history_of(bench.session.cache_directory).append([dataclasses.replace(row, **changes)])


def test_the_reference_takes_the_place_of_the_baseline(opened: Open, tmp_path: Path) -> None:
    bench = opened(against="last")
    path, sha256 = put(tmp_path / "cache/artifacts/k.1")
    remember(bench, path, sha256)
    candidate = bench.session.candidates[0]
    reference = reference_of(bench, candidate)
    assert reference.differences == ()
    compared = reference.candidate
    assert bench.baseline_runnable(compared).path == path
    assert bench.baseline_runnable(candidate).path == bench.model("linear").facts.path
    assert place(compared, "timings") == f"linear/{candidate.node}/against-{sha256[:12]}/timings"
    assert place(candidate, "timings") == f"linear/{candidate.node}/timings"
    assert compared.reference is not None
    assert compared.reference.size_bytes == len(b"weights") + len(b"more")


def test_the_cache_is_searched_by_digest(opened: Open, tmp_path: Path) -> None:
    bench = opened(against="last")
    path, sha256 = put(tmp_path / "cache/artifacts/key.1")
    entry = dict.fromkeys(
        ("run_id", "framework", "claimed_precision", "size_bytes", "seconds", "versions", "log"), ""
    )
    entry |= {"format": 1, "directory": "key.1", "path": path.name, "files": [], "sha256": sha256}  # type: ignore[dict-item]
    (tmp_path / "cache/artifacts/key.json").write_text(json.dumps(entry), "utf-8")
    (tmp_path / "cache/artifacts/broken.json").write_text("{", "utf-8")
    remember(bench, "/moved/away/model.onnx", sha256)
    assert reference_of(bench, bench.session.candidates[0]).candidate.reference is not None


@pytest.mark.parametrize("known", ["in the history", "by --edge-promote"])
def test_the_bundle_is_searched(opened: Open, tmp_path: Path, known: str) -> None:
    path, sha256 = put(tmp_path / "made")
    bundle = tmp_path / f"promoted/linear/cross/any/{sha256[:12]}"
    put(bundle / "artifact")
    description = {"artifact": {"main": path.name}}
    (bundle / "bundle.json").write_text(json.dumps(description), "utf-8")
    in_history = known == "in the history"
    bench = opened(against="last", promote=None if in_history else str(tmp_path / "promoted"))
    remember(bench, "", sha256, bundle=str(bundle) if in_history else "")
    reference = reference_of(bench, bench.session.candidates[0])
    assert reference.candidate.reference is not None
    assert reference.candidate.reference.path == bundle / "artifact/model.onnx"


@pytest.mark.parametrize("main", ["../../../..", "/", 7, None])
def test_a_damaged_bundle_leads_nowhere_else(opened: Open, tmp_path: Path, main: Any) -> None:
    bundle = tmp_path / "bundle"
    put(bundle / "artifact")
    (bundle / "bundle.json").write_text(json.dumps({"artifact": {"main": main}}), "utf-8")
    bench = opened(against="last")
    remember(bench, "", "ff" * 32, bundle=str(bundle))
    with pytest.raises(MeasurementError, match=r"is gone|is not what was promoted"):
        reference_of(bench, bench.session.candidates[0])


def test_other_bytes_are_not_what_was_promoted(opened: Open, tmp_path: Path) -> None:
    bench = opened(against="best")
    path, sha256 = put(tmp_path / "cache/artifacts/k.1")
    remember(bench, path, sha256)
    path.write_bytes(b"Weights")
    with pytest.raises(MeasurementError, match="is not what was promoted: its digest is") as caught:
        reference_of(bench, bench.session.candidates[0])
    assert "\n" not in str(caught.value)
    path.write_bytes(b"weights")
    again = opened(against="best")
    assert reference_of(again, again.session.candidates[0]).promoted.sha256 == sha256


def test_a_directory_outside_of_the_cache_is_not_read_without_a_list(
    opened: Open, tmp_path: Path
) -> None:
    bench = opened(against="last")
    path, sha256 = put(tmp_path / "elsewhere")
    remember(bench, path, sha256)
    with pytest.raises(MeasurementError, match="is gone"):
        reference_of(bench, bench.session.candidates[0])


def test_a_framework_that_is_missing_is_named_with_its_installation(
    opened: Open, tmp_path: Path
) -> None:
    bench = opened(against="last")
    path, sha256 = put(tmp_path / "cache/artifacts/k.1")
    absent = [name for name in FRAMEWORKS if bench.session.installations.missing(name)]
    if not absent:
        pytest.skip("every framework is installed here")
    remember(bench, path, sha256, framework=absent[0])
    with pytest.raises(MeasurementError, match="cannot be measured again") as caught:
        reference_of(bench, bench.session.candidates[0])
    assert FRAMEWORKS[absent[0]].install in str(caught.value)


def test_the_gates_exist_in_this_mode_alone(opened: Open) -> None:
    added = {"no_slower", "no_less_accurate"}
    for flags, expected in (({}, set()), ({"against": "last"}, added)):
        session = opened(**flags).session
        assert added & set(session.gates_of(session.candidates[0])) == expected


def test_the_values_of_the_option(opened: Open, tmp_path: Path) -> None:
    assert opened(against="last").session.settings.against == "last"
    assert opened(against="old/report.json").session.settings.against == (
        tmp_path / "old/report.json"
    )
    assert opened().session.settings.against is None
    with pytest.raises(UserError, match=r"REPORT\.json") as caught:
        opened(against="\0")
    assert "--edge-against" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"[" * 100_000, b"[]"])
def test_a_report_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be used") as caught:
        check_against(path, "--edge-against")
    assert "\n" not in str(caught.value)


def test_the_tools_are_those_of_the_interpreters(opened: Open) -> None:
    session = opened().session
    versions = tool_versions(session.installations, "onnxruntime", "onnxruntime")
    assert (
        versions["onnxruntime"]
        == session.installations.probe("onnxruntime").versions["onnxruntime"]
    )
    assert {"python", "pytest-edgeai"} <= set(versions)
