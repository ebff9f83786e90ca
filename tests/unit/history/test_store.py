"""The file of the history: whole rows, whole sessions, whatever happens to the process."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_edgeai.errors import UserError
from pytest_edgeai.history.records import Row
from pytest_edgeai.history.store import FILE_NAME, HistoryStore

RowOf = Callable[..., Row]


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    """A history that does not exist yet."""
    return HistoryStore(tmp_path / "cache" / FILE_NAME)


def test_what_is_read_is_what_was_written(store: HistoryStore, row_of: RowOf) -> None:
    assert store.read() == []
    assert not store.path.exists()
    rows = [
        row_of(1, promoted=True, bundle="/b"),
        row_of(1, gate="memory_cut", observed=None, interval=(None, None), threshold=None),
        row_of(0, model="größe 'drop'"),
    ]
    store.append(rows[:2])
    store.append(rows[2:])
    store.append([])
    assert store.read() == [rows[2], *rows[:2]]
    assert [path.name for path in store.path.parent.iterdir()] == [FILE_NAME]


def test_a_session_is_stored_whole_or_not_at_all(store: HistoryStore, row_of: RowOf) -> None:
    store.append([row_of(0)])
    with pytest.raises(UserError, match="UNIQUE"):
        store.append([row_of(1), row_of(1, gate="memory_cut"), row_of(0)])
    assert store.read() == [row_of(0)]


def test_a_killed_session_leaves_the_file_valid(store: HistoryStore, row_of: RowOf) -> None:
    store.append([row_of(0)])
    # A cache of one page and a large row spill uncommitted pages to the file before the end.
    script = f"""
        import os, signal, sqlite3
        connection = sqlite3.connect({str(store.path)!r}, isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE gates SET model = 'half'")
        for number in range(200):
            connection.execute(
                "INSERT INTO hosts (fingerprint, facts) VALUES (?, ?)", (str(number), "x" * 5000)
            )
        print(os.path.getsize({str(store.path)!r}), flush=True)
        os._exit(9) if os.name == "nt" else os.kill(os.getpid(), signal.SIGKILL)
    """
    before = store.path.stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert int(done.stdout) > before, done.stderr
    assert store.path.with_name(f"{FILE_NAME}-journal").exists()
    assert store.read() == [row_of(0)]
    store.append([row_of(1)])
    assert store.read() == [row_of(0), row_of(1)]
    with contextlib.closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_sessions_that_end_at_once_wait_for_each_other(store: HistoryStore) -> None:
    script = f"""
        import sys
        from pathlib import Path
        from pytest_edgeai.history.records import Environment, Row
        from pytest_edgeai.history.store import HistoryStore
        store, me = HistoryStore(Path({str(store.path)!r})), sys.argv[1]
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(20):
            store.append([
                Row(f"{{number:04}}", f"{{me}}-{{number}}", Environment({{"cpu": me}}, {{}}, 1),
                    "m", "", "t", "c", "f", "", "", gate, "pass", 1.0, (None, None), None,
                    "at_least", "ratio", False, "", "", "")
                for gate in ("a", "b")
            ])
    """
    started = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in started] == ["", ""]
    assert [process.returncode for process in started] == [0, 0]
    rows = store.read()
    assert len({(row.run_id, row.gate) for row in rows}) == len(rows) == 80


def test_a_session_waits_for_one_that_writes(
    store: HistoryStore, row_of: RowOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append([row_of(0)])
    monkeypatch.setattr("pytest_edgeai.history.store.WAIT_S", 0.05)
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match="locked"):
            store.append([row_of(1)])
        assert store.read() == [row_of(0)], "reading does not wait for a writer"
        other.execute("ROLLBACK")
    store.append([row_of(1)])
    assert len(store.read()) == 2


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (b"no database " * 100, "damaged"),
        ("directory", "cannot be used"),
        ("CREATE TABLE theirs (x)", "format 0"),
        ("PRAGMA user_version = 7", "format 7"),
        ("truncated", "damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_and_stays_as_it_is(
    store: HistoryStore, row_of: RowOf, damage: str | bytes, problem: str
) -> None:
    store.path.parent.mkdir()
    if damage == "directory":
        store.path.mkdir()
    elif isinstance(damage, bytes):
        store.path.write_bytes(damage)
    elif damage == "truncated":
        store.append([row_of(number) for number in range(200)])
        content = store.path.read_bytes()
        store.path.write_bytes(content[: len(content) // 2 // 4096 * 4096])
    else:
        with contextlib.closing(sqlite3.connect(store.path)) as connection:
            connection.execute(damage)
    before = store.path.read_bytes() if store.path.is_file() else b""
    for use in (store.read, lambda: store.append([row_of(999)])):
        with pytest.raises(UserError, match=problem) as caught:
            use()
        assert "\n" not in str(caught.value)
        assert FILE_NAME in str(caught.value)
    assert not store.path.is_file() or store.path.read_bytes() == before
