"""A registry in MLflow: a registered model for each model and target, with aliases.

https://mlflow.org/docs/latest/ml/model-registry/. Each promotion and each rollback is one version
of the registered model, whose tags hold its entry and whose source is the run that holds the files.
MLflow numbers the versions of a model one by one, and makes a version with its tags in one step;
both are what the guarantees stand on:

- A change takes effect when its version is made. Before that nothing but a run is there.
- An entry names the entry that it was made on, as in :mod:`~pytest_edgeai.promote.registry_log`. Of
  two that were made on the same one, the lower version counts; the other did not happen, removes
  itself, and says so.

The aliases ``current`` and ``previous`` are set after that, one by one, for others who read MLflow.
Where the process died before, they are behind until the next change sets them.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.promote.names import reference_name
from pytest_edgeai.promote.registry_layout import SCHEMA
from pytest_edgeai.promote.registry_log import (
    NO_PARENT,
    Damaged,
    Entry,
    Log,
    Pair,
    current_and_previous,
    entry_of,
    render_entry,
    replay,
)
from pytest_edgeai.promote.registry_mlflow_client import (
    as_one_line,
    client_of,
    masked,
)
from pytest_edgeai.promote.registry_state import Snapshot
from pytest_edgeai.promote.verification import CERTIFICATE, Rejected, Verified, verify_bundle

if TYPE_CHECKING:
    from pytest_edgeai.promote.keys import PublicKey
    from pytest_edgeai.promote.statement import Statement

_SCHEMA, _ENTRY = "pytest-edgeai.schema", "pytest-edgeai.entry"
_SHOWN = ("action", "model", "target", "candidate", "bundle", "keyid", "expires")
_FOLDER = "bundle"
_ALIASES = ("current", "previous")


class _Version(NamedTuple):
    """A version of a registered model that counts."""

    number: str
    entry: Entry
    source: str
    run: str


class MlflowRegistry:
    """Reads and changes one registry."""

    def __init__(self, uri: str, *, create: bool = False) -> None:
        """Use the registry of an MLflow.

        Args:
            uri: of its server or its database.
            create: make the database where it is a file that does not exist.

        Raises:
            UserError: MLflow is not installed, or there is no registry.
        """
        self._place = f"mlflow:{masked(uri)}"
        self._client, self._artifacts, self._artifact_root = client_of(uri, create=create)
        self._uri = uri

    def read(self) -> Snapshot:
        """See :class:`~pytest_edgeai.promote.registry_address.ReadableRegistry`."""
        return self._snapshot(self._versions(f"tag.`{_SCHEMA}` = '{SCHEMA}'"))

    def standing(self, model: str, target: str) -> Sequence[Entry]:
        """See :class:`~pytest_edgeai.promote.registry_address.ReadableRegistry`."""
        return self.read().stack(model, target)

    def _snapshot(self, versions: Mapping[Pair, Sequence[_Version]]) -> Snapshot:
        entries = [version.entry for each in versions.values() for version in each]
        entries.sort(key=lambda entry: (entry.time, entry.pair, entry.sequence))
        by_pair = [entry for each in versions.values() for entry in map(_entry_of, each)]
        return Snapshot(Log(entries, 0, 0, NO_PARENT), replay(by_pair, self._place))

    def _versions(self, query: str) -> dict[Pair, list[_Version]]:
        """Return the versions that count, in their order.

        Raises:
            Damaged: one cannot be understood, or follows from none.
            UserError: MLflow cannot be asked.
        """
        found: list[Any] = []
        token: str | None = None
        with self._unchanged("it cannot be read"):
            while token is None or token:
                page = self._client.search_model_versions(query, max_results=1000, page_token=token)
                found += page
                token = page.token or ""
        found.sort(key=lambda version: (version.name, int(version.version)))
        counted: dict[Pair, list[_Version]] = {}
        heads: dict[Pair, str] = {}
        known: dict[Pair, set[str]] = {}
        for each in found:
            if _ENTRY not in each.tags:
                continue
            entry = self._entry(each)
            pair = entry.pair
            head = heads.get(pair, NO_PARENT)
            if entry.parent != head:
                if entry.parent in known.get(pair, {NO_PARENT}):
                    # It was made on a state on which another one had been made before.
                    continue
                raise Damaged(
                    f"{self._place} is damaged: version {each.version} of {each.name} does not "
                    "follow from the one before"
                )
            known.setdefault(pair, set()).add(head)
            heads[pair] = sha256(render_entry(entry)[:-1]).hexdigest()
            version = _Version(str(each.version), entry, each.source, each.run_id or "")
            counted.setdefault(pair, []).append(version)
        return counted

    def _entry(self, version: Any) -> Entry:
        try:
            entry = entry_of(json.loads(version.tags[_ENTRY]))
            if entry is None:
                raise ValueError("it is no entry")
            if version.name != reference_name(*entry.pair):
                raise ValueError(f"it is about {entry.pair}")
        except (ValueError, RecursionError, UserError) as error:
            raise Damaged(
                f"{self._place} is damaged: the tags of version {version.version} of "
                f"{version.name} cannot be understood ({error})"
            ) from None
        return entry

    def _of(self, pair: Pair) -> list[_Version]:
        return self._versions(f"name = '{reference_name(*pair)}'").get(pair, [])

    def statement(self, entry: Entry) -> Statement:
        """See :class:`~pytest_edgeai.promote.registry_address.ReadableRegistry`."""
        return self._statement(self._holding(entry))

    def _statement(self, version: _Version) -> Statement:
        from pytest_edgeai.promote.verification import read_statement

        with tempfile.TemporaryDirectory() as folder, self._unchanged("nothing was read"):
            self._download(f"{version.source}/{CERTIFICATE}", Path(folder))
            return read_statement(Path(folder))

    def _holding(self, entry: Entry) -> _Version:
        """Return a version whose source is the bundle of an entry."""
        for version in self._of(entry.pair):
            if version.entry.bundle == entry.bundle:
                return version
        raise UserError(f"bundle {entry.bundle[:12]} is not there", where=self._place)

    def location(self, entry: Entry) -> str:
        """See :class:`~pytest_edgeai.promote.registry_address.ReadableRegistry`."""
        return self._holding(entry).source

    def unpack(self, entry: Entry, place: Path) -> None:
        """See :class:`~pytest_edgeai.promote.registry_address.ReadableRegistry`."""
        version = self._holding(entry)
        with self._unchanged("nothing was fetched"):
            self._download(version.source, place)
        for path in (place / _FOLDER).iterdir():
            path.rename(place / path.name)
        (place / _FOLDER).rmdir()

    def _download(self, source: str, place: Path) -> None:
        self._artifacts.download_artifacts(
            artifact_uri=source, dst_path=str(place), tracking_uri=self._uri
        )

    def promote(self, bundle: Path, key: PublicKey, *, now: datetime.datetime) -> Entry | None:
        """Make a bundle the current one; see :meth:`.registry.Registry.promote`."""
        verified = verify_bundle(bundle, key, now=now)
        statement = verified.statement
        pair = statement.model, statement.target
        versions = self._of(pair)
        stack = self._snapshot({pair: versions}).stacks.get(pair, ())
        if stack and stack[-1].bundle == verified.digest:
            self._set_aliases(pair, versions)
            return None
        held = next((v for v in versions if v.entry.bundle == verified.digest), None)
        source, run = (held.source, held.run) if held else self._upload(bundle, verified)
        self._check_copy(source, verified.digest)
        entry = Entry(
            sequence=len(versions) + 1,
            time=now.isoformat(timespec="seconds"),
            action="promote",
            model=statement.model,
            target=statement.target,
            candidate=statement.candidate,
            bundle=verified.digest,
            replaced=stack[-1].bundle if stack else None,
            keyid=verified.keyid,
            expires=statement.expires.isoformat(),
            parent=_head(versions),
        )
        self._commit(entry, source, run)
        return entry

    def rollback(
        self, model: str, target: str, *, now: datetime.datetime, expected: int | None = None
    ) -> Entry:
        """Go back to the bundle before; see :meth:`.registry.Registry.rollback`."""
        from pytest_edgeai.promote.registry import Refused

        pair = model, target
        versions = self._of(pair)
        # Of all models, so that a name that was mistyped can be told from one that never was.
        snapshot = self._snapshot({pair: versions}) if versions else self.read()
        stack = snapshot.stack(model, target)
        if expected is not None and versions[-1].entry.sequence != expected:
            raise _came_first(versions[-1].entry)
        if len(stack) < 2:
            raise Refused(
                f"{model} for {target} cannot be rolled back: bundle {stack[-1].bundle[:12]} "
                "was the first"
            )
        back, left = stack[-2], stack[-1]
        held = next(v for v in versions if v.entry.bundle == back.bundle)
        try:
            self._check_present(held)
        except EdgeAIError as error:
            raise Refused(f"{model} for {target} is not rolled back: {error}") from None
        entry = back._replace(
            sequence=len(versions) + 1,
            time=now.isoformat(timespec="seconds"),
            action="rollback",
            replaced=left.bundle,
            parent=_head(versions),
        )
        self._commit(entry, held.source, held.run)
        return entry

    def _upload(self, bundle: Path, verified: Verified) -> tuple[str, str]:
        """Copy a bundle to a new run; return the copy's address and the run."""
        statement = verified.statement
        with self._unchanged():
            experiment = self._client.get_experiment_by_name("pytest-edgeai")
            number = (
                self._client.create_experiment("pytest-edgeai", self._artifact_root)
                if experiment is None
                else experiment.experiment_id
            )
            run = self._client.create_run(
                number,
                run_name=f"{statement.model} {statement.candidate} for {statement.target}",
                tags={"pytest-edgeai.bundle": verified.digest},
            )
            self._client.log_artifacts(run.info.run_id, str(bundle), _FOLDER)
            self._client.set_terminated(run.info.run_id)
        return f"{run.info.artifact_uri}/{_FOLDER}", str(run.info.run_id)

    def _check_copy(self, source: str, digest: str) -> None:
        """Read every file of a copy in MLflow.

        Raises:
            Rejected: it is not what was copied.
        """
        from pytest_edgeai.promote.registry_files import check_copy

        with tempfile.TemporaryDirectory() as folder:
            with self._unchanged():
                self._download(source, Path(folder))
            try:
                check_copy(Path(folder) / _FOLDER, digest)
            except EdgeAIError as error:
                raise Damaged(f"the copy in {self._place} was changed: {error}") from None

    def _check_present(self, version: _Version) -> None:
        """Look for every file of a bundle, without reading them."""
        expected = {*self._statement(version).files, CERTIFICATE}
        present: set[str] = set()
        waiting = [_FOLDER]
        with self._unchanged():
            while waiting:
                for each in self._client.list_artifacts(version.run, waiting.pop()):
                    if each.is_dir:
                        waiting.append(each.path)
                    else:
                        present.add(each.path.removeprefix(f"{_FOLDER}/"))
        if missing := sorted(expected - present):
            raise Rejected(f"{version.source}: {missing[0]} is missing")

    def _commit(self, entry: Entry, source: str, run: str) -> None:
        """Make the version of an entry, and take it back where another came first."""
        name = reference_name(*entry.pair)
        tags = {_SCHEMA: SCHEMA, _ENTRY: json.dumps(entry._asdict())}
        tags |= {f"pytest-edgeai.{field}": str(getattr(entry, field)) for field in _SHOWN}
        with self._unchanged():
            self._make_model(name)
            made = self._client.create_model_version(name, source, run or None, tags=tags)
        versions = self._of(entry.pair)
        if str(made.version) not in {version.number for version in versions}:
            with self._unchanged():
                self._client.delete_model_version(name, str(made.version))
            raise _came_first(versions[-1].entry)
        self._set_aliases(entry.pair, versions)

    def _make_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name, tags={_SCHEMA: SCHEMA})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _set_aliases(self, pair: Pair, versions: Sequence[_Version]) -> None:
        """Let the aliases say what the versions do, where they do not."""
        name = reference_name(*pair)
        stack = self._snapshot({pair: versions}).stacks[pair]
        numbers = {version.entry.sequence: version.number for version in versions}
        previous = current_and_previous(stack)["previous"]
        wanted = {
            "current": versions[-1].number,
            "previous": previous and numbers[previous.sequence],
        }
        what = f"{name} was changed, but its aliases were not; promote once more to set them"
        with self._unchanged(what):
            aliases = self._client.get_registered_model(name).aliases
            for alias in _ALIASES:
                number = wanted[alias]
                if number is None and alias in aliases:
                    self._client.delete_registered_model_alias(name, alias)
                elif number is not None and str(aliases.get(alias)) != number:
                    self._client.set_registered_model_alias(name, alias, number)

    @contextlib.contextmanager
    def _unchanged(self, what: str = "the registry is unchanged") -> Iterator[None]:
        with as_one_line(self._place, what):
            yield


def _entry_of(version: _Version) -> Entry:
    return version.entry


def _head(versions: Sequence[_Version]) -> str:
    """Return what the next entry names as the one before it."""
    if not versions:
        return NO_PARENT
    return sha256(render_entry(versions[-1].entry)[:-1]).hexdigest()


def _came_first(last: Entry) -> EdgeAIError:
    from pytest_edgeai.promote.registry import Refused

    return Refused(
        f"{last.model} for {last.target}: another {last.action} came first, of bundle "
        f"{last.bundle[:12]} at {last.time}; look at it, then decide again"
    )
