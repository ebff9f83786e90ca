"""Names of people's choosing as path components that every file system takes."""

from __future__ import annotations

import hashlib
import re
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


_MOST_CHARACTERS = 128
# Between two characters that need no escape; two of them in a row would part names.
_PLAIN = re.compile(r"(?<=[A-Za-z0-9])[-._](?=[A-Za-z0-9])|[A-Ya-z0-9]")


def reference_name(*names: str) -> str:
    """Return names of people's choosing as one reference, such as ``current--digits--intel``.

    It fits the grammar of ``org.opencontainers.image.ref.name``
    (https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md), that of tags
    (https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests) and
    what MLflow takes for the name of a model. Different names give different references: ``Z`` and
    what the grammars do not take is written as ``Z`` and two hexadecimal digits a byte; what would
    get too long, as ``Zh`` and its digest.

    Args:
        names: each at least one character.

    Raises:
        UserError: for an empty name.
    """
    if not all(names):
        raise UserError("an empty name cannot be promoted")
    reference = "--".join(map(_escaped, names))
    if len(reference) > _MOST_CHARACTERS:
        digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()
        return f"{names[0][:8] if names[0].isalnum() and names[0].isascii() else 'Z'}--Zh{digest}"
    return reference


def _escaped(name: str) -> str:
    kept = {found.start() for found in _PLAIN.finditer(name)}
    return "".join(
        character
        if position in kept
        else "".join(f"Z{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
        for position, character in enumerate(name)
    )
