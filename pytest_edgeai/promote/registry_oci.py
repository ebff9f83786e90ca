"""A registry as an OCI image layout, which ``oras``, ``skopeo`` and registries of containers read.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md, ``image-index.md`` and
``manifest.md`` beside it. Each bundle is an artifact: a manifest without a configuration whose
layers are the files of the bundle as they are, each under its name in
``org.opencontainers.image.title``, as ORAS lays out files. ``index.json`` is what names the
artifacts, so a change takes effect when that file is renamed into place.

::

    oci-layout, index.json           mark the directory
    blobs/sha256/<digest>            files and manifests by content address, never changed
    log.jsonl, staging/              as in every registry; no part of the OCI layout
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_edgeai.errors import UserError
from pytest_edgeai.promote.names import reference_name
from pytest_edgeai.promote.oci_index import REFERENCE, Index, render_index
from pytest_edgeai.promote.registry_layout import (
    SCHEMA,
    check_is_there,
    check_schema,
    no_registry,
)
from pytest_edgeai.promote.registry_log import (
    NOWHERE,
    Damaged,
    Entry,
    Pair,
    Place,
    current_and_previous,
    digest_of,
)

if TYPE_CHECKING:
    from pytest_edgeai.promote.statement import Statement
    from pytest_edgeai.promote.verification import Verified

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.pytest-edgeai.bundle.v1"
# https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidance-for-an-empty-descriptor
EMPTY = b"{}"
EMPTY_DESCRIPTOR = {
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": f"sha256:{hashlib.sha256(EMPTY).hexdigest()}",
    "size": len(EMPTY),
}
TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"
_OWN = "pytest-edgeai."
_SCHEMA, _BUNDLE = _OWN + "schema", _OWN + "bundle"
_SEQUENCE, _ENTRY = _OWN + "sequence", _OWN + "entry"
_MODEL, _TARGET, _CANDIDATE = _OWN + "model", _OWN + "target", _OWN + "candidate"
_TYPES = {
    "certificate.json": "application/vnd.dsse.envelope.v1+json",
    "bom.cdx.json": "application/vnd.cyclonedx+json",
}
_TYPE_OF_SUFFIX = {".json": "application/json", ".md": "text/markdown", ".xml": "application/xml"}
_SHA256 = re.compile("sha256:([0-9a-f]{64})")


class OciLayout:
    """``oci-layout``, ``index.json`` and ``blobs/``."""

    unfinished: tuple[str, ...] = ("index.json", "blobs")

    def __init__(self, directory: Path) -> None:
        """Use the files below ``directory``."""
        self.directory = directory
        self._seen: tuple[bytes, Index] | None = None
        self._filled: dict[str, dict[str, Any]] = {}

    @property
    def _index_path(self) -> Path:
        return self.directory / "index.json"

    def _blob(self, digest: str) -> Path:
        return self.directory / "blobs" / "sha256" / digest

    def check(self) -> None:
        """See :class:`~pytest_edgeai.promote.registry_layout.Layout`."""
        path = self.directory / "oci-layout"
        check_is_there(self.directory)
        try:
            version = json.loads(path.read_bytes())["imageLayoutVersion"]
            labels = self._index().head.get("annotations")
        except FileNotFoundError as error:
            missing = Path(os.fsdecode(error.filename)).name
            raise no_registry(self.directory, f"it has no {missing}") from None
        except OSError as error:
            raise UserError(
                f"cannot be read: {error.strerror}", where=str(error.filename)
            ) from None
        except (ValueError, KeyError, TypeError):
            raise UserError(
                "does not mark an OCI layout", where=str(path), allowed="imageLayoutVersion 1.0.0"
            ) from None
        if version != "1.0.0":
            raise UserError(
                f"is of version {version}", where=str(path), allowed="imageLayoutVersion 1.0.0"
            )
        if not isinstance(labels, dict):
            raise no_registry(self.directory, "it is an OCI layout of something else")
        check_schema(labels.get(_SCHEMA), self._index_path)

    def mark(self) -> None:
        """See :class:`~pytest_edgeai.promote.registry_layout.Layout`."""
        from pytest_edgeai.files import write_atomically

        (self.directory / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        index = render_index({"annotations": {_SCHEMA: SCHEMA}, "manifests": []})
        write_atomically(self._index_path, index)
        write_atomically(self.directory / "oci-layout", '{"imageLayoutVersion": "1.0.0"}\n')

    def _index(self) -> Index:
        """Return ``index.json``.

        Raises:
            Damaged: it is none.
            OSError: it cannot be read.
        """
        content = self._index_path.read_bytes()
        if self._seen is None or self._seen[0] != content:
            try:
                self._seen = content, Index(content)
            except ValueError as error:
                raise Damaged(f"{self._index_path} is damaged: {error}") from None
        return self._seen[1]

    def pointed(self, pair: Pair) -> Place:
        """See :class:`~pytest_edgeai.promote.registry_layout.Layout`."""
        try:
            found = self._index().find(REFERENCE, reference_name("current", *pair))
            return NOWHERE if found is None else _place(found["annotations"])
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{self._index_path} is damaged: {error}") from None

    def pointers(self) -> Mapping[Pair, Place]:
        """See :class:`~pytest_edgeai.promote.registry_layout.Layout`."""
        found: dict[Pair, Place] = {}
        try:
            for named in self._index().annotations(_SEQUENCE):
                pair = named[_MODEL], named[_TARGET]
                if named.get(REFERENCE) == reference_name("current", *pair):
                    found[pair] = _place(named)
        except (ValueError, KeyError, TypeError, UserError) as error:
            raise Damaged(f"{self._index_path} is damaged: {error}") from None
        return found

    def pointer(self, pair: Pair) -> Path:
        """See :class:`~pytest_edgeai.promote.registry_layout.Layout`."""
        return self._index_path

    def point(self, entry: Entry, stack: Sequence[Entry]) -> None:
        """See :class:`~pytest_edgeai.promote.registry_layout.Layout`."""
        from pytest_edgeai.files import write_atomically

        named = [
            {
                REFERENCE: reference_name(name, *entry.pair),
                _BUNDLE: each.bundle,
                _SEQUENCE: str(entry.sequence if name == "current" else each.sequence),
                _ENTRY: digest_of(entry if name == "current" else each),
                _MODEL: each.model,
                _TARGET: each.target,
                _CANDIDATE: each.candidate,
            }
            for name, each in current_and_previous(stack).items()
            if each is not None
        ]
        # Keeps what is neither current nor previous from being collected as garbage.
        named.append({REFERENCE: f"bundle-{entry.bundle}", _BUNDLE: entry.bundle})
        replaced = {each[REFERENCE] for each in named} | {reference_name("previous", *entry.pair)}
        manifests = {
            digest: self._filled.get(digest) or self._manifest(digest)
            for digest in {each[_BUNDLE] for each in named}
        }
        added = [{**manifests[each[_BUNDLE]], "annotations": each} for each in named]
        write_atomically(self._index_path, self._index().changed(replaced, added))

    def _manifest(self, digest: str) -> Mapping[str, Any]:
        """Return the descriptor of the manifest of a bundle, without annotations.

        Raises:
            UserError: the bundle is not there.
        """
        found = self._index().find(_BUNDLE, digest)
        if found is None:
            raise UserError(f"bundle {digest} is not there", where=str(self._index_path))
        return {name: value for name, value in found.items() if name != "annotations"}

    def holds(self, digest: str) -> bool:
        """See :class:`~pytest_edgeai.promote.registry_layout.Layout`."""
        return self._index().find(_BUNDLE, digest) is not None

    def location(self, digest: str) -> Path:
        """Return the manifest of a bundle."""
        return self._blob(_hex(self._manifest(digest), self._index_path))

    def _layers(self, digest: str) -> dict[str, Mapping[str, Any]]:
        """Return the descriptors of the files of a bundle by their names.

        Raises:
            Rejected: its manifest was changed.
            UserError: it cannot be read.
        """
        from pytest_edgeai.promote.verification import Rejected

        path = self.location(digest)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise Rejected(f"{path} is missing") from None
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from None
        if hashlib.sha256(content).hexdigest() != path.name:
            raise Rejected(f"{path} was changed")
        try:
            layers = {each["annotations"][TITLE]: each for each in json.loads(content)["layers"]}
        except (ValueError, KeyError, TypeError) as error:
            raise Rejected(f"{path}: it is no manifest of a bundle ({error})") from None
        return layers

    def check_whole(self, digest: str) -> None:
        """See :class:`~pytest_edgeai.promote.registry_layout.Layout`."""
        from pytest_edgeai.digests import digest_file
        from pytest_edgeai.promote.verification import Rejected, bundle_digest

        self.check_present(digest)
        layers = self._layers(digest)
        for name, each in layers.items():
            blob = self._blob(_hex(each, self._index_path))
            if digest_file(blob) != blob.name:
                raise Rejected(f"{name} was changed: {blob}")
        if bundle_digest({name: _hex(each, Path()) for name, each in layers.items()}) != digest:
            raise Rejected(f"{self.location(digest)}: it is another bundle")

    def check_present(self, digest: str) -> None:
        """See :class:`~pytest_edgeai.promote.registry_layout.Layout`."""
        from pytest_edgeai.promote.verification import CERTIFICATE, Rejected

        layers = self._layers(digest)
        # The names in a certificate were seen to stay inside of the bundle.
        if {*layers} != {*self.statement(digest).files, CERTIFICATE}:
            raise Rejected(f"{self.location(digest)}: it names other files than its {CERTIFICATE}")
        for name, each in layers.items():
            blob = self._blob(_hex(each, self._index_path))
            if not blob.is_file() or blob.is_symlink() or blob.stat().st_size != each["size"]:
                raise Rejected(f"{name} is missing: {blob}")

    def fill(self, place: Path, bundle: Path, verified: Verified) -> None:
        """See :class:`~pytest_edgeai.promote.registry_layout.Layout`."""
        from pytest_edgeai.digests import digest_file
        from pytest_edgeai.files import sync_directory, write_durably
        from pytest_edgeai.promote.registry_files import copy_durably
        from pytest_edgeai.promote.verification import CERTIFICATE, Rejected, bundle_digest

        sizes: dict[str, int] = {}
        digests: dict[str, str] = {}
        for name in sorted([*verified.statement.files, CERTIFICATE]):
            copy = place / "copy"
            copy_durably(bundle / name, copy)
            if copy.is_symlink():
                raise Rejected(f"{bundle}: it changed while it was copied")
            digests[name], sizes[name] = digest_file(copy), copy.stat().st_size
            copy.replace(place / digests[name])
        if bundle_digest(digests) != verified.digest:
            raise Rejected(f"{bundle}: it changed while it was copied")
        manifest = render_manifest(verified, digests, sizes)
        descriptor = _descriptor(MANIFEST_TYPE, manifest)
        for content in (EMPTY, manifest):
            blob = place / hashlib.sha256(content).hexdigest()
            blob.unlink(missing_ok=True)
            write_durably(blob, content)
        sync_directory(place)
        self._filled[verified.digest] = {**descriptor, "artifactType": ARTIFACT_TYPE}

    def adopt(self, place: Path, digest: str) -> None:
        """See :class:`~pytest_edgeai.promote.registry_layout.Layout`."""
        from pytest_edgeai.files import sync_directory

        for blob in sorted(place.iterdir()):
            blob.replace(self._blob(blob.name))
        sync_directory(self._blob("").parent)

    def statement(self, digest: str) -> Statement:
        """See :class:`~pytest_edgeai.promote.registry_layout.Layout`."""
        from pytest_edgeai.promote.dsse import parse
        from pytest_edgeai.promote.statement import parse_statement
        from pytest_edgeai.promote.verification import CERTIFICATE, Rejected

        layers = self._layers(digest)
        if CERTIFICATE not in layers:
            raise Rejected(f"{self.location(digest)}: it has no {CERTIFICATE}")
        path = self._blob(_hex(layers[CERTIFICATE], self._index_path))
        try:
            return parse_statement(parse(path.read_bytes()).payload)
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from None
        except ValueError as error:
            raise Rejected(f"{path}: {error}") from None

    def unpack(self, digest: str, place: Path) -> None:
        """See :class:`~pytest_edgeai.promote.registry_layout.Layout`."""
        from pytest_edgeai.promote.registry_files import copy_durably

        self.check_present(digest)
        for name, each in self._layers(digest).items():
            destination = place / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            copy_durably(self._blob(_hex(each, self._index_path)), destination)


def render_manifest(
    verified: Verified, digests: Mapping[str, str], sizes: Mapping[str, int]
) -> bytes:
    """Return the manifest of a bundle; the same bundle gives the same bytes.

    Args:
        verified: the bundle.
        digests: hex SHA-256 of each of its files, by name.
        sizes: likewise, the size in bytes.
    """
    statement = verified.statement
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": EMPTY_DESCRIPTOR,
        "layers": [
            {
                "mediaType": _media_type(name),
                "digest": f"sha256:{digests[name]}",
                "size": sizes[name],
                "annotations": {TITLE: name},
            }
            for name in sorted(digests)
        ],
        "annotations": {
            CREATED: statement.created.isoformat(),
            TITLE: f"{statement.model} {statement.candidate} for {statement.target}",
            _BUNDLE: verified.digest,
            _MODEL: statement.model,
            _TARGET: statement.target,
            _CANDIDATE: statement.candidate,
        },
    }
    return json.dumps(content, separators=(",", ":")).encode("ascii")


def _place(annotations: Mapping[str, Any]) -> Place:
    # The digest is missing in what was written before tags held it.
    bundle, digest = annotations[_BUNDLE], annotations.get(_ENTRY, "")
    return Place(int(annotations[_SEQUENCE]), str(bundle), str(digest))


def _media_type(name: str) -> str:
    suffix = Path(name).suffix
    return _TYPES.get(name) or _TYPE_OF_SUFFIX.get(suffix, "application/octet-stream")


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _hex(descriptor: Mapping[str, Any], where: Path) -> str:
    """Return the digest that a descriptor names.

    Raises:
        Damaged: it names none, or one of another algorithm.
    """
    found = _SHA256.fullmatch(str(descriptor.get("digest")))
    if found is None:
        raise Damaged(f"{where} is damaged: {descriptor.get('digest')!r} is no SHA-256")
    return found[1]
