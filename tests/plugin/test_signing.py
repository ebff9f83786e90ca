"""A promotion is signed, verified by a stranger, registered, and undone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from edge_runs import CANDIDATE, GATES, QUICK, Place
from promotions import private_pem, public_pem

HOME = f"promoted/linear/cross/{CANDIDATE}"
PROMOTE = "--edge-promote=promoted"
SIGN = "--edge-signing-key=key.pem"
VARIABLE = "PYTEST_EDGEAI_SIGNING_KEY_PEM"


def console(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``pytest-edgeai`` as a user would, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest_edgeai", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def write_keys(folder: Path) -> None:
    key = folder / "key.pem"
    key.write_bytes(private_pem())
    key.chmod(0o600)
    (folder / "key.pem.pub").write_bytes(public_pem())


def bundle_of(place: Path) -> Path:
    current = json.loads((place / HOME / "current.json").read_text("utf-8"))
    return place / HOME / str(current["bundle"])


def test_a_promotion_is_signed_verified_registered_and_undone(place: Place) -> None:
    manifest = place.write()
    (place.path / "COPYING").write_text("Do as you like.\n", encoding="utf-8")
    stated = '[models."linear"]\nlicense = "MIT"\nlicense_file = "COPYING"\n'
    manifest.write_text(manifest.read_text("utf-8").replace('[models."linear"]\n', stated), "utf-8")
    write_keys(place.path)
    here = place.path
    run = place.run(PROMOTE, SIGN, "--edge-threshold=speedup=0.02")
    assert run.code == 0, run.text
    assert "not signed" not in run.text
    bundle = bundle_of(here)
    assert (bundle / "LICENSE").read_text("utf-8") == "Do as you like.\n"
    reference = json.loads((bundle / "reference.json").read_text("utf-8"))
    assert reference["samples"] == 600
    assert list(reference["outputs"]["logits"]["class_shares"]) == ["0", "1", "2", "3"]
    assert (bundle / "server" / "__main__.py").is_file()
    done = console("verify", bundle, "--key", "key.pem.pub", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"linear {CANDIDATE} for cross" in done.stdout

    first = console("registry", "promote", "models", bundle, "--key", "key.pem.pub", cwd=here)
    assert (first.returncode, first.stderr) == (0, "")
    shown = console("registry", "show", "models", "linear", "cross", "--json", cwd=here)
    said = json.loads(shown.stdout)
    certificate = said["certificate"]
    assert [gate["name"] for gate in certificate["gates"]] == list(GATES)
    assert {gate["outcome"] for gate in certificate["gates"]} == {"pass", "not_applicable"}
    assert certificate["overrides"]["thresholds"]["speedup"] == "--edge-threshold"
    assert certificate["overrides"]["allow_proxy"] is False
    assert certificate["data"]["evaluation"]["samples"] > 0
    assert len(certificate["data"]["evaluation"]["sha256"]) == 64
    assert len(certificate["data"]["calibration"]["sha256"]) == 64
    assert certificate["evidence"]["sha256"] == run.report["evidence"]["sha256"]
    assert certificate["host"]["cpu_model"] == run.report["host"]["cpu_model"]
    assert certificate["model"]["sha256"] == run.report["models"][0]["sha256"]
    assert {"python", "pytest-edgeai", "onnxruntime"} <= set(certificate["versions"])

    again = place.run(PROMOTE, SIGN)
    assert again.code == 0
    second = bundle_of(here)
    assert second != bundle, "each session has a bundle of its own, whose certificate is its own"
    console("registry", "promote", "models", second, "--key", "key.pem.pub", cwd=here)
    back = console("registry", "rollback", "models", "linear", "cross", cwd=here)
    assert back.returncode == 0
    path = console("registry", "show", "models", "linear", "cross", "--path", cwd=here)
    current = here / path.stdout.strip()
    assert (current / "certificate.json").read_bytes() == (bundle / "certificate.json").read_bytes()
    assert console("verify", current, "--key", "key.pem.pub", cwd=here).returncode == 0

    weights = next(file for file in (bundle / "artifact").iterdir() if file.is_file())
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    tampered = console("verify", bundle, "--key", "key.pem.pub", cwd=here)
    assert tampered.returncode == 1
    assert tampered.stderr.count("\n") == 1
    assert f"artifact/{weights.name} was changed" in tampered.stderr
    refused = console("registry", "promote", "models", bundle, "--key", "key.pem.pub", cwd=here)
    assert refused.returncode == 1


def test_a_promotion_without_a_key_says_that_it_is_not_signed(place: Place) -> None:
    place.write()
    run = place.run(PROMOTE)
    assert run.code == 0
    assert "not signed" in " ".join(run.text.split())
    assert any("not signed" in note for note in run.report["notes"])
    done = console("verify", bundle_of(place.path), cwd=place.path)
    assert done.returncode == 1
    assert "never signed" in done.stderr


def test_the_environment_can_hold_the_key_and_nothing_shows_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write()
    write_keys(place.path)
    secret = private_pem().decode().splitlines()[1]
    monkeypatch.setenv(VARIABLE, private_pem().decode())
    run = place.run(PROMOTE, "--edge-markdown=report.md", "-vv")
    assert run.code == 0, run.text
    bundle = bundle_of(place.path)
    assert console("verify", bundle, "--key", "key.pem.pub", cwd=place.path).returncode == 0
    for folder in (place.path / "promoted", place.cache / "evidence"):
        for file in folder.rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes(), file
    assert secret not in run.text + run.result.stderr.str()
    assert secret not in (place.path / "report.json").read_text("utf-8")
    assert secret not in (place.path / "report.md").read_text("utf-8")


def test_the_controller_signs_where_tests_are_distributed(place: Place) -> None:
    place.write()
    write_keys(place.path)
    run = place.run(PROMOTE, SIGN, "-n2")
    if "unrecognized arguments" in run.result.stderr.str():
        pytest.skip("needs: pip install pytest-xdist")
    assert run.code == 0, run.text
    bundle = bundle_of(place.path)
    done = console("verify", bundle, "--key", "key.pem.pub", cwd=place.path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text", "is not in PEM"),
        (b"", "is not in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\n", "is a public key, which cannot sign"),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n", "is encrypted with a passphrase"),
        (None, "No such file"),
    ],
)
def test_a_key_that_cannot_sign_ends_the_run_before_it_begins(
    place: Place, content: bytes | None, message: str
) -> None:
    private_pem()
    place.write()
    if content is not None:
        (place.path / "key.pem").write_bytes(content)
    run = place.run(PROMOTE, SIGN)
    assert run.code == pytest.ExitCode.USAGE_ERROR
    assert run.report == {}
    errors = [line for line in run.result.stderr.lines if line.strip()]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (place.path / "promoted").exists()


def test_a_key_in_place_of_its_path_is_refused_and_not_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write()
    monkeypatch.setenv("PYTEST_EDGEAI_SIGNING_KEY", private_pem().decode())
    run = place.run(PROMOTE)
    assert run.code == pytest.ExitCode.USAGE_ERROR
    shown = run.text + run.result.stderr.str()
    assert "PYTEST_EDGEAI_SIGNING_KEY: is a key and not the path of one" in shown
    assert private_pem().decode().splitlines()[1] not in shown


@pytest.mark.skipif(os.name == "nt", reason="file modes of POSIX")
def test_an_open_key_is_warned_about_in_header_and_report(place: Place) -> None:
    place.write()
    write_keys(place.path)
    (place.path / "key.pem").chmod(0o644)
    run = place.run(PROMOTE, SIGN, "-k", "output_sanity")
    assert run.code == 0
    assert "is open to others (mode 0644); run: chmod 600" in run.text
    assert any("open to others" in note for note in run.report["notes"])


def test_a_key_that_is_not_used_is_told_and_not_read(place: Place) -> None:
    place.write()
    run = place.run("--edge-signing-key=missing.pem", "-k", "output_sanity")
    assert run.code == 0
    assert "the signing key is not used: nothing is promoted without --edge-promote" in run.text


def test_an_expired_certificate_is_rejected(place: Place) -> None:
    place.write(QUICK + "\n[settings]\nsigning_key = 'key.pem'\ncertificate_days = 1\n")
    write_keys(place.path)
    run = place.run(PROMOTE)
    assert run.code == 0, run.text
    bundle = bundle_of(place.path)
    ahead = """
import datetime, sys
from pathlib import Path
from pytest_edgeai.promote.verification import Rejected, verify_bundle
for days in (0.9, 1.1):
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    try:
        verify_bundle(Path(sys.argv[1]), None, now=now)
        print("verified")
    except Rejected as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", ahead, str(bundle)], capture_output=True, text=True, check=True
    )
    fresh, old = done.stdout.splitlines()
    assert fresh == "verified"
    assert "its certificate expired at" in old


def test_a_signed_bundle_is_found_by_the_next_comparison(place: Place) -> None:
    place.write()
    write_keys(place.path)
    assert place.run(PROMOTE, SIGN, own_cache=True).code == 0
    bundle = bundle_of(place.path)
    (report,) = (bundle / "reports").glob("*/report.json")
    run = place.run(
        f"--edge-against={report}", "--edge-threshold=no_slower=0.01", "-k", "no_slower",
        f"--edge-cache-dir={place.path / 'another'}", own_cache=True,
    )  # fmt: skip
    (gate,) = run.candidate()["gates"]
    assert gate["outcome"] == "not_applicable", run.text
    assert "is the promoted artifact itself, byte for byte" in gate["reason"]
