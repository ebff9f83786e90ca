from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from promotions import signing_key

from pytest_edgeai.promote.dsse import Envelope, pae, parse, render, sign

KINDS = st.text(st.characters(codec="utf-8"))


def test_the_vector_of_the_specification() -> None:
    """https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md#test-vectors"""
    signed = pae("http://example.com/HelloWorld", b"hello world")
    assert signed == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_lengths_count_bytes() -> None:
    assert pae("é", b"\xff") == b"DSSEv1 2 \xc3\xa9 1 \xff"


@given(KINDS, st.binary(), KINDS, st.binary())
def test_two_messages_never_share_an_encoding(
    kind: str, payload: bytes, other_kind: str, other: bytes
) -> None:
    same = (kind, payload) == (other_kind, other)
    assert (pae(kind, payload) == pae(other_kind, other)) == same


@given(st.binary())
def test_what_was_signed_is_what_is_read(payload: bytes) -> None:
    key = signing_key()
    envelope = sign(payload, key)
    assert parse(render(envelope)) == envelope
    assert envelope.is_signed_by(key.public)
    assert not envelope.is_signed_by(signing_key(2).public)
    assert not Envelope(payload + b"x", envelope.keyid, envelope.signature).is_signed_by(key.public)


def test_the_signature_is_one_that_others_can_check() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = signing_key()
    content = json.loads(render(sign(b"{}", key)))
    Ed25519PublicKey.from_public_bytes(key.public.raw).verify(
        base64.b64decode(content["signatures"][0]["sig"]),
        b"DSSEv1 28 application/vnd.in-toto+json 2 {}",
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"payloadType": "text/plain", "payload": "", "signatures": []}',
        b'{"payloadType": "application/vnd.in-toto+json", "payload": "e30=", "signatures": []}',
        b'{"payloadType": "application/vnd.in-toto+json", "payload": 3, "signatures": [{}]}',
    ],
)
def test_what_is_no_envelope_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        parse(content)


def test_an_envelope_in_another_form_is_refused() -> None:
    content = render(sign(b"12345", signing_key()))
    raw = json.loads(content)
    assert raw["payload"].endswith("NDU=")
    for changed in (
        json.dumps(raw).encode(),
        content.replace(b'NDU="', b'NDV="'),  # a bit of base64 that no byte depends on
        content + b"\n",
        content.replace(b"{", b'{"payload": "", ', 1),
    ):
        with pytest.raises(ValueError, match="written by something else"):
            parse(changed)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"{", "it is no JSON"),
        (b"null", "it is no DSSE envelope with one signature"),
        (b"{}", "it is no DSSE envelope with one signature"),
        (b"[" * 100_000, "it is nested too deeply"),
    ],
)
def test_the_reason_is_in_our_words(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(content)
    assert str(caught.value) == reason
