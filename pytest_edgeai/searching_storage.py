"""Where a study lies: a SQLite file by default, or a database that a fleet shares."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import sqlite3
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pytest_edgeai.errors import UserError

INSTALL = 'pip install "pytest-edgeai[search]"'
FILE_NAME = "studies.sqlite3"
CLAIMS = "claims"
WAIT_FOR_DATABASE_S = 60.0
"""How long one process waits for another one's write."""
HEARTBEAT_S = 30
"""How often a running trial says that it lives; after four times that it is taken for dead."""
_SQLITE = "sqlite"


def import_optuna() -> Any:
    """Return Optuna, silent.

    Raises:
        UserError: it is not installed; names the command that installs it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import optuna
    except ImportError as error:
        raise UserError(
            f"a search needs Optuna, which is not installed ({error})",
            where="--edge-search",
            advice=f"Run: {INSTALL}",
        ) from None
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    return optuna


@dataclass(frozen=True)
class StudyPlace:
    """An opened storage.

    Attributes:
        storage: Optuna's storage.
        shown: its place without credentials, for people and reports.
        lock: what keeps two processes of one machine from taking the same point; ``None`` for a
            database that is not a local file.
    """

    storage: Any
    shown: str
    lock: FileLock | None

    def alone(self) -> contextlib.AbstractContextManager[object]:
        """Hold the lock, where there is one."""
        return self.lock if self.lock is not None else contextlib.nullcontext()


def open_place(url: str, cache_directory: Path, base: Path, where: str) -> StudyPlace:
    """Open a storage, creating what is missing.

    Args:
        url: SQLAlchemy URL; empty for a SQLite file below ``cache_directory``.
        cache_directory: the session's.
        base: where a relative path of a SQLite URL starts.
        where: the manifest's key, for errors.

    Raises:
        UserError: Optuna is missing, or the storage cannot be opened; no credentials stand in it.
    """
    optuna = import_optuna()
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import DatabaseError, SQLAlchemyError

    folder = cache_directory / "search"
    try:
        parsed = make_url(url or f"{_SQLITE}:///{(folder / FILE_NAME).as_posix()}")
    except (SQLAlchemyError, ValueError):
        raise UserError(
            "is no URL of a database",
            where=where,
            allowed='such as "postgresql+psycopg://USER@HOST/DATABASE"',
        ) from None
    local: Path | None = None
    if parsed.get_backend_name() == _SQLITE:
        if not parsed.database or parsed.database == ":memory:":
            raise UserError(
                "a study in memory could not be resumed", where=where, allowed="a SQLite file"
            )
        local = base / parsed.database
        parsed = parsed.set(database=str(local))
    shown = shown_url(parsed) if local is None else shown_file(local, base)
    lock = None
    try:
        if local is not None:
            local.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(local.with_name(f"{local.name}.lock"), mode=0o666)
            with lock:
                _write_ahead(local)
                storage = _open(optuna, parsed, is_file=True)
        else:
            try:
                storage = _open(optuna, parsed, is_file=False)
            except DatabaseError:
                # Two processes that make the tables at once get into each other's way, once.
                time.sleep(random.uniform(0.5, 2.0))
                storage = _open(optuna, parsed, is_file=False)
    except (SQLAlchemyError, sqlite3.Error, OSError, ImportError, RuntimeError) as error:
        raise UserError(
            f"the storage {shown} cannot be opened ({_reason(error, parsed)})",
            where=where,
            allowed="a database that this machine reaches, with the package of its driver",
        ) from None
    return StudyPlace(storage, shown, lock)


def shown_file(path: Path, base: Path) -> str:
    """Return a SQLite file as a bundle may name it: from the manifest's directory, or by its name.

    Bundles name no directory of the machine that made them.
    """
    path, base = path.resolve(), base.resolve()
    name = path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name
    return f"{_SQLITE} {name}"


def _open(optuna: Any, url: Any, *, is_file: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # heartbeats are marked as experimental
        storage = optuna.storages.RDBStorage(
            url.render_as_string(hide_password=False),
            engine_kwargs=_engine(is_file),
            heartbeat_interval=HEARTBEAT_S,
            grace_period=4 * HEARTBEAT_S,
        )
    if is_file:
        from sqlalchemy import event

        event.listen(storage.engine, "connect", _sync_seldom)
        storage.engine.dispose()  # connections that were made before that
    return storage


def shown_url(url: Any) -> str:
    """Return a URL without user, password and query, each of which can hold a secret."""
    from sqlalchemy.engine import URL

    plain = URL.create(url.drivername, host=url.host, port=url.port, database=url.database)
    return str(plain.render_as_string(hide_password=True))


def _engine(is_file: bool) -> dict[str, Any]:
    if is_file:
        return {"connect_args": {"timeout": WAIT_FOR_DATABASE_S}}
    # A connection that a server or a firewall closed meanwhile is noticed and replaced.
    return {"pool_pre_ping": True}


def _write_ahead(path: Path) -> None:
    """Let readers and a writer of a SQLite file work side by side (https://sqlite.org/wal.html)."""
    with contextlib.closing(sqlite3.connect(path, timeout=WAIT_FOR_DATABASE_S)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _sync_seldom(connection: sqlite3.Connection, record: object) -> None:
    """Wait for the disk at checkpoints alone: a killed process loses nothing by that."""
    connection.execute("PRAGMA synchronous=NORMAL")


def _reason(error: Exception, url: Any) -> str:
    """Return the first line of an error, without what is secret."""
    text = (str(getattr(error, "orig", None) or error).splitlines() or [""])[0]
    for secret in (url.password, url.username, *_texts(url.query)):
        if secret:
            text = text.replace(str(secret), "***")
    return text or type(error).__name__


def _texts(query: Mapping[str, Any]) -> Iterator[str]:
    for value in query.values():
        yield from value if isinstance(value, (tuple, list)) else (str(value),)


class Claim:
    """Says of a process's trials whether it lives: a lock that the kernel frees with the process.

    Another machine cannot ask for it; Optuna's heartbeat says so there.
    """

    def __init__(self, cache_directory: Path) -> None:
        """Claim trials for this process."""
        self._directory = cache_directory / "search" / CLAIMS
        self._directory.mkdir(parents=True, exist_ok=True)
        self.name = uuid.uuid4().hex
        self._lock = FileLock(self._directory / f"{self.name}.lock")
        self._lock.acquire()
        self._place = hashlib.sha256(
            f"{socket.gethostname()}\0{self._directory.resolve()}".encode()
        ).hexdigest()[:16]

    def to_json(self) -> dict[str, str]:
        """Return what is kept with a trial: where its lock lies, in no words, and its name."""
        return {"place": self._place, "name": self.name}

    def is_dead(self, claim: object) -> bool:
        """Return whether a claim is known to be of a process that ended."""
        if not isinstance(claim, Mapping) or claim.get("place") != self._place:
            return False
        name = str(claim.get("name"))
        if name == self.name:
            return False
        path = self._directory / f"{name}.lock"
        if not path.exists():
            return True
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            return False
        lock.release()
        with contextlib.suppress(OSError):
            path.unlink()
        return True

    def release(self) -> None:
        """Free the claim; may be called again."""
        self._lock.release()
        with contextlib.suppress(OSError):
            (self._directory / f"{self.name}.lock").unlink()
