"""The registry in MLflow, against a real one in a file of SQLite."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from promotions import NOW, public_pem, signed_bundle

from pytest_edgeai.errors import UserError
from pytest_edgeai.promote.keys import SigningKey
from pytest_edgeai.promote.registry import Refused
from pytest_edgeai.promote.registry_address import fetch
from pytest_edgeai.promote.registry_log import Damaged
from pytest_edgeai.promote.registry_mlflow import MlflowRegistry
from pytest_edgeai.promote.verification import Rejected, Verified, verify_bundle

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("mlflow", "sqlalchemy", "alembic"))),
    reason='needs: pip install "pytest-edgeai[mlflow]"',
)
PAIR = ("digits", "intel")
NAME = "digits--intel"


@pytest.fixture(name="empty", scope="module")
def empty_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without a registered model; making one takes seconds."""
    file = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowRegistry(f"sqlite:///{file}", create=True)
    return file


@pytest.fixture(name="file")
def file_fixture(tmp_path: Path, empty: Path) -> Path:
    return Path(shutil.copy(empty, tmp_path / "mlflow.db"))


@pytest.fixture(name="registry")
def registry_fixture(file: Path) -> MlflowRegistry:
    return MlflowRegistry(f"sqlite:///{file}")


@pytest.fixture(name="bundles")
def bundles_fixture(tmp_path: Path, key: SigningKey) -> list[Path]:
    return [signed_bundle(tmp_path, key, content) for content in (b"one", b"two", b"three")]


def promote(registry: MlflowRegistry, bundle: Path, key: SigningKey) -> str:
    entry = registry.promote(bundle, key.public, now=NOW)
    assert entry is not None
    return entry.bundle


def back(registry: MlflowRegistry) -> str:
    return registry.rollback(*PAIR, now=NOW).bundle


def standing(registry: MlflowRegistry) -> list[str]:
    return [entry.bundle for entry in registry.read().stacks.get(PAIR, ())]


def aliased(registry: MlflowRegistry) -> list[str | None]:
    """Return the bundles of ``previous`` and ``current``, as any client of MLflow reads them."""
    client = registry._client
    found: list[str | None] = []
    for alias in ("previous", "current"):
        number = client.get_registered_model(NAME).aliases.get(alias)
        found.append(number and client.get_model_version(NAME, number).tags["pytest-edgeai.bundle"])
    return found


def test_promotions_pile_up_and_rollbacks_take_them_away(
    registry: MlflowRegistry, bundles: list[Path], key: SigningKey
) -> None:
    one, two, three = (promote(registry, bundle, key) for bundle in bundles)
    assert standing(registry) == [one, two, three]
    assert aliased(registry) == [two, three]
    assert back(registry) == two
    assert aliased(registry) == [one, two]
    assert back(registry) == one
    assert aliased(registry) == [None, one]
    with pytest.raises(Refused, match=f"digits for intel .* bundle {one[:12]} was the first"):
        back(registry)
    assert promote(registry, bundles[2], key) == three
    assert standing(registry) == [one, three]
    assert aliased(registry) == [one, three]
    log = registry.read().log.entries
    assert [(entry.sequence, entry.action, entry.replaced) for entry in log] == [
        (1, "promote", None),
        (2, "promote", one),
        (3, "promote", two),
        (4, "rollback", three),
        (5, "rollback", two),
        (6, "promote", one),
    ]


def test_what_is_current_is_not_promoted_again_but_its_aliases_are_set(
    registry: MlflowRegistry, bundles: list[Path], key: SigningKey
) -> None:
    one = promote(registry, bundles[0], key)
    registry._client.delete_registered_model_alias(NAME, "current")
    assert registry.promote(bundles[0], key.public, now=NOW) is None
    assert aliased(registry) == [None, one]
    assert len(registry.read().log.entries) == 1


def test_a_bundle_comes_out_as_it_went_in(
    tmp_path: Path, registry: MlflowRegistry, bundles: list[Path], key: SigningKey
) -> None:
    digest = promote(registry, bundles[0], key)
    (entry,) = registry.read().stacks[PAIR]
    assert registry.statement(entry).model == "digits"
    fetch(registry, entry, tmp_path / "out", key.public)
    assert verify_bundle(tmp_path / "out", key.public, now=NOW).digest == digest
    with pytest.raises(UserError, match="nothing is overwritten"):
        fetch(registry, entry, tmp_path / "out", key.public)


@pytest.mark.filterwarnings("ignore")
def test_others_get_what_is_current_by_its_alias(
    tmp_path: Path, file: Path, registry: MlflowRegistry, bundles: list[Path], key: SigningKey
) -> None:
    import mlflow

    digest = promote(registry, bundles[0], key)
    mlflow.set_tracking_uri(f"sqlite:///{file}")
    place = mlflow.artifacts.download_artifacts(
        f"models:/{NAME}@current", dst_path=str(tmp_path / "out")
    )
    found = (
        verify_bundle(
            Path(place),
            key.public,
            now=NOW,
        )
        if (Path(place) / "certificate.json").exists()
        else verify_bundle(Path(place) / "bundle", key.public, now=NOW)
    )
    assert found.digest == digest


