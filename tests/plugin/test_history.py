"""``--edge-history``: what sessions leave behind, and what a reader is shown of it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from edge_runs import CANDIDATE, GATES, Place

PROMOTE = "--edge-promote=promoted"


def stored(path: Path) -> list[dict[str, Any]]:
    """Return all rows of a history, by column name."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM gates ORDER BY rowid")]


def test_each_session_leaves_one_row_per_gate_and_the_reader_sees_them(place: Place) -> None:
    place.write()
    first = place.run(PROMOTE, own_cache=True)
    second = place.run("-k", "accuracy", own_cache=True)
    assert (first.code, second.code) == (0, 0)
    rows = stored(place.path / ".edgeai/history.sqlite3")
    assert [row["gate"] for row in rows] == [*GATES, "accuracy_retained"]
    assert [bool(row["promoted"]) for row in rows] == [True] * len(GATES) + [False]
    artifact = first.candidate()["artifact"]
    for row, gate in zip(rows, first.candidate()["gates"], strict=False):
        assert row["artifact_sha256"] == artifact["sha256"]
        assert (row["outcome"], row["observed"]) == (gate["outcome"], gate["observed"])
        assert [row["interval_low"], row["interval_high"]] == (gate["interval"] or [None, None])
        assert row["threshold"] == gate["threshold"]
        assert row["model_sha256"] == first.report["models"][0]["sha256"]
        assert row["created"] == first.report["created"]
        assert Path(row["report"]) == place.path / "report.json"
        assert Path(row["evidence"]) == Path(first.report["evidence"]["directory"])
        assert (Path(row["bundle"]) / "bundle.json").is_file()
    assert len({row["host"] for row in rows}) == 1

    shown = place.run("--edge-history", "--edge-model=linear", target="")
    assert shown.code == 0
    assert "2 sessions" in shown.text
    assert f"linear {CANDIDATE} for cross" in shown.text
    lines = [line.split() for line in shown.text.splitlines()]
    assert [line[0] for line in lines if line and line[0] in GATES] == [*GATES]
    assert all(len(line) <= 80 for line in shown.text.splitlines())
    assert "\x1b[" not in shown.text
    assert "test session starts" not in shown.text
    assert len(stored(place.path / ".edgeai/history.sqlite3")) == len(rows)


def test_nothing_is_stored_yet(place: Place) -> None:
    place.write()
    run = place.run("--edge-history", target="")
    assert run.code == 0
    assert "nothing is stored" in run.text
    assert not (place.path / ".edgeai").exists()


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--edge-model=lineal", 'did you mean "linear"'),
        ("--edge-target=intel", "unknown target of the history"),
        ("--edge-manifest=absent.toml", "absent.toml"),
    ],
)
def test_names_that_do_not_stand_in_it(place: Place, option: str, problem: str) -> None:
    place.write()
    assert place.run("-k", "sanity", own_cache=True).code == 0
    run = place.run("--edge-history", option, target="")
    assert run.code == pytest.ExitCode.USAGE_ERROR
    assert problem.lower() in run.result.stderr.str().lower()
    assert "Traceback" not in run.result.stderr.str()


def test_the_manifest_and_the_variable_ask_for_it_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write()
    assert place.run("-k", "sanity", own_cache=True).code == 0
    monkeypatch.setenv("PYTEST_EDGEAI_HISTORY", "yes")
    assert "output_sanity" in place.run(target="").text
    monkeypatch.setenv("PYTEST_EDGEAI_HISTORY", "no")
    assert "output_sanity" not in place.run(target="").text
    monkeypatch.delenv("PYTEST_EDGEAI_HISTORY")
    manifest = place.path / "edgeai.toml"
    manifest.write_text(manifest.read_text("utf-8") + "\n[settings]\nhistory = true\n", "utf-8")
    run = place.run(own_cache=True)
    assert run.code == 0
    assert "1 session" in run.text
    assert run.report == {}


@pytest.mark.parametrize("damage", ["bytes", "directory", "another program", "read-only"])
def test_a_history_that_cannot_be_used_is_a_note_and_loses_no_verdict(
    place: Place, damage: str
) -> None:
    place.write()
    history = place.path / ".edgeai/history.sqlite3"
    history.parent.mkdir()
    if damage == "bytes":
        history.write_bytes(b"nothing that SQLite knows" * 100)
    elif damage == "directory":
        history.mkdir()
    elif damage == "read-only":
        if sys.platform == "win32" or os.geteuid() == 0:
            pytest.skip("whoever runs this may write everything")
        assert place.run("-k", "sanity", own_cache=True).code == 0
        history.chmod(0o400)
    else:
        with contextlib.closing(sqlite3.connect(history)) as connection:
            connection.execute("CREATE TABLE theirs (x)")
    kept = history.read_bytes() if history.is_file() else b""
    run = place.run("-k", "sanity", own_cache=True)
    assert (run.code, run.verdicts()) == (0, {"output_sanity": "pass"})
    notes = [note for note in run.report["notes"] if "not in the history" in note]
    assert len(notes) == 1
    assert "history.sqlite3" in notes[0]
    assert "not in the history" in " ".join(run.text.split())
    assert not history.is_file() or history.read_bytes() == kept
    shown = place.run("--edge-history", target="")
    assert shown.code == (0 if damage == "read-only" else pytest.ExitCode.USAGE_ERROR)


def test_the_controlling_process_of_xdist_writes_it_once(place: Place) -> None:
    pytest.importorskip("xdist", reason="pip install pytest-xdist")
    place.write()
    run = place.run("-n2", "-k", "sanity or size", own_cache=True)
    assert run.code == 0
    rows = stored(place.path / ".edgeai/history.sqlite3")
    assert sorted(row["gate"] for row in rows) == ["artifact_size", "output_sanity"]
    assert len({row["run_id"] for row in rows}) == 1
