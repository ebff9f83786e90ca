"""Promotion: an immutable copy of a candidate with the reports that allow it.

The layout below the promotion directory; every name is made portable by :func:`portable_name`::

    <model>/<target>/<candidate>/
        current.json                     which bundle and report were promoted last
        <first 12 digits of the artifact's SHA-256>/
            bundle.json                  what it is and the digest of every file
            README.md, ...               the documents that describe it
            artifact/...                 the artifact's files, as they lay beside each other
            reports/<12 digits>/...      the reports of each session that promoted it
        <the same 12 digits>-<first 12 digits of the SHA-256 of its certificate>/
            certificate.json             who vouches for every file of it
            ...                          likewise, with the reports of one session

A bundle appears by one rename and is never changed. One without a certificate takes further reports
of the same artifact, which appear in the same way; a signed one is closed. Whenever a process dies,
what a reader finds is complete; what it left half done has a name that starts with ``.tmp-`` and is
removed by the next promotion of that candidate.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock

from pytest_edgeai.digests import digest_file, digest_files
from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.files import sync_directory, write_atomically, write_durably
from pytest_edgeai.promote.decision import blocked_by
from pytest_edgeai.promote.names import portable_name
from pytest_edgeai.promote.verification import CERTIFICATE, POINTER
from pytest_edgeai.records import Artifact, artifact_root, to_json
from pytest_edgeai.report.content import CandidateReport, ModelReport

BUNDLE_SCHEMA = "pytest-edgeai/bundle/1"
CURRENT_SCHEMA = "pytest-edgeai/current/1"
DESCRIPTION = "bundle.json"
_DIGITS = 12
_BLOCK_BYTES = 1 << 20
_TEMPORARY = ".tmp-"

Certify: TypeAlias = Callable[[Mapping[str, str]], bytes]
"""Returns the certificate of a bundle, given the SHA-256 of each of its files by name."""
Describe: TypeAlias = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Returns the documents of a bundle, by their names, given the same of its artifact's files."""


@dataclass(frozen=True)
class Current:
    """What was promoted last of one candidate.

    Attributes:
        bundle: its bundle.
        report: the directory of the reports that allowed it, inside the bundle.
        sha256: digest of the artifact.
    """

    bundle: Path
    report: Path
    sha256: str


def promote(
    candidate: CandidateReport,
    model: ModelReport,
    report_texts: Mapping[str, str],
    directory: Path,
    certify: Certify | None = None,
    describe: Describe | None = None,
) -> Path:
    """Copy the artifact of ``candidate`` with its reports below ``directory``; return the bundle.

    Promoting the same artifact again without a signature keeps its bundle and adds the reports, if
    they are new; with one it makes a bundle of its own. ``current.json`` points to it afterwards.

    Args:
        candidate: what is promoted.
        model: the model that it was made from.
        report_texts: file name to content; at least one.
        directory: the promotion directory, created where missing.
        certify: makes the certificate; ``None`` leaves the bundle unsigned.
        describe: makes the documents that lie beside the artifact.

    Raises:
        EdgeAIError: where a required gate did not run or blocks, where the artifact is not what was
            measured, or where another content already has the bundle's name.
        UserError: where ``directory`` cannot be written to.
    """
    artifact = _promotable(candidate, model)
    if not report_texts:
        raise EdgeAIError("a candidate is promoted with its report, but none was given")
    home = directory.joinpath(*map(portable_name, (model.name, candidate.target, candidate.id)))
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock"):
            _remove_leftovers(home)
            return _promote_locked(
                candidate, model, artifact, report_texts, home, certify, describe
            )
    except OSError as error:
        raise UserError(
            f"{model.name} {candidate.id} cannot be promoted: {error.strerror or error}",
            where=os.fsdecode(error.filename) if error.filename else str(directory),
            advice="Free some space or choose another disk" if error.errno == errno.ENOSPC else "",
        ) from error


