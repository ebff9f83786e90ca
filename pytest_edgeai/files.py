"""Write files whole or not at all, and say clearly why where it cannot be done."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from pytest_edgeai.errors import UserError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace ``path`` with ``content``; a reader or a crash sees the old file or the new one.

    Raises:
        UserError: the place cannot be written; says why. The old file is untouched.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary: str | None = None
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise cannot_write(path, error) from None


def append_text(path: Path, text: str) -> None:
    """Append UTF-8 text to a file that another program owns, such as ``$GITHUB_STEP_SUMMARY``.

    Raises:
        UserError: the file cannot be written; says why.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> UserError:
    """Return the user's line for an ``OSError`` met while writing ``path``."""
    advice = {
        errno.ENOSPC: "Free some space, or choose another place",
        errno.EDQUOT: "Free some space, or choose another place",
        errno.EROFS: "Choose a place that can be written",
        errno.EACCES: "Choose a place that can be written",
        errno.EPERM: "Choose a place that can be written",
    }.get(error.errno or 0, "")
    return UserError(f"cannot be written ({error.strerror or error})", where=str(path), advice=advice)


def check_writable_directory(directory: Path, where: str) -> None:
    """Create ``directory`` and prove that a file can be written there.

    Raises:
        UserError: it cannot; names ``where`` the directory was chosen.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".probe-"):
            pass
    except OSError as error:
        problem = cannot_write(directory, error)
        raise UserError(
            f'"{directory}" {problem.what}',
            where=where,
            allowed="a directory that can be written",
            advice=problem.advice,
        ) from None


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