def test_models_stand_apart_whatever_they_are_called(
    tmp_path: Path, registry: MlflowRegistry, bundles: list[Path], key: SigningKey
) -> None:
    promote(registry, bundles[0], key)
    promote(registry, signed_bundle(tmp_path, key, b"one", name="a/b: .."), key)
    assert set(registry.read().stacks) == {PAIR, ("a/b: ..", "intel")}
    with pytest.raises(Refused, match="was the first"):
        back(registry)
    with pytest.raises(UserError, match='Did you mean "digits"'):
        registry.rollback("digit", "intel", now=NOW)


def test_a_rejected_bundle_changes_nothing(
    registry: MlflowRegistry, bundles: list[Path], key: SigningKey
) -> None:
    one = promote(registry, bundles[0], key)
    (bundles[1] / "artifact" / "model.bin").write_bytes(b"tampered")
    with pytest.raises(Rejected, match="was changed"):
        registry.promote(bundles[1], key.public, now=NOW)
    assert standing(registry) == [one]
    assert len(registry._client.search_model_versions(f"name = '{NAME}'")) == 1


class Overtaken(MlflowRegistry):
    """Another promotion takes effect while this one copies."""

    other: tuple[MlflowRegistry, Path, SigningKey]

    def _upload(self, bundle: Path, verified: Verified) -> tuple[str, str]:
        made = super()._upload(bundle, verified)
        promote(*self.other)
        return made


def test_of_two_promotions_at_once_one_wins_and_the_other_says_so(
    file: Path, registry: MlflowRegistry, bundles: list[Path], key: SigningKey
) -> None:
    slow = Overtaken(f"sqlite:///{file}")
    slow.other = registry, bundles[1], key
    with pytest.raises(Refused, match="another promote came first, of bundle"):
        slow.promote(bundles[0], key.public, now=NOW)
    (won,) = standing(registry)
    assert won == verify_bundle(bundles[1], None, now=NOW).digest
    assert aliased(registry) == [None, won]
    # What lost has removed itself.
    assert len(registry._client.search_model_versions(f"name = '{NAME}'")) == 1
    three = promote(registry, bundles[2], key)
    assert standing(registry) == [won, three]


def test_what_lost_and_died_before_it_was_removed_does_not_count(
    registry: MlflowRegistry, bundles: list[Path], key: SigningKey
) -> None:
    one = promote(registry, bundles[0], key)
    version = registry._client.get_model_version(NAME, "1")
    lost = json.loads(version.tags["pytest-edgeai.entry"]) | {"bundle": "f" * 64}
    tags = version.tags | {"pytest-edgeai.entry": json.dumps(lost)}
    registry._client.create_model_version(NAME, version.source, version.run_id, tags=tags)
    assert standing(registry) == [one]
    two = promote(registry, bundles[1], key)
    assert standing(registry) == [one, two]
    assert aliased(registry) == [one, two]


def test_a_rollback_does_not_undo_what_it_did_not_see(
    registry: MlflowRegistry, bundles: list[Path], key: SigningKey
) -> None:
    for bundle in bundles:
        promote(registry, bundle, key)
    with pytest.raises(Refused, match="another promote came first"):
        registry.rollback(*PAIR, now=NOW, expected=2)
    assert len(standing(registry)) == 3


def test_what_something_else_changed_is_told(
    registry: MlflowRegistry, bundles: list[Path], key: SigningKey
) -> None:
    promote(registry, bundles[0], key)
    promote(registry, bundles[1], key)
    client = registry._client
    entry = client.get_model_version(NAME, "1").tags["pytest-edgeai.entry"]
    for broken in ("{", "{}", "[]", entry.replace('"digits"', '"other"'), entry.replace("2", "3")):
        client.set_model_version_tag(NAME, "1", "pytest-edgeai.entry", broken)
        with pytest.raises(Damaged) as caught:
            registry.read()
        assert "\n" not in str(caught.value)
    client.set_model_version_tag(NAME, "1", "pytest-edgeai.entry", entry)
    assert len(standing(registry)) == 2
    client.delete_model_version(NAME, "1")
    with pytest.raises(Damaged, match="does not follow"):
        registry.read()