def read_current(home: Path) -> Current | None:
    """Return what was promoted last of one candidate; ``None`` where nothing was.

    Args:
        home: ``<directory>/<model>/<target>/<candidate>``.

    Raises:
        EdgeAIError: where the pointer is damaged.
    """
    try:
        content = json.loads((home / POINTER).read_text("utf-8"))
        bundle = home / str(content["bundle"])
        return Current(bundle, bundle / "reports" / str(content["report"]), str(content["sha256"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EdgeAIError(f"{home / 'current.json'} is damaged: {error}") from error


def bundle_problems(bundle: Path) -> tuple[str, ...]:
    """Return what is wrong with a bundle, one sentence each; nothing where it is whole.

    Every file that it names is read and compared, and files that it does not name are found.
    """
    try:
        content = json.loads((bundle / DESCRIPTION).read_text("utf-8"))
        listed = {str(name): str(fact["sha256"]) for name, fact in content["files"].items()}
        sha256 = str(content["artifact"]["sha256"])
        if content["schema"] != BUNDLE_SCHEMA:
            return (f"{bundle}: schema {content['schema']!r} is not {BUNDLE_SCHEMA!r}",)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return (f"{bundle / 'bundle.json'} is damaged: {error}",)
    root = bundle / "artifact"
    present = {f.relative_to(root).as_posix(): f for f in root.rglob("*") if f.is_file()}
    problems = [f"{root / name} is missing" for name in listed if name not in present]
    problems += [f"{present[name]} does not belong to it" for name in present if name not in listed]
    try:
        problems += [
            f"{file} was changed"
            for name, file in present.items()
            if name in listed and digest_file(file) != listed[name]
        ]
        if not problems and digest_files(list(present.values()), root) != sha256:
            problems.append(f"{bundle}: the files are not those of artifact {sha256}")
    except OSError as error:
        problems.append(str(error))
    return tuple(problems)


def _promotable(candidate: CandidateReport, model: ModelReport) -> Artifact:
    """Return the artifact of a candidate that may be promoted; the last check, whoever calls."""
    name = f"{model.name} {candidate.id}"
    # Whether a proxy is accepted is decided by the caller and stands in promotion_blocked_by.
    undecided = blocked_by(candidate.required_gates, candidate.verdicts, allow_proxy=True)
    blocking = tuple(dict.fromkeys((*candidate.promotion_blocked_by, *undecided)))
    if blocking:
        raise EdgeAIError(f"{name} is not promoted: blocked by {', '.join(blocking)}")
    if not candidate.required_gates:
        raise EdgeAIError(f"{name} is not promoted: no gate was required of it")
    if candidate.artifact is None:
        raise EdgeAIError(f"{name} is not promoted: it has no artifact")
    return candidate.artifact


def _remove_leftovers(home: Path) -> None:
    """Remove what a killed promotion left; nobody else works here while the lock is held."""
    for place in (home, *home.glob("*/reports")):
        for leftover in place.glob(f"{_TEMPORARY}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()


@contextlib.contextmanager
def _prepared(parent: Path) -> Iterator[Path]:
    """Give a directory below ``parent`` to fill, and remove it unless it was renamed."""
    parent.mkdir(parents=True, exist_ok=True)
    temporary = parent / f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}"
    temporary.mkdir()
    try:
        yield temporary
    finally:
        if temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _appear(temporary: Path, destination: Path) -> None:
    """Give what was prepared its name, durably and in one step."""
    for folder in [d for d in temporary.rglob("*") if d.is_dir()]:
        sync_directory(folder)
    sync_directory(temporary)
    temporary.rename(destination)
    sync_directory(destination.parent)


def _promote_locked(
    candidate: CandidateReport,
    model: ModelReport,
    artifact: Artifact,
    report_texts: Mapping[str, str],
    home: Path,
    certify: Certify | None,
    describe: Describe | None,
) -> Path:
    contents = {
        portable_name(n): t.encode("utf-8", "backslashreplace") for n, t in report_texts.items()
    }
    report = _digest_contents(contents)[:_DIGITS]
    bundle = home / artifact.sha256[:_DIGITS]
    if certify is not None:
        with _prepared(home) as temporary:
            digests = _fill(temporary, candidate, model, artifact, describe)
            digests |= _write_reports(temporary / "reports" / report, contents, temporary)
            certificate = certify(digests)
            write_durably(temporary / CERTIFICATE, certificate)
            digests[CERTIFICATE] = hashlib.sha256(certificate).hexdigest()
            bundle = home / f"{bundle.name}-{digests[CERTIFICATE][:_DIGITS]}"
            if bundle.exists():
                _check_same(bundle, artifact, digests)
            else:
                _appear(temporary, bundle)
    else:
        if bundle.exists():
            _check_existing(bundle, artifact)
        else:
            with _prepared(home) as temporary:
                _fill(temporary, candidate, model, artifact, describe)
                _write_reports(temporary / "reports" / report, contents, temporary)
                _appear(temporary, bundle)
        _add_reports(bundle / "reports" / report, contents)
    pointer = {
        "schema": CURRENT_SCHEMA,
        "bundle": bundle.name,
        "report": report,
        "sha256": artifact.sha256,
    }
    write_atomically(home / POINTER, json.dumps(pointer, indent=2) + "\n")
    return bundle


def _add_reports(place: Path, contents: Mapping[str, bytes]) -> None:
    """Add the reports of another session to an unsigned bundle, unless they are there."""
    if not place.exists():
        with _prepared(place.parent) as temporary:
            _write_files(temporary, contents)
            _appear(temporary, place)
    elif {f.name: f.read_bytes() for f in place.iterdir() if f.is_file()} != contents:
        raise EdgeAIError(f"{place} was changed after it was promoted; nothing is overwritten")


def _check_same(bundle: Path, artifact: Artifact, digests: Mapping[str, str]) -> None:
    """Refuse a signed bundle that does not hold what its certificate was made for."""
    _check_existing(bundle, artifact)
    present = {f.relative_to(bundle).as_posix(): f for f in bundle.rglob("*") if f.is_file()}
    changed = sorted({*digests} ^ {*present}) or [
        name for name, sha256 in digests.items() if digest_file(present[name]) != sha256
    ]
    if changed:
        raise EdgeAIError(
            f"{bundle} was changed after it was promoted ({changed[0]}); nothing is overwritten"
        )


def _digest_contents(contents: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(contents):
        for part in (name.encode(), contents[name]):
            total.update(len(part).to_bytes(8, "big"))
            total.update(part)
    return total.hexdigest()


def _check_existing(bundle: Path, artifact: Artifact) -> None:
    """Refuse a bundle that is damaged or holds another artifact."""
    problems = bundle_problems(bundle)
    if not problems:
        held = json.loads((bundle / DESCRIPTION).read_text("utf-8"))["artifact"]["sha256"]
        if held != artifact.sha256:
            problems = (f"it holds artifact {held}",)
    if problems:
        raise EdgeAIError(
            f"{bundle} has another content than what is promoted, and nothing is overwritten: "
            f"{'; '.join(problems)}. Move it away, then promote again"
        )


def _write_reports(place: Path, contents: Mapping[str, bytes], root: Path) -> dict[str, str]:
    """Write reports to a new folder; return the digest of each by its name below ``root``."""
    place.mkdir(parents=True)
    _write_files(place, contents)
    prefix = place.relative_to(root).as_posix()
    return {f"{prefix}/{n}": hashlib.sha256(contents[n]).hexdigest() for n in contents}


def _write_files(place: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        write_durably(place / name, content)


def _copy(source: Path, destination: Path) -> dict[str, Any]:
    """Copy one file durably; return its size and digest."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    size_bytes = 0
    with source.open("rb") as reader, destination.open("xb") as writer:
        while block := reader.read(_BLOCK_BYTES):
            digest.update(block)
            size_bytes += len(block)
            writer.write(block)
        writer.flush()
        os.fsync(writer.fileno())
    return {"sha256": digest.hexdigest(), "size_bytes": size_bytes}


def _fill(
    place: Path,
    candidate: CandidateReport,
    model: ModelReport,
    artifact: Artifact,
    describe: Describe | None,
) -> dict[str, str]:
    """Copy the artifact to ``place`` and describe it; return the digest of each file by its name.

    Raises:
        EdgeAIError: where the files are not those that were measured.
    """
    root = artifact_root(artifact.path)
    copies = place / "artifact"
    files: dict[str, dict[str, Any]] = {}
    for source in artifact.files:
        try:
            name = source.relative_to(root).as_posix()
        except ValueError:
            raise EdgeAIError(f"{source} does not lie beside {artifact.path}") from None
        if name not in files:
            files[name] = _copy(source, copies / name)
    if artifact.path != root and artifact.path.name not in files:
        raise EdgeAIError(f"{artifact.path} is not among the files of its artifact")
    copied = [copies / name for name in files]
    changed = [n for n in files if digest_file(copies / n) != files[n]["sha256"]]
    if changed:
        raise EdgeAIError(f"{', '.join(changed)} did not arrive as it was read; check the disk")
    if digest_files(copied, copies) != artifact.sha256:
        raise EdgeAIError(
            f"{artifact.path} changed after it was measured; run again with --edge-refresh"
        )
    description = {
        "schema": BUNDLE_SCHEMA,
        "model": {"name": model.name, "sha256": model.sha256, "task": model.task},
        "target": candidate.target,
        "candidate": candidate.id,
        "recipe": to_json(candidate.recipe),
        "artifact": {
            "main": artifact.path.relative_to(root).as_posix(),
            "sha256": artifact.sha256,
            "size_bytes": artifact.size_bytes,
            "precision": artifact.claimed_precision,
            "framework": artifact.framework,
            "versions": to_json(artifact.versions),
        },
        "files": files,
    }
    text = (json.dumps(description, indent=2, allow_nan=False) + "\n").encode()
    digests = {f"artifact/{name}": str(fact["sha256"]) for name, fact in files.items()}
    documents = {DESCRIPTION: text}
    if describe is not None:
        documents |= {name: made.encode() for name, made in describe(digests).items()}
    for name, content in documents.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        write_durably(place / name, content)
    return digests | {name: hashlib.sha256(made).hexdigest() for name, made in documents.items()}
