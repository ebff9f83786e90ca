"""Real bundles, signed with keys that every run of the tests makes from the same bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib
import json
from pathlib import Path

import pytest

from pytest_edgeai.digests import digest_files
from pytest_edgeai.promote.bundle import promote
from pytest_edgeai.promote.certificate import Provenance, certifier, predicate
from pytest_edgeai.promote.documents import describer
from pytest_edgeai.promote.dsse import parse, render, sign
from pytest_edgeai.promote.keys import SigningKey, read_signing_key
from pytest_edgeai.promote.verification import CERTIFICATE
from pytest_edgeai.records import Artifact, HostFacts, Recipe, Verdict
from pytest_edgeai.report.content import CandidateReport, HostReport, ModelReport, Report

with contextlib.suppress(ImportError):
    # pytester forgets what a test imported, and this package cannot be imported twice.
    importlib.import_module("cryptography.hazmat.primitives.serialization")
    importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519")

GATES = ("accuracy_retained", "speedup")
CREATED = datetime.datetime(2026, 11, 22, 3, 0, tzinfo=datetime.UTC)
NOW = CREATED + datetime.timedelta(hours=1)
HOST = HostFacts("box", "Linux 6.1", "x86_64", "V", "CPU A", 2, 8 * 2**30, ("avx2",), "", {})
REPORTS = {"report.json": '{"created": "1"}\n', "report.md": "≥\n"}


def verdict(gate: str) -> Verdict:
    return Verdict(gate, "pass", 2.0, (1.9, 2.1), 0.95, 1.5, "at_least", "ratio", 50, "Fine.")


def build(root: Path, content: bytes = b"weights") -> tuple[CandidateReport, ModelReport]:
    """Write an artifact of three files below ``root`` and return its records."""
    files = (root / "model.xml", root / "model.bin", root / "extra" / "tokens.txt")
    (root / "extra").mkdir(parents=True, exist_ok=True)
    files[0].write_bytes(b"<net/>")
    files[1].write_bytes(content * 1000)
    files[2].write_bytes(b"")
    artifact = Artifact(
        path=files[0],
        files=files,
        framework="openvino",
        claimed_precision="int8",
        sha256=digest_files(files, root),
        size_bytes=sum(file.stat().st_size for file in files),
        key="ab" * 32,
        from_cache=False,
        seconds=1.0,
        versions={"openvino": "2025.3.0"},
    )
    candidate = CandidateReport(
        id="openvino-int8-static",
        target="intel",
        recipe=Recipe("openvino", "int8-static"),
        artifact=artifact,
        stages=(),
        verdicts=tuple(verdict(gate) for gate in GATES),
        required_gates=GATES,
        promoted=False,
        promotion_blocked_by=(),
    )
    model = ModelReport(
        name="digits",
        sha256="d1" * 32,
        task="image-classification",
        baseline_framework="onnxruntime",
        baseline_path=Path("models/digits.onnx"),
        baseline_stage=None,
        candidates=(candidate,),
    )
    return candidate, model


def private_pem(seed: int = 1) -> bytes:
    """Return a private key in PEM; the test is skipped where nothing can make one."""
    pytest.importorskip("cryptography", reason='needs: pip install "pytest-edgeai[promote]"')
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(seed: int = 1) -> bytes:
    """Return the public key of the same pair in PEM."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(private_pem(seed), password=None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signing_key(seed: int = 1) -> SigningKey:
    """Return the pair."""
    text = private_pem(seed).decode("ascii")
    return read_signing_key(None, text, where="", variable="THE_VARIABLE")


def report_of(
    candidate: CandidateReport, model: ModelReport, created: datetime.datetime = CREATED
) -> Report:
    """Return the report of a session that had this candidate alone."""
    return Report(
        created=created.isoformat(timespec="seconds"),
        tool_version="0.1.0",
        hosts=(HostReport(HOST, candidate.target, False),),
        command=("--edge-target=intel",),
        settings={"budget": ("10.0", "--edge-budget")},
        models=(dataclasses.replace(model, candidates=(candidate,)),),
        evidence_directory=Path("evidence"),
        evidence_sha256="e1" * 32,
    )


PROVENANCE = Provenance(
    data={"evaluation": {"sha256": "da" * 32, "samples": 300}, "calibration": None},
    versions={"python": "3.11.7"},
    threads=1,
    allow_proxy=False,
)


def signed_bundle(
    root: Path,
    key: SigningKey | None = None,
    content: bytes = b"weights",
    *,
    name: str = "digits",
    days: int = 365,
    created: datetime.datetime = CREATED,
) -> Path:
    """Promote an artifact of ``content`` below ``root`` with a certificate; return the bundle."""
    candidate, model = build(root / "artifacts" / content.hex(), content)
    model = dataclasses.replace(model, name=name)
    assert candidate.artifact is not None
    signer = key or signing_key()
    certified = predicate(
        report_of(candidate, model, created),
        model,
        candidate,
        candidate.artifact,
        PROVENANCE,
        signer,
        days=days,
    )
    described = describer(
        report_of(candidate, model, created), model, candidate, candidate.artifact, PROVENANCE
    )
    return promote(
        candidate, model, REPORTS, root / "shelf", certifier(certified, signer), described
    )


def sign_again(bundle: Path, key: SigningKey, old: str, new: str) -> None:
    """Replace a part of what a certificate says, and sign that with ``key``."""
    certificate = bundle / CERTIFICATE
    payload = parse(certificate.read_bytes()).payload
    assert payload.count(old.encode()) >= 1
    changed = payload.replace(old.encode(), new.encode())
    json.loads(changed)
    certificate.write_bytes(render(sign(changed, key)))


def bundle_of(
    artifact: Artifact,
    directory: Path,
    *,
    target: str = "cross",
    task: str = "image-classification",
) -> Path:
    """Promote an artifact without a signature, with all its documents, and return the bundle."""
    candidate, model = build(directory.parent / "parts")
    candidate = dataclasses.replace(candidate, artifact=artifact, target=target, promoted=True)
    model = dataclasses.replace(model, task=task, candidates=(candidate,))
    describe = describer(report_of(candidate, model), model, candidate, artifact, PROVENANCE)
    return promote(candidate, model, REPORTS, directory, None, describe)