def test_a_damaged_copy_is_neither_promoted_nor_gone_back_to(
    registry: MlflowRegistry, bundles: list[Path], key: SigningKey
) -> None:
    promote(registry, bundles[0], key)
    source = Path(registry.location(registry.read().stacks[PAIR][0]).removeprefix("file://"))
    promote(registry, bundles[1], key)
    weights = source / "artifact" / "model.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"x")
    with pytest.raises(Damaged, match="was changed"):
        registry.promote(bundles[0], key.public, now=NOW)
    weights.unlink()
    with pytest.raises(Refused, match=r"artifact/model\.bin is missing"):
        back(registry)
    weights.write_bytes(content)
    back(registry)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models", "is no URI"),
        ("sqlite:///{here}/missing.db", "does not exist"),
        ("sqlite:///{here}/text.db", "cannot be read: file is not a database"),
        ("sqlite:///{here}/other.db", "is no database of MLflow"),
        ("sqlite:///", "names no file"),
        ("nonsense://host/x", "MLflow cannot be used"),
    ],
)
def test_what_is_no_mlflow_is_one_line(tmp_path: Path, uri: str, message: str) -> None:
    (tmp_path / "text.db").write_text("a thesis, and no database of any kind" * 100)
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("CREATE TABLE thesis (page)")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(UserError, match=message) as caught:
        MlflowRegistry(uri.format(here=tmp_path))
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_server_that_is_not_there_is_one_line_without_its_password() -> None:
    registry = MlflowRegistry("http://me:secret@127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be read: API request") as caught:
        registry.read()
    assert "secret" not in str(caught.value)


KILLED = """
    import datetime, os, shutil, signal, sys, warnings
    from pathlib import Path
    warnings.simplefilter("ignore")
    from pytest_edgeai.promote.keys import read_public_key
    from pytest_edgeai.promote.registry_mlflow import MlflowRegistry
    from pytest_edgeai.promote.registry_mlflow_client import client_of

    root, bundle, action, stride = Path(sys.argv[1]), *sys.argv[2:4], int(sys.argv[4])
    key = read_public_key(root / "key.pub", where="key")
    key.verifies(b"", b"")
    now = datetime.datetime(2026, 11, 22, 4, tzinfo=datetime.UTC)
    shutil.copy(root / "old.db", root / "warm.db")
    MlflowRegistry(f"sqlite:///{root}/warm.db").read()

    def die_at(step, file):
        seen = 0
        def trace(frame, event, argument):
            nonlocal seen
            if "promote/registry_mlflow" not in frame.f_code.co_filename:
                return None
            if event == "line":
                seen += 1
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace
        registry = MlflowRegistry(f"sqlite:///{file}")
        sys.settrace(trace)
        if action == "promote":
            registry.promote(Path(bundle), key, now=now)
        else:
            registry.rollback("digits", "intel", now=now)
        os._exit(0)

    step = 1
    while True:
        file = Path(shutil.copy(root / "old.db", root / f"{step}.db"))
        child = os.fork()
        if child == 0:
            die_at(step, file)
        status = os.waitpid(child, 0)[1]
        print(step, os.WTERMSIG(status) if os.WIFSIGNALED(status) else "done", flush=True)
        if not os.WIFSIGNALED(status):
            break
        step += stride
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("action", "stride"), [("promote", 31), ("rollback", 29)])
def test_a_process_that_is_killed_anywhere_leaves_the_old_or_the_new_state(
    tmp_path: Path, empty: Path, bundles: list[Path], key: SigningKey, action: str, stride: int
) -> None:
    root = tmp_path / "killed"
    root.mkdir()
    (root / "key.pub").write_bytes(public_pem())
    shutil.copy(empty, root / "old.db")
    start = MlflowRegistry(f"sqlite:///{root}/old.db")
    old = [promote(start, bundle, key) for bundle in bundles[:2]]
    words = [root, bundles[2], action, stride]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    steps = [line.split() for line in done.stdout.splitlines()]
    assert steps[-1][1] == "done"
    assert len(steps) > 5
    new = standing(MlflowRegistry(f"sqlite:///{root}/{steps[-1][0]}.db"))
    assert new != old
    found = set()
    for step, _ in steps:
        registry = MlflowRegistry(f"sqlite:///{root}/{step}.db")
        stack = standing(registry)
        assert stack in (old, new)
        found.add(tuple(stack))
        if stack == old:
            if action == "promote":
                promote(registry, bundles[2], key)
            else:
                back(registry)
        else:
            current = bundles[2 if action == "promote" else 0]
            assert registry.promote(current, key.public, now=NOW) is None
        assert standing(registry) == new
        # The aliases follow with the next change at the latest.
        assert aliased(registry) == [None, None, *new][-2:]
    assert found == {tuple(old), tuple(new)}


@pytest.fixture(name="without_mlflow")
def without_mlflow_fixture(tmp_path: Path) -> dict[str, str]:
    """An environment in which MLflow cannot be imported."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['mlflow'] = None\n", encoding="utf-8"
    )
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def test_without_the_extra_the_command_says_what_to_install(
    file: Path, without_mlflow: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_edgeai", "registry", "list", f"mlflow:sqlite:///{file}"],
        capture_output=True,
        text=True,
        check=False,
        env=without_mlflow,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert 'Run: pip install "pytest-edgeai[mlflow]"' in done.stderr
