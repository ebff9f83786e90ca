"""``index.json`` of an OCI layout, changed without decoding the thousands of lines that stay.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md. It is written with a line
for each descriptor; what another tool wrote in another way is brought into that form first.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REFERENCE = "org.opencontainers.image.ref.name"
_HEAD_ENDS = b'"manifests": [\n'
_TAIL = b"\n]}\n"


class Index:
    """An index as it is on the disk.

    Attributes:
        head: everything but the descriptors.
    """

    def __init__(self, content: bytes) -> None:
        """Read an index.

        Raises:
            ValueError: it is none.
        """
        if not _is_lines(content):
            content = render_index(_decoded(content))
        size = content.index(_HEAD_ENDS) + len(_HEAD_ENDS)
        self.head: Mapping[str, Any] = _decoded(content[:size] + _TAIL.lstrip())
        self._start = content[:size]
        # Each line, with a line feed before and after it.
        self._lines = b"\n" + content[size : -len(_TAIL)] + b"\n"

    def find(self, name: str, value: str) -> Mapping[str, Any] | None:
        """Return the first descriptor with an annotation; ``None`` where there is none.

        Raises:
            ValueError: a line cannot be decoded.
        """
        return next((each for _, each in self._found(name, value)), None)

    def annotations(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Yield the annotations of the descriptors that have one of a name.

        Raises:
            ValueError: a line cannot be decoded.
        """
        mark = json.dumps(name).encode("ascii")
        for line in self._lines.split(b"\n"):
            if mark in line:
                descriptor = json.loads(line.rstrip(b","))
                if _annotation(descriptor, name) is not None:
                    yield descriptor["annotations"]

    def _found(self, name: str, value: str) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
        """Yield the descriptors with an annotation, each with its line."""
        wanted = json.dumps({name: value}, separators=(",", ":"))[1:-1].encode("ascii")
        at = self._lines.find(wanted)
        while at >= 0:
            begin, end = self._lines.rindex(b"\n", 0, at) + 1, self._lines.index(b"\n", at)
            line = self._lines[begin:end]
            descriptor = json.loads(line.rstrip(b","))
            # It may stand elsewhere in what others wrote.
            if _annotation(descriptor, name) == value:
                yield line, descriptor
            at = self._lines.find(wanted, end)

    def changed(self, removed: Collection[str], added: Sequence[Mapping[str, Any]]) -> bytes:
        """Return the index without the descriptors of some references, and with others at its end.

        Args:
            removed: values of :data:`REFERENCE`.
            added: at least one descriptor.

        Raises:
            ValueError: a line cannot be decoded.
        """
        kept = self._lines
        for reference in removed:
            for line, _ in self._found(REFERENCE, reference):
                kept = kept.replace(b"\n" + line + b"\n", b"\n", 1)
        lines = kept.strip(b"\n").rstrip(b",")
        new = b",\n".join(map(_line, added))
        return self._start + lines + (b",\n" if lines else b"") + new + _TAIL


def render_index(index: Mapping[str, Any]) -> bytes:
    """Return an index with a line for each descriptor; whatever else it holds is kept."""
    head = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        **{name: value for name, value in index.items() if name != "manifests"},
    }
    lines = b",\n".join(map(_line, index["manifests"]))
    return json.dumps(head)[:-1].encode("ascii") + b", " + _HEAD_ENDS + lines + _TAIL


def _line(descriptor: Any) -> bytes:
    return json.dumps(descriptor, separators=(",", ":")).encode("ascii")


def _is_lines(content: bytes) -> bool:
    """Return whether an index has the form of :func:`render_index`, as far as can be seen."""
    begin = content.find(b"\n") + 1
    return content[:begin].endswith(_HEAD_ENDS) and content.endswith(_TAIL)


def _decoded(content: bytes) -> Mapping[str, Any]:
    """Return an index.

    Raises:
        ValueError: it is none.
    """
    try:
        index = json.loads(content)
        whole = isinstance(index["manifests"], list)
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise ValueError("it is no index of OCI")
    found: Mapping[str, Any] = index
    return found


def _annotation(descriptor: Any, name: str) -> Any:
    named = descriptor.get("annotations") if isinstance(descriptor, Mapping) else None
    return named.get(name) if isinstance(named, Mapping) else None
