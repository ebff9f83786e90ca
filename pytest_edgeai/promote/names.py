"""Names of people's choosing as path components that every file system takes."""

from __future__ import annotations

from urllib.parse import quote

from pytest_edgeai.errors import UserError

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)}


def portable_name(name: str) -> str:
    """Return ``name`` as one path component that every file system takes.

    Everything but ASCII letters, digits, ``_``, ``-`` and inner dots is percent-encoded, so that
    only names that differ in case alone can meet, on a file system that ignores case.

    Raises:
        UserError: for an empty name.
    """
    if not name:
        raise UserError("an empty name cannot be promoted")
    safe = quote(name, safe="", errors="surrogatepass").replace("~", "%7E")
    if safe[0] == ".":
        safe = "%2E" + safe[1:]
    if safe[-1] == ".":
        safe = safe[:-1] + "%2E"
    if safe.partition(".")[0].lower() in _RESERVED:
        safe = f"%{ord(safe[0]):02X}{safe[1:]}"
    return safe
