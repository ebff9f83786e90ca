"""DSSE, the Dead Simple Signing Envelope, version 1.0.2, with one Ed25519 signature.

https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md and ``envelope.md`` beside it. A
payload is read only after its signature was verified, and from the very bytes that were.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from pytest_edgeai.promote.keys import PublicKey, SigningKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding, which is what is signed.

    ``"DSSEv1" SP LEN(type) SP type SP LEN(payload) SP payload``, lengths in bytes, as ASCII
    decimals.
    """
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True)
class Envelope:
    """A payload with its signature.

    Attributes:
        payload: the signed bytes.
        keyid: which key signed, as the envelope claims; not authenticated.
        signature: 64 bytes.
    """

    payload: bytes
    keyid: str
    signature: bytes

    def is_signed_by(self, key: PublicKey) -> bool:
        """Return whether ``key`` signed the payload."""
        return self.keyid == key.keyid and key.verifies(
            self.signature, pae(PAYLOAD_TYPE, self.payload)
        )


def sign(payload: bytes, key: SigningKey) -> Envelope:
    """Return the envelope of ``payload``."""
    return Envelope(payload, key.public.keyid, key.sign(pae(PAYLOAD_TYPE, payload)))


def render(envelope: Envelope) -> bytes:
    """Return the one JSON form that an envelope has here."""
    content = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(envelope.payload).decode("ascii"),
        "signatures": [
            {"keyid": envelope.keyid, "sig": base64.b64encode(envelope.signature).decode("ascii")}
        ],
    }
    return (json.dumps(content, indent=1) + "\n").encode("ascii")


def parse(content: bytes) -> Envelope:
    """Return the envelope that :func:`render` wrote.

    What a signature does not cover (spaces, the order of keys, unused bits of base64) has to be as
    :func:`render` writes it, so that no bit of the file can change unnoticed.

    Raises:
        ValueError: it is none, or was written in another way.
    """
    try:
        raw = json.loads(content)
        if not isinstance(raw, dict):
            raise ValueError("it is no DSSE envelope with one signature")
        if raw["payloadType"] != PAYLOAD_TYPE:
            raise ValueError(f"the payload is of type {raw['payloadType']!r}")
        (signed,) = raw["signatures"]
        envelope = Envelope(
            base64.b64decode(raw["payload"], validate=True),
            str(signed["keyid"]),
            base64.b64decode(signed["sig"], validate=True),
        )
        faithful = render(envelope) == content
    except json.JSONDecodeError:
        raise ValueError("it is no JSON" if content.strip() else "it is empty") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (KeyError, TypeError, UnicodeError, binascii.Error):
        raise ValueError("it is no DSSE envelope with one signature") from None
    if not faithful:
        raise ValueError("it was written by something else")
    return envelope
