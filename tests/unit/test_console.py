"""The console command, called as its script calls it."""

from __future__ import annotations

import datetime
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from promotions import private_pem, public_pem, signed_bundle, signing_key

from pytest_edgeai import __version__
from pytest_edgeai.console import main
from pytest_edgeai.promote.keys import read_public_key
from pytest_edgeai.promote.registry import Registry

TODAY = datetime.datetime.now(datetime.UTC).replace(microsecond=0)


@pytest.fixture(name="here")
def here_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a pair of keys."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key.pem").write_bytes(private_pem())
    (tmp_path / "key.pub").write_bytes(public_pem())
    return tmp_path


@pytest.fixture(name="bundle")
def bundle_fixture(here: Path) -> Path:
    """A signed bundle of today."""
    return signed_bundle(here, signing_key(), created=TODAY)


def lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    out, err = capsys.readouterr()
    return out.splitlines(), err.splitlines()


def run(*words: str | Path) -> int:
    return main([str(word) for word in words])


def test_verify_says_who_signed_what(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", bundle, "--key", "key.pub") == 0
    out, err = lines(capsys)
    assert out[0] == f"verified: {bundle}"
    assert "digits openvino-int8-static for intel" in out[1]
    assert out[-1].endswith("the key of key.pub")
    assert err == []
    assert run("verify", bundle) == 0
    assert "anybody can sign" in lines(capsys)[0][-1]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("verify", "missing"), 2, "missing: does not exist"),
        (("verify", "BUNDLE", "--key", "missing"), 2, "the key cannot be read: No such file"),
        (("verify", "BUNDLE", "--key", "key.pem"), 2, "is a private key"),
        (("verify", "BUNDLE", "--key", "other.pub"), 1, "signed by another key"),
        (("verify", "key.pem"), 2, "is no directory"),
        (("verify", "."), 1, "it is no bundle; give the directory of one"),
        (("keygen", "key.pem"), 2, "never overwritten"),
        (("registry", "list", "missing"), 2, "does not exist"),
        (("registry", "list", "."), 2, "is no registry: it has no registry.json"),
        (("registry", "promote", ".", "BUNDLE", "--key", "key.pub"), 2, "is no registry"),
        (("registry", "promote", "models", "missing", "--key", "key.pub"), 2, "does not exist"),
        (("registry", "promote", "models", "BUNDLE", "--key", "other.pub"), 1, "another key"),
        (("registry", "list", "oci:missing"), 2, "does not exist"),
        (("registry", "list", "oci:."), 2, "it has no oci-layout"),
        (("registry", "promote", "oci:.", "BUNDLE", "--key", "key.pub"), 2, "no oci-layout"),
        (("registry", "list", "s3:bucket"), 2, '"s3" is no kind of registry'),
        (("registry", "list", "mlflow:models"), 2, "is no URI"),
        (("registry", "list", "mlflow:file:///models"), 2, "is a directory of files, which cannot"),
        (("registry", "fetch", "missing", "a", "b", "out", "--key", "key.pub"), 2, "not exist"),
        (("verify", "BUNDLE", "--model-signature", "a.sig"), 2, "with --model-signing-key"),
        (("sign-model", "missing", "--key", "key.pem"), 2, "does not exist"),
        (("sign-model", "BUNDLE", "--key", "key.pem"), 2, "another kind of key"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(
    here: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    (here / "other.pub").write_bytes(public_pem(2))
    assert run(*(bundle if word == "BUNDLE" else word for word in words)) == code
    out, err = lines(capsys)
    assert out == []
    assert len(err) == 1
    assert err[0].startswith("pytest-edgeai: ")
    assert message in err[0]


def test_a_missing_word_is_told_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("registry",), ("verify",), ("registry", "promote", "a", "b"), ("nonsense",)):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
        assert "usage: pytest-edgeai" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"pytest-edgeai {__version__}\n"


def test_a_new_key_signs_what_verifies(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keygen", "new.pem") == 0
    out, _ = lines(capsys)
    assert (here / "new.pem.pub").is_file()
    secret = (here / "new.pem").read_text().splitlines()[1]
    assert secret not in "".join(out)


def test_the_registry_from_the_first_promotion_to_the_last_rollback(
    here: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = signed_bundle(here, signing_key(), b"later", created=TODAY)
    assert run("registry", "promote", "models", bundle, "--key", "key.pub") == 0
    assert "is current" in lines(capsys)[0][0]
    assert run("registry", "promote", "models", bundle, "--key", "key.pub") == 0
    assert "is current already" in lines(capsys)[0][0]
    assert run("registry", "rollback", "models", "digits", "intel") == 1
    assert "was the first" in lines(capsys)[1][0]
    assert run("registry", "promote", "models", later, "--key", "key.pub") == 0
    assert "instead of" in lines(capsys)[0][0]

    assert run("registry", "list", "models") == 0
    header, row = lines(capsys)[0]
    assert header.split() == [
        "MODEL", "TARGET", "CURRENT", "CANDIDATE", "SINCE", "EXPIRES", "PREVIOUS"
    ]  # fmt: skip
    assert row.split()[:2] == ["digits", "intel"]
    assert run("registry", "list", "models", "--json") == 0
    (position,) = json.loads(capsys.readouterr().out)
    assert row.split()[2] == position["current"]["bundle"][:12]
    assert row.split()[-1] == position["previous"]["bundle"][:12]

    assert run("registry", "show", "models", "digits", "intel") == 0
    text = capsys.readouterr().out
    assert "speedup" in text
    assert ">= 1.5" in text
    assert run("registry", "show", "models", "digits", "intel", "--path") == 0
    path = Path(capsys.readouterr().out.strip())
    assert (path / "certificate.json").read_bytes() == (later / "certificate.json").read_bytes()

    assert run("registry", "rollback", "models", "digits", "intel") == 0
    capsys.readouterr()
    assert run("registry", "history", "models") == 0
    out, _ = lines(capsys)
    assert [line.split()[2] for line in out[1:]] == ["promote", "promote", "rollback"]
    assert run("registry", "history", "models", "digits", "intel", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert run("registry", "history", "models", "digit") == 2
    assert 'did you mean "digits"?' in lines(capsys)[1][0].replace("Did", "did")
    assert run("registry", "show", "models", "digits", "intle") == 2
    assert 'Did you mean "intel"?' in lines(capsys)[1][0]


@pytest.mark.parametrize("address", ["models", "oci:models"])
def test_what_is_current_comes_out_of_a_registry(
    here: Path, bundle: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    assert run("registry", "promote", address, bundle, "--key", "key.pub") == 0
    assert run("registry", "fetch", address, "digits", "intel", "out", "--key", "key.pub") == 0
    assert "is in out" in lines(capsys)[0][-1]
    assert run("verify", "out", "--key", "key.pub") == 0
    assert run("registry", "fetch", address, "digits", "intel", "out", "--key", "key.pub") == 2
    assert "nothing is overwritten" in lines(capsys)[1][0]
    (here / "other.pub").write_bytes(public_pem(2))
    assert run("registry", "fetch", address, "digits", "intel", "new", "--key", "other.pub") == 1
    assert "signed by another key" in lines(capsys)[1][0]
    assert not (here / "new").exists()


def test_an_old_bundle_comes_out_with_a_warning(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    created = TODAY - datetime.timedelta(days=3)
    old = signed_bundle(here, signing_key(), created=created, days=2)
    then = created + datetime.timedelta(hours=1)
    read_key = read_public_key(here / "key.pub", where="")
    Registry(here / "models", create=True).promote(old, read_key, now=then)
    assert run("registry", "fetch", "models", "digits", "intel", "out", "--key", "key.pub") == 0
    assert "warning: the certificate of this bundle expired" in lines(capsys)[0][-1]


def test_only_a_directory_has_a_path(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("registry", "promote", "oci:models", bundle, "--key", "key.pub")
    capsys.readouterr()
    assert run("registry", "show", "oci:models", "digits", "intel", "--path") == 2
    out, err = lines(capsys)
    assert (out, len(err)) == ([], 1)
    assert "pytest-edgeai registry fetch oci:models digits intel DIR" in err[0]


def test_a_folder_is_signed_for_openssf_too(
    here: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("OpenSSL", reason='needs: pip install "pytest-edgeai[model-signing]"')
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    pem, none = form.Encoding.PEM, form.NoEncryption()
    (here / "ec.pem").write_bytes(key.private_bytes(pem, form.PrivateFormat.PKCS8, none))
    public = key.public_key().public_bytes(pem, form.PublicFormat.SubjectPublicKeyInfo)
    (here / "ec.pub").write_bytes(public)
    check = ("verify", bundle, "--key", "key.pub", "--model-signing-key", "ec.pub")
    assert run(*check) == 1
    assert "has no signature of OpenSSF Model Signing" in lines(capsys)[1][0]
    assert run("sign-model", bundle.parent, "--key", "ec.pem") == 0
    assert lines(capsys)[0][1] == f"signature: {bundle}.model.sig"
    assert run(*check) == 0
    assert lines(capsys)[0][-1].endswith("is its OpenSSF signature, of the key ec.pub")
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    (here / "other.pub").write_bytes(
        other.public_bytes(pem, form.PublicFormat.SubjectPublicKeyInfo)
    )
    assert run(*check[:-1], "other.pub") == 1
    out, err = lines(capsys)
    assert out == []
    assert "does not fit it" in err[0]
    assert run("sign-model", bundle, "--key", "ec.pem") == 2
    assert "nothing is overwritten" in lines(capsys)[1][0]


def test_an_empty_registry_lists_nothing(
    here: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("registry", "promote", "models", bundle, "--key", "key.pub") == 0
    (here / "models" / "log.jsonl").unlink()
    shutil.rmtree(here / "models" / "pointers")
    capsys.readouterr()
    assert run("registry", "list", "models") == 0
    assert len(lines(capsys)[0]) == 1
    assert run("registry", "rollback", "models", "digits", "intel") == 2


def test_a_name_cannot_steer_the_terminal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = signed_bundle(here, signing_key(), name="\x1b[2Jé", created=TODAY)
    assert run("registry", "promote", "models", bundle, "--key", "key.pub") == 0
    for words in (("list",), ("history",)):
        capsys.readouterr()
        assert run("registry", *words, "models") == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "\\x1b[2J\\xe9" in out or "\\x1b[2Jé" in out


def test_a_terminal_of_another_encoding_gets_escapes(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = bundle.rename(bundle.with_name("bundle-é"))
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert run("verify", odd) == 0
    sys.stdout.flush()
    assert b"bundle-\\xe9" in raw.getvalue()


def test_a_reader_that_has_seen_enough_is_no_error(here: Path, bundle: Path) -> None:
    run("registry", "promote", "models", bundle, "--key", "key.pub")
    command = f"{sys.executable} -m pytest_edgeai registry history models | true"
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, check=False, timeout=60, cwd=here
    )
    assert done.stderr == b""


def test_nothing_heavy_is_imported_to_list_or_verify(here: Path, bundle: Path) -> None:
    run("registry", "promote", "models", bundle, "--key", "key.pub")
    script = """
import sys
from pytest_edgeai.console import main
from pytest_edgeai.promote.keys import read_public_key
from pytest_edgeai.promote.registry import Registry
for words in (["registry", "list", "models"], ["verify", sys.argv[1]]):
    assert main(words) == 0
    print(sorted({"numpy", "scipy", "pytest", "filelock"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundle)],
        capture_output=True,
        text=True,
        check=True,
        cwd=here,
        timeout=60,
    )
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["[]", "[]"]


def test_the_directory_of_a_candidate_stands_for_its_last_bundle(
    here: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", bundle.parent, "--key", "key.pub") == 0
    assert lines(capsys)[0][0] == f"verified: {bundle}"
    pointer = bundle.parent / "current.json"
    for content in ("{", "{}", '{"bundle": "../elsewhere"}', '{"bundle": 3}', '{"bundle": ""}'):
        pointer.write_text(content)
        assert run("verify", bundle.parent) == 1
        out, err = lines(capsys)
        assert (out, len(err)) == ([], 1)
        assert "current.json is damaged" in err[0]


PAGES = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["promotion.md", "registry.md", "pipelines.md", "ci.md"])
def test_the_commands_of_a_page_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], page: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (PAGES / page).read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    words = [shlex.split(line) for block in blocks for line in block.splitlines()]
    commands = [line[1:] for line in words if line[0] == "pytest-edgeai"]
    assert commands
    for command in commands:
        # There is nothing that it could work on; what argparse does not take, it exits for.
        assert main(command) in ((0,) if command[0] == "keygen" else (1, 2))
    assert "usage:" not in capsys.readouterr().err


def test_a_certificate_of_the_future_is_warned_about(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ahead = signed_bundle(here, signing_key(), created=TODAY + datetime.timedelta(days=2))
    assert run("verify", ahead, "--key", "key.pub") == 0
    out, err = lines(capsys)
    assert out[0].startswith("verified: ")
    assert len(err) == 1
    assert "one of the two clocks is wrong" in err[0]


def test_what_is_refused_at_first_leaves_no_registry(
    here: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "other.pub").write_bytes(public_pem(2))
    (here / "empty").mkdir()
    before = sorted(here.iterdir())
    for address in ("models", "oci:models", "empty", "mlflow:sqlite:///models.db"):
        assert run("registry", "promote", address, bundle, "--key", "other.pub") == 1
        assert "signed by another key" in lines(capsys)[1][0]
    assert sorted(here.iterdir()) == before
    assert not list((here / "empty").iterdir())


def test_a_fetch_that_is_refused_names_the_registry(
    here: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("registry", "promote", "models", bundle, "--key", "key.pub") == 0
    (here / "other.pub").write_bytes(public_pem(2))
    lines(capsys)
    fetch = ("registry", "fetch", "models", "digits", "intel", "out", "--key")
    assert run(*fetch, "other.pub") == 1
    err = lines(capsys)[1][0]
    assert "models/bundles/" in err
    assert ".tmp-" not in err
    (changed,) = (here / "models").glob("bundles/*/artifact/model.bin")
    changed.write_bytes(b"x")
    assert run(*fetch, "key.pub") == 1
    err = lines(capsys)[1][0]
    assert "models/bundles/" in err
    assert ".tmp-" not in err
    assert not (here / "out").exists()


def test_an_unknown_target_or_model_is_told_with_those_there_are(
    here: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("registry", "promote", "models", bundle, "--key", "key.pub") == 0
    assert run("registry", "show", "models", "digits", "nope") == 2
    assert "allowed: the targets intel" in lines(capsys)[1][0]
    assert run("registry", "show", "models", "nope", "intel") == 2
    assert "allowed: the models digits" in lines(capsys)[1][0]


def test_a_log_that_lost_its_last_line_is_refused_by_every_reader(
    here: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = signed_bundle(here, signing_key(), b"later", created=TODAY)
    for address in ("models", "oci:images"):
        for each in (bundle, later):
            assert run("registry", "promote", address, each, "--key", "key.pub") == 0
        log = here / address.removeprefix("oci:") / "log.jsonl"
        log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
        lines(capsys)
        pair = ("digits", "intel")
        for words in (
            ("list", address), ("show", address, *pair), ("history", address),
            ("fetch", address, *pair, "out", "--key", "key.pub"),
        ):  # fmt: skip
            assert run("registry", *words) == 1
            out, err = lines(capsys)
            assert (out, len(err)) == ([], 1)
            assert "log.jsonl is damaged: it does not hold entry 2" in err[0]
