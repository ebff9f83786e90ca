"""What a certificate says: an in-toto Statement, version 1, about the files of a bundle.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md. The subject is every file of
the bundle but the certificate itself; the predicate is ours and described in docs/promotion.md.
"""

from __future__ import annotations

import base64
import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # At run time it would import NumPy, which reading a certificate has no use for.
    from pytest_edgeai.records import JSON

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:pytest-edgeai:promotion"
SCHEMA_VERSION = 1
PREDICATE_TYPE = f"{PREDICATE}:{SCHEMA_VERSION}"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Statement:
    """A certificate's content, as far as it was understood.

    Attributes:
        files: name in the bundle, in POSIX form, to hex SHA-256.
        model: name of the model.
        target: name of the target.
        candidate: id of the candidate.
        artifact_sha256: digest over the artifact's files.
        created: when it was signed.
        expires: from when on it is no longer valid.
        public_key: the raw key that the signer names as its own.
        predicate: everything that it says.
    """

    files: Mapping[str, str]
    model: str
    target: str
    candidate: str
    artifact_sha256: str
    created: datetime.datetime
    expires: datetime.datetime
    public_key: bytes
    predicate: Mapping[str, JSON]


def render_statement(files: Mapping[str, str], predicate: Mapping[str, JSON]) -> bytes:
    """Return the payload of a certificate; the same content gives the same bytes.

    Args:
        files: name in the bundle to hex SHA-256.
        predicate: plain JSON values, every number finite.
    """
    content = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": files[name]}} for name in sorted(files)],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def parse_statement(payload: bytes) -> Statement:
    """Return what a certificate says.

    Raises:
        ValueError: it is no certificate, is of a newer schema, or names a path outside of its
            bundle.
    """
    try:
        content = json.loads(payload)
        if not isinstance(content, dict):
            raise ValueError("what is signed is no in-toto statement")
        _check_type(content["_type"], content["predicateType"])
        predicate = content["predicate"]
        files: dict[str, str] = {}
        for subject in content["subject"]:
            name, sha256 = subject["name"], subject["digest"]["sha256"]
            _check_name(name)
            if name in files or not _SHA256.fullmatch(sha256):
                raise ValueError(f"it names {name!r} twice or without a SHA-256")
            files[name] = sha256
        return Statement(
            files=files,
            model=_text(predicate["model"]["name"]),
            target=_text(predicate["candidate"]["target"]),
            candidate=_text(predicate["candidate"]["id"]),
            artifact_sha256=_text(predicate["candidate"]["artifact"]["sha256"]),
            created=_time(predicate["created"]),
            expires=_time(predicate["expires"]),
            public_key=base64.b64decode(predicate["signer"]["public_key"], validate=True),
            predicate=predicate,
        )
    except json.JSONDecodeError:
        raise ValueError("what is signed is no JSON") from None
    except RecursionError:
        raise ValueError("what is signed is nested too deeply") from None
    except KeyError as error:
        raise ValueError(f"the part {error} is missing") from None
    except (TypeError, AttributeError, UnicodeError):
        raise ValueError("a part is of another kind than it may be") from None


def _check_type(kind: str, predicate_type: str) -> None:
    if kind != STATEMENT_TYPE:
        raise ValueError(f"it is {kind!r} and no in-toto statement of version 1")
    name, _, version = predicate_type.rpartition(":")
    if name == PREDICATE and version.isdecimal() and int(version) > SCHEMA_VERSION:
        raise ValueError(
            f"it is of schema {version}, and this version of pytest-edgeai knows {SCHEMA_VERSION}; "
            "verify it with a newer one"
        )
    if predicate_type != PREDICATE_TYPE:
        raise ValueError(f"it states {predicate_type!r} and not {PREDICATE_TYPE!r}")


def _check_name(name: str) -> None:
    parts = name.split("/")
    if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"it names {name!r}, which is no path inside of the bundle")


def _text(value: JSON) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is no name")
    return value


def _time(value: JSON) -> datetime.datetime:
    time = datetime.datetime.fromisoformat(_text(value))
    if time.tzinfo is None:
        raise ValueError(f"{value!r} is a time without its offset from UTC")
    return time
