"""The console command ``pytest-edgeai``: what is done with a promotion after the test run.

Exit codes: 0 done; 1 refused (a bundle is rejected, there is nothing to roll back to, another
promotion came first); 2 the command, a key, a path or the disk is at fault. An error is one line on
standard error.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from pytest_edgeai import __version__
from pytest_edgeai.console_pipeline import add_pipeline
from pytest_edgeai.console_registry import BUNDLE_HELP, add_registry, warn_of_clock
from pytest_edgeai.errors import EdgeAIError, UserError

DONE, REFUSED, WRONG = 0, 1, 2
_INTERRUPTED = 130
Say: TypeAlias = Callable[..., None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    Args:
        arguments: the words after the command's name; by default those of this process.
    """
    parser = _parser()
    chosen = parser.parse_args(arguments)
    collects = gc.isenabled()
    # What a command makes lives as long as the command.
    gc.disable()
    try:
        chosen.run(chosen, _say)
        sys.stdout.flush()
    except UserError as error:
        return _fail(error, WRONG)
    except EdgeAIError as error:
        return _fail(error, REFUSED)
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not flush into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        if collects:
            gc.enable()
    return DONE


def _say(*lines: str) -> None:
    """Print lines; what the terminal cannot show, or would obey, is escaped."""
    encoding = sys.stdout.encoding or "ascii"
    text = "\n".join([*map(_plain, lines), ""])
    if text.isascii():
        sys.stdout.write(text)
        return
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _plain(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _fail(error: EdgeAIError, code: int) -> int:
    line = _plain(" ".join(str(error).split())).encode("ascii", "backslashreplace").decode()
    sys.stderr.write(f"pytest-edgeai: {line}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pytest-edgeai",
        description="Verify what was promoted, and keep a registry of it.",
        epilog="Exit codes: 0 done, 1 refused, 2 the command, a key, a path or the disk is wrong.",
    )
    parser.add_argument("--version", action="version", version=f"pytest-edgeai {__version__}")
    # With the name given, argparse need not make a help text to find it out.
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, prog="pytest-edgeai"
    )

    verify = commands.add_parser("verify", help="verify a signed bundle, offline")
    verify.add_argument("bundle", type=Path, metavar="BUNDLE", help=BUNDLE_HELP)
    verify.add_argument(
        "--key", type=Path, metavar="PUBLIC", help="the public key that must have signed it (PEM)"
    )
    verify.add_argument(
        "--model-signing-key",
        type=Path,
        metavar="PUBLIC",
        help="verify its OpenSSF signature too, with this public key (PEM)",
    )
    verify.add_argument(
        "--model-signature",
        type=Path,
        metavar="FILE",
        help="that signature (default: BUNDLE.model.sig)",
    )
    verify.set_defaults(run=_verify)

    sign_model = commands.add_parser(
        "sign-model", help="sign a bundle's folder with OpenSSF Model Signing, too"
    )
    sign_model.add_argument("bundle", type=Path, metavar="BUNDLE", help=BUNDLE_HELP)
    sign_model.add_argument(
        "--key",
        type=Path,
        metavar="PRIVATE",
        required=True,
        help="a private key of an elliptic curve (PEM)",
    )
    sign_model.add_argument(
        "--output", type=Path, metavar="FILE", help="the signature (default: BUNDLE.model.sig)"
    )
    sign_model.set_defaults(run=_sign_model)

    keygen = commands.add_parser("keygen", help="make a signing key")
    keygen.add_argument(
        "path", type=Path, metavar="PATH", help="the private key; the public one goes to PATH.pub"
    )
    keygen.set_defaults(run=_keygen)

    add_registry(commands)
    add_pipeline(commands)
    return parser


def _verify(chosen: argparse.Namespace, say: Say) -> None:
    import datetime

    from pytest_edgeai.promote.keys import read_public_key
    from pytest_edgeai.promote.verification import current_bundle, verify_bundle

    if chosen.model_signature is not None and chosen.model_signing_key is None:
        raise UserError(
            "needs a key", where="--model-signature", allowed="with --model-signing-key=PUBLIC"
        )
    key = None if chosen.key is None else read_public_key(chosen.key, where="--key")
    bundle = current_bundle(chosen.bundle)
    now = datetime.datetime.now(datetime.UTC)
    found = verify_bundle(bundle, key, now=now)
    model_signature = _verify_model(chosen, bundle)
    statement = found.statement
    warn_of_clock(statement.created, now)
    say(f"verified: {bundle}")
    say(f"  {statement.model} {statement.candidate} for {statement.target}")
    say(f"  {len(statement.files)} files, {found.size_bytes:,} bytes, digest {found.digest}")
    say(f"  created {statement.created.isoformat()}, expires {statement.expires.isoformat()}")
    if found.trusted:
        say(f"  signed with {found.keyid}, the key of {chosen.key}")
    else:
        say(f"  signed with {found.keyid}")
        say("  whose key that is was not verified: anybody can sign; compare it with --key=PUBLIC")
    if model_signature is not None:
        say(
            f"  {model_signature.name} is its OpenSSF signature, of the key "
            f"{chosen.model_signing_key}"
        )


def _verify_model(chosen: argparse.Namespace, bundle: Path) -> Path | None:
    """Verify the OpenSSF signature where it was asked for, and return its file."""
    key: Path | None = chosen.model_signing_key
    if key is None:
        return None
    from pytest_edgeai.promote.model_signing import signature_of, verify_folder

    signature = chosen.model_signature or signature_of(bundle)
    verify_folder(bundle, key, signature)
    return signature


def _sign_model(chosen: argparse.Namespace, say: Say) -> None:
    import datetime

    from pytest_edgeai.promote.model_signing import sign_folder, signature_of
    from pytest_edgeai.promote.verification import current_bundle, verify_bundle

    bundle = current_bundle(chosen.bundle)
    signature: Path = chosen.output or signature_of(bundle)
    verify_bundle(bundle, None, now=datetime.datetime.now(datetime.UTC))
    warning = sign_folder(bundle, chosen.key, signature)
    say(f"signed: {bundle}", f"signature: {signature}")
    if warning:
        say(f"warning: {warning}")


def _keygen(chosen: argparse.Namespace, say: Say) -> None:
    from pytest_edgeai.promote.keys import generate_key

    key, beside = generate_key(chosen.path)
    say(f"private key: {chosen.path} (keep it secret; only you can read it)")
    say(f"public key:  {beside} (give it to whoever verifies)")
    say(f"key id:      {key.keyid}")
