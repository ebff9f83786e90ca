"""Write files whole or not at all, and say clearly why where it cannot be done."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pytest_edgeai.errors import UserError

LOCK_DIRECTORY_VARIABLE = "PYTEST_EDGEAI_LOCK_DIR"
"""Names the directory of the machine-wide measurement lock. It is no setting: it says nothing about
what is measured, and must be known before there are settings."""

_ADVICE = {
    errno.ENOSPC: "Free some space or choose another disk",
    errno.EDQUOT: "Free some space or choose another disk",
    errno.EACCES: "Choose a path that you may write to",
    errno.EPERM: "Choose a path that you may write to",
    errno.EROFS: "Choose a path on a disk that can be written to",
}


def cannot_write(path: Path, error: OSError) -> UserError:
    """Return the error a user gets for a failed write to ``path``."""
    what = f"cannot be written: {error.strerror or error}"
    if error.filename and Path(os.fsdecode(error.filename)) != path:
        what += f" ({os.fsdecode(error.filename)})"
    return UserError(what, where=str(path), advice=_ADVICE.get(error.errno or 0, ""))


def _encode(text: str) -> bytes:
    """Return UTF-8; what UTF-8 cannot carry (undecodable bytes of a file name) is escaped."""
    return text.encode("utf-8", "backslashreplace")


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable, where the system can (not on Windows).

    Raises:
        OSError: where the directory cannot be opened.
    """
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems have no fsync for directories.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk.

    Raises:
        OSError: where it exists already or cannot be written.
    """
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace ``path`` with ``content``: readers find the old or the new content, never a part.

    Text is written in UTF-8.

    Parents are created, permissions of an existing file are kept, symbolic links are followed. What
    is no regular file (``/dev/stdout``, a pipe) is written to as it is.

    Raises:
        UserError: where ``path`` is a directory, is not writable, or the disk is full.
    """
    data = _encode(content) if isinstance(content, str) else content
    try:
        real = path.resolve()
        mode = real.stat().st_mode if real.exists() else None
        if mode is not None and stat.S_ISDIR(mode):
            raise UserError("is a directory", where=str(path), allowed="the path of a file")
        if mode is not None and not stat.S_ISREG(mode):
            with path.open("ab") as stream:
                stream.write(data)
            return
        if mode is not None and not os.access(real, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        real.parent.mkdir(parents=True, exist_ok=True)
        temporary = real.parent / f".tmp-{os.getpid()}-{secrets.token_hex(6)}"
        try:
            write_durably(temporary, data)
            if mode is not None:
                temporary.chmod(stat.S_IMODE(mode))
            temporary.replace(real)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_directory(real.parent)
    except (OSError, RuntimeError) as error:
        raise _wrapped(path, error) from None


def _wrapped(path: Path, error: OSError | RuntimeError) -> UserError:
    # Path.resolve() reports a loop of symbolic links as RuntimeError before Python 3.13.
    if isinstance(error, OSError):
        return cannot_write(path, error)
    return UserError(f"cannot be written: {error}", where=str(path))


def expand_home(text: str) -> Path:
    """Return a path with ``~`` expanded; as it is where there is no such user or no home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def append_text(path: Path, text: str) -> None:
    """Append ``text`` in UTF-8 to ``path``, which is created with its parents where missing.

    Raises:
        UserError: where ``path`` is a directory, is not writable, or the disk is full.
    """
    try:
        if path.is_dir():
            raise UserError("is a directory", where=str(path), allowed="the path of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            stream.write(_encode(text))
    except OSError as error:
        raise cannot_write(path, error) from None


def write_markdown(text: str, path: Path | None, environment: Mapping[str, str]) -> None:
    """Write the Markdown report to ``path``, if any, and to the summary of a GitHub Actions job.

    ``GITHUB_STEP_SUMMARY`` names the file that GitHub shows; it is appended to, because other steps
    write there too:
    https://docs.github.com/actions/reference/workflow-commands-for-github-actions#adding-a-job-summary

    Raises:
        UserError: where one of them cannot be written.
    """
    if path is not None:
        write_atomically(path, text)
    summary = environment.get("GITHUB_STEP_SUMMARY", "")
    if summary:
        append_text(Path(summary), text)


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
