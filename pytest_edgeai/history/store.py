"""The history on the disk: one SQLite file beside the artifacts, and no server.

Sessions that end at once wait for each other: SQLite locks the file. Its rollback journal makes
each session's rows appear as a whole or not at all, whenever a process dies, and works on network
file systems, where the write-ahead log does not (https://www.sqlite.org/wal.html, section 1).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pytest_edgeai.errors import UserError
from pytest_edgeai.history.records import Environment, Row

FILE_NAME = "history.sqlite3"
FORMAT = 1
"""``PRAGMA user_version`` of the file."""
WAIT_S = 60.0
"""How long one session waits for another, which holds the file for milliseconds."""

_PLAIN = tuple(f.name for f in fields(Row) if f.name not in ("environment", "interval"))
_COLUMNS = (*_PLAIN, "interval_low", "interval_high", "threads", "host", "tools")
_SCHEMA = (
    "CREATE TABLE hosts (fingerprint TEXT PRIMARY KEY, facts TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE tools (fingerprint TEXT PRIMARY KEY, versions TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE gates (
        created TEXT NOT NULL,
        run_id TEXT NOT NULL,
        host TEXT NOT NULL REFERENCES hosts,
        tools TEXT NOT NULL REFERENCES tools,
        threads INTEGER NOT NULL,
        model TEXT NOT NULL,
        model_sha256 TEXT NOT NULL,
        target TEXT NOT NULL,
        candidate TEXT NOT NULL,
        framework TEXT NOT NULL,
        artifact_sha256 TEXT NOT NULL,
        artifact_path TEXT NOT NULL,
        gate TEXT NOT NULL,
        outcome TEXT NOT NULL,
        observed REAL,
        interval_low REAL,
        interval_high REAL,
        threshold REAL,
        relation TEXT NOT NULL,
        unit TEXT NOT NULL,
        promoted INTEGER NOT NULL,
        bundle TEXT NOT NULL,
        report TEXT NOT NULL,
        evidence TEXT NOT NULL,
        UNIQUE (run_id, model, target, candidate, gate)
    )""",
    f"PRAGMA user_version = {FORMAT}",
)


class HistoryStore:
    """The rows of all sessions that used one cache directory."""

    def __init__(self, path: Path) -> None:
        """Use the file ``path``, which need not exist."""
        self.path = path

    def append(self, rows: Sequence[Row]) -> None:
        """Add the rows of one session, all or none.

        Raises:
            UserError: the file cannot be written, is damaged, or is of another format.
        """
        if not rows:
            return
        with self._opened(create=True) as connection:
            connection.execute("BEGIN IMMEDIATE")
            if not _is_made(connection):
                for statement in _SCHEMA:
                    connection.execute(statement)
            for row in rows:
                _insert(connection, row)
            connection.execute("COMMIT")

    def read(self) -> list[Row]:
        """Return all rows in order of time; none where there is no file.

        Raises:
            UserError: the file cannot be read, is damaged, or is of another format.
        """
        if not self.path.exists():
            return []
        with self._opened(create=False) as connection:
            if not _is_made(connection):
                return []
            names = ", ".join(f"gates.{name}" for name in _COLUMNS)
            cursor = connection.execute(
                f"SELECT {names}, hosts.facts, tools.versions FROM gates "
                "JOIN hosts ON hosts.fingerprint = gates.host "
                "JOIN tools ON tools.fingerprint = gates.tools "
                "ORDER BY created, gates.rowid"
            )
            known: dict[tuple[Any, ...], Environment] = {}
            return [_row(values, known) for values in cursor]

    @contextlib.contextmanager
    def _opened(self, *, create: bool) -> Iterator[sqlite3.Connection]:
        """Open the file; what was begun and not committed is undone at the end."""
        mode = "rwc" if create else "rw"
        try:
            if create:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                f"{self.path.resolve().as_uri()}?mode={mode}",
                timeout=WAIT_S,
                isolation_level=None,
                uri=True,
            )
            with contextlib.closing(connection):
                _check_format(connection)
                yield connection
        except (_OtherFormat, sqlite3.Error, OSError, ValueError, TypeError) as error:
            raise self._problem(error) from None

    def _problem(self, error: Exception) -> UserError:
        where = str(self.path)
        advice = "Move the file away, and the next session begins another"
        if isinstance(error, _OtherFormat):
            return UserError(f"the history {error}", where=where, advice=advice)
        if isinstance(error, sqlite3.OperationalError | OSError):
            return UserError(f"the history cannot be used: {error}", where=where)
        return UserError(f"the history is damaged: {error}", where=where, advice=advice)


class _OtherFormat(Exception):
    """The file is whole, and not ours or not of this version."""


def _check_format(connection: sqlite3.Connection) -> None:
    # One statement reads one state of the file, whoever writes it meanwhile.
    version, tables = connection.execute(
        "SELECT user_version, (SELECT count(*) FROM sqlite_master) FROM pragma_user_version"
    ).fetchone()
    if version != FORMAT and (version or tables):
        raise _OtherFormat(f"is of format {version}, and this version knows format {FORMAT}")


def _is_made(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA user_version").fetchone()[0])


def _insert(connection: sqlite3.Connection, row: Row) -> None:
    environment = row.environment
    host, tools = environment.host_fingerprint, environment.tools_fingerprint
    for table, column, fingerprint, content in (
        ("hosts", "facts", host, environment.host),
        ("tools", "versions", tools, environment.versions),
    ):
        connection.execute(
            f"INSERT OR IGNORE INTO {table} (fingerprint, {column}) VALUES (?, ?)",
            (fingerprint, json.dumps(content, sort_keys=True)),
        )
    values = {
        **{name: getattr(row, name) for name in _PLAIN},
        "interval_low": row.interval[0],
        "interval_high": row.interval[1],
        "threads": environment.threads,
        "host": host,
        "tools": tools,
    }
    marks = ", ".join(f":{name}" for name in _COLUMNS)
    connection.execute(f"INSERT INTO gates ({', '.join(_COLUMNS)}) VALUES ({marks})", values)


def _row(values: tuple[Any, ...], known: dict[tuple[Any, ...], Environment]) -> Row:
    """Return a row; those that were measured in one environment share it."""
    named = dict(zip((*_COLUMNS, "facts", "versions"), values, strict=True))
    plain = {name: named[name] for name in _PLAIN}
    plain["promoted"] = bool(plain["promoted"])
    stored = named["facts"], named["versions"], named["threads"]
    if stored not in known:
        known[stored] = Environment(json.loads(stored[0]), json.loads(stored[1]), stored[2])
    return Row(
        **plain,
        interval=(named["interval_low"], named["interval_high"]),
        environment=known[stored],
    )
