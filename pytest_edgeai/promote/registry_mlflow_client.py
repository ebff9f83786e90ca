"""MLflow itself: imported here and nowhere else, quiet, and with its errors as one line each."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pytest_edgeai.errors import EdgeAIError, UserError

INSTALL = 'pip install "pytest-edgeai[mlflow]"'
URIS = "mlflow:sqlite:///FILE, mlflow:http://HOST:PORT or the URI of another database"
# https://mlflow.org/docs/latest/api_reference/python_api/mlflow.environment_variables.html:
# nothing is sent to anybody but the server, and one that is not there is given up on soon.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
_LIBRARIES = ("mlflow", "alembic", "sqlalchemy", "urllib3")


def masked(uri: str) -> str:
    """Return a URI without its password."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    user = f"{parts.username}:***@" if parts.username else "***@"
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{user}{parts.hostname}{port}"))


def client_of(uri: str, *, create: bool) -> tuple[Any, Any, str | None]:
    """Return a client of MLflow, its module of artifacts, and where new artifacts go.

    Args:
        uri: of its server or its database.
        create: make the database where it is a file that does not exist.

    Returns:
        For the artifacts ``None`` where MLflow decides.

    Raises:
        UserError: MLflow is not installed, or ``uri`` leads to none.
    """
    place = f"mlflow:{masked(uri)}"
    if "://" not in uri:
        raise UserError(
            "is no URI; a directory of files cannot number two promotions at once",
            where=place,
            allowed=URIS,
        )
    if uri.startswith("file:"):
        raise UserError(
            "is a directory of files, which cannot number two promotions at once",
            where=place,
            allowed=URIS,
        )
    file = _sqlite_file(uri)
    if file is not None:
        _check_database(file, place, create=create)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.ERROR)
    with as_one_line(place, "MLflow cannot be used"):
        try:
            mlflow: Any = importlib.import_module("mlflow")
            artifacts: Any = importlib.import_module("mlflow.artifacts")
            if not uri.startswith("http"):
                importlib.import_module("sqlalchemy")
                importlib.import_module("alembic")
        except ImportError as error:
            raise UserError(
                f"a registry in MLflow needs the package {error.name}", advice=f"run: {INSTALL}"
            ) from None
        # It sets the level itself when it is imported.
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    root = None if file is None else file.with_name(f"{file.stem}-artifacts").as_uri()
    return client, artifacts, root


def _sqlite_file(uri: str) -> Path | None:
    scheme, _, rest = uri.partition("://")
    if scheme.partition("+")[0] != "sqlite":
        return None
    # sqlite:///relative and sqlite:////absolute, as SQLAlchemy has them.
    path = rest.removeprefix("/").partition("?")[0]
    if not path or path == ":memory:":
        raise UserError("names no file", where=f"mlflow:{uri}", allowed=URIS)
    return Path(path).absolute()


def _check_database(file: Path, place: str, *, create: bool) -> None:
    """Refuse a file that is no database of MLflow, which would add its tables to any.

    Raises:
        UserError: it is none, or does not exist and is not to be made.
    """
    if not file.exists():
        if not create:
            raise UserError("does not exist", where=place, allowed=URIS)
        if not file.parent.is_dir():
            raise UserError(f"there is no directory {file.parent}", where=place)
        return
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {name for (name,) in rows}
    except sqlite3.Error as error:
        raise UserError(f"cannot be read: {error}", where=place, allowed=URIS) from None
    if "registered_models" not in tables and (tables or not create):
        raise UserError("is no database of MLflow", where=place, allowed=URIS)


@contextlib.contextmanager
def as_one_line(place: str, what: str) -> Iterator[None]:
    """Turn whatever MLflow raises into one line, and keep its warnings to itself.

    Args:
        place: the registry.
        what: what the error means for the caller.

    Raises:
        UserError: in place of any exception inside of the block that is not ours already.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except EdgeAIError:
        raise
    except Exception as error:
        # Each of its stores raises what its driver does: of SQL, HTTP, or a cloud.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        # Some repeat the URI, and with it the password.
        line = re.sub(r"://[^/@\s]+@", "://***@", lines[0])
        raise UserError(f"{what}: {line[:300]}", where=place) from None
