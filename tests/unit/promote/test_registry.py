from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from promotions import NOW, public_pem, signed_bundle

from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.promote.keys import SigningKey
from pytest_edgeai.promote.registry import Refused, Registry
from pytest_edgeai.promote.registry_layout import Layout, PlainLayout
from pytest_edgeai.promote.registry_log import Damaged, render_entry
from pytest_edgeai.promote.registry_oci import OciLayout
from pytest_edgeai.promote.verification import Rejected, verify_bundle

posix = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX")


@pytest.fixture(name="bundles")
def bundles_fixture(tmp_path: Path, key: SigningKey) -> list[Path]:
    """Three bundles of one model and target."""
    return [signed_bundle(tmp_path, key, content) for content in (b"one", b"two", b"three")]


@pytest.fixture(name="layout", params=[PlainLayout, OciLayout])
def layout_fixture(request: pytest.FixtureRequest) -> type[Layout]:
    """What holds for one layout holds for every one."""
    layout: type[Layout] = request.param
    return layout


@pytest.fixture(name="registry")
def registry_fixture(tmp_path: Path, layout: type[Layout]) -> Registry:
    return Registry(tmp_path / "registry", layout, create=True)


def promote(registry: Registry, bundle: Path, key: SigningKey) -> str:
    entry = registry.promote(bundle, key.public, now=NOW)
    assert entry is not None
    return entry.bundle


def back(registry: Registry) -> str:
    return registry.rollback("digits", "intel", now=NOW).bundle


def standing(registry: Registry) -> list[str]:
    """Return the bundles that stand; log, pointer and files must agree."""
    snapshot = registry.read()
    stack = [entry.bundle for entry in snapshot.stacks.get(("digits", "intel"), ())]
    assert pointed_at(registry) == [None, None, *stack][-2:]
    for digest in stack:
        registry.layout.check_whole(digest)
    return stack


def pointed_at(registry: Registry) -> list[str | None]:
    """Return the previous and the current bundle, as others than this package read them."""
    if isinstance(registry.layout, OciLayout):
        index = json.loads((registry.directory / "index.json").read_text())
        tags = {
            each["annotations"]["org.opencontainers.image.ref.name"]: each
            for each in index["manifests"]
        }
        named = [tags.get(f"{name}--digits--intel") for name in ("previous", "current")]
        for each in filter(None, named):
            manifest = registry.directory / "blobs" / each["digest"].replace(":", "/")
            content = manifest.read_bytes()
            assert hashlib.sha256(content).hexdigest() == manifest.name
            bundle = json.loads(content)["annotations"]["pytest-edgeai.bundle"]
            assert bundle == each["annotations"]["pytest-edgeai.bundle"]
        return [each and each["annotations"]["pytest-edgeai.bundle"] for each in named]
    try:
        pointer = json.loads(registry.layout.pointer(("digits", "intel")).read_text())
    except FileNotFoundError:
        return [None, None]
    named = [pointer["previous"], pointer["current"]]
    for each in filter(None, named):
        path = registry.directory / each["path"]
        assert verify_bundle(path, None, now=NOW).digest == each["bundle"] == path.name
    return [each and each["bundle"] for each in named]


def stored(registry: Registry, digest: str, name: str) -> Path:
    """Return where a file of a bundle lies in a registry."""
    if isinstance(registry.layout, OciLayout):
        manifest = json.loads(registry.layout.location(digest).read_bytes())
        (found,) = (
            each
            for each in manifest["layers"]
            if each["annotations"]["org.opencontainers.image.title"] == name
        )
        blob: str = found["digest"]
        return registry.directory / "blobs" / blob.replace(":", "/")
    return registry.layout.location(digest) / name


def kept(registry: Registry) -> list[Path]:
    """Return what each bundle that was ever promoted is found by."""
    if isinstance(registry.layout, OciLayout):
        index = json.loads((registry.directory / "index.json").read_text())
        return list({registry.directory / each["digest"] for each in index["manifests"]})
    return list((registry.directory / "bundles").iterdir())


def tree(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_promotions_pile_up_and_rollbacks_take_them_away(
    registry: Registry, bundles: list[Path], key: SigningKey
) -> None:
    one, two, three = (promote(registry, bundle, key) for bundle in bundles)
    assert standing(registry) == [one, two, three]
    assert back(registry) == two
    assert back(registry) == one
    assert standing(registry) == [one]
    with pytest.raises(Refused, match=f"digits for intel .* bundle {one[:12]} was the first"):
        back(registry)
    assert promote(registry, bundles[2], key) == three
    assert standing(registry) == [one, three]
    log = registry.read().log.entries
    assert [entry.action for entry in log] == [
        "promote", "promote", "promote", "rollback", "rollback", "promote"
    ]  # fmt: skip
    assert [entry.replaced for entry in log] == [None, one, two, three, two, one]
    assert len(kept(registry)) == 3


def test_what_is_current_is_not_promoted_again(
    registry: Registry, bundles: list[Path], key: SigningKey
) -> None:
    promote(registry, bundles[0], key)
    before = tree(registry.directory)
    assert registry.promote(bundles[0], key.public, now=NOW) is None
    assert tree(registry.directory) == before


def test_models_and_targets_stand_apart(
    tmp_path: Path, registry: Registry, bundles: list[Path], key: SigningKey
) -> None:
    promote(registry, bundles[0], key)
    promote(registry, signed_bundle(tmp_path, key, b"one", name="a/b .."), key)
    assert set(registry.read().stacks) == {("digits", "intel"), ("a/b ..", "intel")}
    assert registry.layout.pointer(("a/b ..", "intel")).is_file()
    assert registry.layout.pointer(("a/b ..", "intel")).is_relative_to(registry.directory)
    with pytest.raises(Refused, match="was the first"):
        back(registry)


def test_a_rejected_bundle_leaves_the_registry_as_it_was(
    registry: Registry, bundles: list[Path], key: SigningKey
) -> None:
    promote(registry, bundles[0], key)
    before = tree(registry.directory)
    (bundles[1] / "artifact" / "model.bin").write_bytes(b"tampered")
    with pytest.raises(Rejected, match="was changed"):
        registry.promote(bundles[1], key.public, now=NOW)
    late = NOW + datetime.timedelta(days=900)
    with pytest.raises(Rejected, match="expired"):
        registry.promote(bundles[2], key.public, now=late)
    assert tree(registry.directory) == before


def test_a_damaged_copy_is_neither_promoted_nor_gone_back_to(
    registry: Registry, bundles: list[Path], key: SigningKey
) -> None:
    one = promote(registry, bundles[0], key)
    promote(registry, bundles[1], key)
    before = standing(registry)
    weights = stored(registry, one, "artifact/model.bin")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"x")
    with pytest.raises(Damaged, match="the registry's own copy was changed"):
        registry.promote(bundles[0], key.public, now=NOW)
    weights.unlink()
    with pytest.raises(Refused, match=r"is not rolled back: .*model\.bin is missing"):
        back(registry)
    weights.write_bytes(content)
    assert standing(registry) == before
    place = registry.layout.location(one)
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(Refused, match=r"does not exist|is missing"):
        back(registry)


def test_nothing_to_roll_back_to_is_one_line(registry: Registry) -> None:
    with pytest.raises(UserError, match='nothing of model "digits" was promoted'):
        back(registry)
    assert not registry.read().log.entries


@pytest.mark.parametrize("layout", [PlainLayout])
@pytest.mark.parametrize("what", ["file", "other", "missing", "newer", "broken", "foreign"])
def test_a_directory_that_is_no_registry_is_refused_and_left_alone(
    tmp_path: Path, layout: type[Layout], what: str
) -> None:
    place = tmp_path / "place"
    if what == "file":
        place.write_text("")
    elif what != "missing":
        place.mkdir()
        marks = {
            "newer": '{"schema": "pytest-edgeai/registry/2"}',
            "broken": "{",
            "foreign": '{"schema": "npm"}',
        }
        (place / ("registry.json" if what in marks else "thesis.txt")).write_text(
            marks.get(what, "")
        )
    before = tree(tmp_path)
    message = {
        "file": "is no directory",
        "other": "is no registry: it has no registry.json",
        "missing": "does not exist",
        "newer": "is of schema pytest-edgeai/registry/2",
        "broken": "does not mark a registry",
        "foreign": "does not mark a registry",
    }[what]
    for create in (False, True)[: 1 if what == "missing" else 2]:
        with pytest.raises(UserError, match=message):
            Registry(place, layout, create=create)
    assert tree(tmp_path) == before


def test_of_two_promotions_at_once_one_wins_and_the_other_says_so(
    registry: Registry, bundles: list[Path], key: SigningKey
) -> None:
    with registry.staged(bundles[0], key.public, now=NOW) as slow:
        with registry.staged(bundles[1], key.public, now=NOW) as quick:
            won = registry.commit(quick, now=NOW)
        assert won is not None
        with pytest.raises(
            Refused, match=f"another promote came first, of bundle {won.bundle[:12]}"
        ):
            registry.commit(slow, now=NOW)
    assert standing(registry) == [won.bundle]
    assert not list((registry.directory / "staging").iterdir())


def test_two_promotions_of_the_same_bundle_at_once_are_one(
    registry: Registry, bundles: list[Path], key: SigningKey
) -> None:
    with registry.staged(bundles[0], key.public, now=NOW) as slow:
        promote(registry, bundles[0], key)
        assert registry.commit(slow, now=NOW) is None
    assert len(registry.read().log.entries) == 1


def test_a_rollback_does_not_undo_what_it_did_not_see(
    registry: Registry, bundles: list[Path], key: SigningKey
) -> None:
    for bundle in bundles:
        promote(registry, bundle, key)
    with pytest.raises(Refused, match="another promote came first"):
        registry.rollback("digits", "intel", now=NOW, expected=2)
    with registry.staged(bundles[0], key.public, now=NOW) as staged:
        back(registry)
        with pytest.raises(Refused, match="another rollback came first"):
            registry.commit(staged, now=NOW)


def test_many_processes_at_once_leave_what_the_winners_did(
    tmp_path: Path, bundles: list[Path], layout: type[Layout]
) -> None:
    directory = tmp_path / "registry"
    (tmp_path / "key.pub").write_bytes(public_pem())
    fresh = "now=datetime.datetime(2026, 11, 22, 4, tzinfo=datetime.UTC)"
    script = f"""
import datetime, sys
from pathlib import Path
from pytest_edgeai.promote.keys import read_public_key
from pytest_edgeai.promote.registry import Refused, Registry
from {layout.__module__} import {layout.__name__} as Layout
key = read_public_key(Path(sys.argv[3]), where="key")
try:
    registry = Registry(Path(sys.argv[1]), Layout, create=True)
    entry = registry.promote(Path(sys.argv[2]), key, {fresh})
    print("won" if entry else "same")
except Refused as error:
    print("refused" if "came first" in str(error) else error)
"""

    def run(number: int) -> str:
        words = [directory, bundles[number % 3], tmp_path / "key.pub"]
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, words)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.strip()

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(run, range(9)))
    registry = Registry(directory, layout)
    assert set(said) <= {"won", "same", "refused"}
    assert len(standing(registry)) == said.count("won") >= 1
    assert not list((directory / "staging").iterdir())


KILLED = """
    import datetime, os, signal, sys
    from pathlib import Path
    from pytest_edgeai.promote.keys import read_public_key
    from pytest_edgeai.promote.registry import Registry
    from LAYOUT as Layout
    import filelock, pytest_edgeai.digests, pytest_edgeai.promote.registry_files

    root, bundle, action = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[4]
    stride = int(sys.argv[5])
    key = read_public_key(Path(sys.argv[3]), where="key")
    key.verifies(b"", b"")
    now = datetime.datetime(2026, 11, 22, 4, tzinfo=datetime.UTC)
    WATCHED = ("promote/registry", "edgeai/files.py", "shutil.py")

    def work(place):
        if action == "promote":
            Registry(place, Layout, create=True).promote(bundle, key, now=now)
        else:
            Registry(place, Layout).rollback("digits", "intel", now=now)

    def die_at(step, place):
        seen = 0
        def trace(frame, event, argument):
            nonlocal seen
            if not any(part in frame.f_code.co_filename for part in WATCHED):
                return None
            if event == "line":
                seen += 1
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace
        sys.settrace(trace)
        work(place)
        os._exit(0)

    step = 1
    while True:
        place = root / str(step)
        if (root / "old").exists():
            import shutil
            shutil.copytree(root / "old", place)
        child = os.fork()
        if child == 0:
            die_at(step, place)
        status = os.waitpid(child, 0)[1]
        print(step, os.WTERMSIG(status) if os.WIFSIGNALED(status) else "done", flush=True)
        if not os.WIFSIGNALED(status):
            break
        step += stride
"""


@posix
@pytest.mark.parametrize(
    ("action", "stride"), [("promote first", 47), ("promote", 43), ("rollback", 13)]
)
def test_a_process_that_is_killed_anywhere_leaves_the_old_or_the_new_state(
    tmp_path: Path,
    bundles: list[Path],
    key: SigningKey,
    layout: type[Layout],
    action: str,
    stride: int,
) -> None:
    (tmp_path / "key.pub").write_bytes(public_pem())
    root = tmp_path / "killed"
    root.mkdir()
    old: list[str] = []
    if action != "promote first":
        start = Registry(root / "old", layout, create=True)
        old = [promote(start, bundle, key) for bundle in bundles[:2]]
    name = f"{layout.__module__} import {layout.__name__}"
    script = textwrap.dedent(KILLED).replace("LAYOUT", name)
    words = [root, bundles[2], tmp_path / "key.pub", action.split()[0], stride]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    steps = [line.split() for line in done.stdout.splitlines()]
    assert steps[-1][1] == "done"
    assert len(steps) > 15
    assert {how for _, how in steps[:-1]} == {str(int(signal.SIGKILL))}
    finished = Registry(root / steps[-1][0], layout)
    new = standing(finished)
    assert new != old
    found = set()
    for step, _ in steps:
        try:
            registry = Registry(root / step, layout)
        except UserError:
            # It died before the registry was there; the next one makes it.
            assert action == "promote first"
            registry = Registry(root / step, layout, create=True)
        stack = standing(registry)
        assert stack in (old, new)
        found.add(tuple(stack))
        for whole in registry.directory.glob("bundles/*"):
            assert verify_bundle(whole, key.public, now=NOW).digest == whole.name
        for blob in registry.directory.glob("blobs/sha256/*"):
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        # Whoever comes next does what was asked for, and clears what was left.
        if stack == old:
            if action == "rollback":
                back(registry)
            else:
                promote(registry, bundles[2], key)
        else:
            assert (
                registry.promote(
                    bundles[2] if action != "rollback" else bundles[0], key.public, now=NOW
                )
                is None
            )
        assert standing(registry) == new
        promote(registry, bundles[1] if action != "rollback" else bundles[2], key)
        assert not list((registry.directory / "staging").glob("*"))
        assert not list(registry.directory.rglob(".tmp-*"))
        shutil.rmtree(root / step)
    assert found == {tuple(old), tuple(new)}


@posix
@pytest.mark.parametrize("limit", [0, 1, 100, 500, 900])
def test_a_disk_that_is_full_half_way_leaves_the_registry_as_it_was(
    registry: Registry,
    bundles: list[Path],
    key: SigningKey,
    layout: type[Layout],
    tmp_path: Path,
    limit: int,
) -> None:
    """A limit on the size of files stops writing after that many bytes, as a full disk does."""
    promote(registry, bundles[0], key)
    promote(registry, bundles[1], key)
    (tmp_path / "key.pub").write_bytes(public_pem())
    before, state = tree(registry.directory), standing(registry)
    name = f"{layout.__module__} import {layout.__name__}"
    script = (
        f"from {name} as Layout"
        + """
import datetime, resource, signal, sys
from pathlib import Path
from pytest_edgeai.errors import UserError
from pytest_edgeai.promote.keys import read_public_key
from pytest_edgeai.promote.registry import Registry
key = read_public_key(Path(sys.argv[3]), where="key")
now = datetime.datetime(2026, 11, 22, 4, tzinfo=datetime.UTC)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
registry = Registry(Path(sys.argv[1]), Layout)
for work in (
    lambda: registry.promote(Path(sys.argv[2]), key, now=now),
    lambda: registry.rollback("digits", "intel", now=now),
):
    try:
        work()
        sys.stdout.write("done")
    except UserError as error:
        sys.stderr.write(f"{error}\\n")
"""
    )
    words = [registry.directory, bundles[2], tmp_path / "key.pub", limit]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    errors = done.stderr.splitlines()
    assert done.stdout == ""
    assert len(errors) == 2
    for line in errors:
        assert "File too large" in line
        assert "Free some space" not in line
    assert tree(registry.directory) == before
    assert standing(registry) == state
    promote(registry, bundles[2], key)


@pytest.fixture(name="small_disk")
def small_disk_fixture(tmp_path: Path) -> Iterator[Path]:
    """A disk of half a MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    words = [mount or "", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if mount is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_real_disk_that_is_full_leaves_the_registry_as_it_was(
    small_disk: Path, bundles: list[Path], key: SigningKey, layout: type[Layout]
) -> None:
    registry = Registry(small_disk / "registry", layout, create=True)
    promote(registry, bundles[0], key)
    promote(registry, bundles[1], key)
    before, state = tree(registry.directory), standing(registry)
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as stream:
        while True:
            stream.write(bytes(512))
            stream.flush()
    full = r"No space left on device.*Free some space"
    with pytest.raises(UserError, match=full):
        promote(registry, bundles[2], key)
    with pytest.raises(UserError, match=full):
        back(registry)
    assert standing(registry) == state
    assert {n: c for n, c in tree(registry.directory).items() if n in before} == before
    filler.unlink()
    assert back(registry) == state[0]


def keep_half_of_the_last_line(registry: Registry) -> None:
    log = registry.directory / "log.jsonl"
    content = log.read_bytes()
    log.write_bytes(content[: content.rindex(b"\n", 0, -1) + 30])


def change_a_line(registry: Registry) -> None:
    log = registry.directory / "log.jsonl"
    log.write_bytes(log.read_bytes().replace(b"digits", b"digitz", 1))


def drop_the_last_line(registry: Registry) -> None:
    log = registry.directory / "log.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))


def drop_every_line(registry: Registry) -> None:
    (registry.directory / "log.jsonl").write_bytes(b"")


def change_the_last_time(registry: Registry) -> None:
    log = registry.directory / "log.jsonl"
    *lines, last = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines, last.replace(b'"time":"2026', b'"time":"2025')]))


def change_the_last_bundle(registry: Registry) -> None:
    log = registry.directory / "log.jsonl"
    *lines, last = log.read_bytes().splitlines(keepends=True)
    now, before = (json.loads(each)["bundle"].encode() for each in (last, lines[-1]))
    changed = last.replace(b'"bundle":"' + now, b'"bundle":"' + before)
    log.write_bytes(b"".join([*lines, changed]))


def add_lines(registry: Registry) -> None:
    log = registry.read().log
    last, parent = log.entries[-1], log.last_sha256
    with (registry.directory / "log.jsonl").open("ab") as stream:
        for number in (3, 4):
            line = render_entry(last._replace(sequence=number, parent=parent))
            parent = hashlib.sha256(line[:-1]).hexdigest()
            stream.write(line)


def drop_the_first_line(registry: Registry) -> None:
    log = registry.directory / "log.jsonl"
    log.write_bytes(log.read_bytes().split(b"\n", 1)[1])


def drop_the_log(registry: Registry) -> None:
    (registry.directory / "log.jsonl").unlink()


def drop_the_pointer(registry: Registry) -> None:
    pointer = registry.layout.pointer(("digits", "intel"))
    if isinstance(registry.layout, OciLayout):
        index = json.loads(pointer.read_text())
        pointer.write_text(json.dumps({**index, "manifests": []}))
    else:
        pointer.unlink()


def break_the_pointer(registry: Registry) -> None:
    registry.layout.pointer(("digits", "intel")).write_text("{")


@pytest.mark.parametrize(
    "damage",
    [
        keep_half_of_the_last_line,
        change_a_line,
        change_the_last_time,
        change_the_last_bundle,
        add_lines,
        drop_the_first_line,
        drop_the_last_line,
        drop_every_line,
        drop_the_log,
        drop_the_pointer,
        break_the_pointer,
    ],
)
@pytest.mark.parametrize("headless", [False, True])
def test_what_something_else_changed_is_told_and_not_built_upon(
    registry: Registry,
    bundles: list[Path],
    key: SigningKey,
    layout: type[Layout],
    damage: Callable[[Registry], None],
    headless: bool,
) -> None:
    """Without a head, as a registry is that an older version made, every pointer is compared."""
    promote(registry, bundles[0], key)
    promote(registry, bundles[1], key)
    damage(registry)
    if headless:
        (registry.directory / "head.json").unlink()
    before = tree(registry.directory)
    with pytest.raises(Damaged) as caught:
        registry.promote(bundles[2], key.public, now=NOW)
    assert "\n" not in str(caught.value)
    with pytest.raises(Damaged):
        Registry(registry.directory, layout).read()
    with pytest.raises(Damaged):
        Registry(registry.directory, layout).standing("digits", "intel")
    assert {n: c for n, c in tree(registry.directory).items() if n in before} == before


def turn_the_pointer_back(registry: Registry) -> None:
    pointer = registry.layout.pointer(("digits", "intel"))
    pointer.write_text(pointer.read_text().replace('"sequence": 2', '"sequence": 1'))


@pytest.mark.parametrize("damage", [drop_the_pointer, turn_the_pointer_back])
def test_a_pointer_of_another_model_that_was_changed_is_told_where_it_counts(
    tmp_path: Path,
    bundles: list[Path],
    key: SigningKey,
    damage: Callable[[Registry], None],
) -> None:
    registry = Registry(tmp_path / "registry", create=True)
    promote(registry, bundles[0], key)
    promote(registry, bundles[1], key)
    promote(registry, signed_bundle(tmp_path, key, b"one", name="later"), key)
    damage(registry)
    assert registry.read().log.entries
    with pytest.raises(Damaged, match="is missing or out of date"):
        registry.standing("digits", "intel")
    with pytest.raises(Damaged, match="is missing or out of date"):
        back(registry)


def test_a_registry_without_a_head_is_read_and_gets_one(
    registry: Registry, bundles: list[Path], key: SigningKey, layout: type[Layout]
) -> None:
    one, two = (promote(registry, bundle, key) for bundle in bundles[:2])
    head = registry.directory / "head.json"
    head.unlink()
    pointer = registry.layout.pointer(("digits", "intel"))
    if layout is PlainLayout:
        content = json.loads(pointer.read_text())
        del content["entry"]
        pointer.write_text(json.dumps(content))
    old = Registry(registry.directory, layout)
    assert standing(old) == [one, two]
    three = promote(old, bundles[2], key)
    assert head.read_bytes() == (registry.directory / "log.jsonl").read_bytes().splitlines(True)[-1]
    assert standing(Registry(registry.directory, layout)) == [one, two, three]


def test_a_reader_beside_changes_is_never_told_of_damage(
    registry: Registry, bundles: list[Path], key: SigningKey, layout: type[Layout]
) -> None:
    promote(registry, bundles[0], key)
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(
            lambda: [each(registry) for _ in range(6) for each in (lambda r: r.promote(
                bundles[1], key.public, now=NOW), back)]
        )  # fmt: skip
        looks = 0
        while not work.done() or not looks:
            stack = Registry(registry.directory, layout).standing("digits", "intel")
            assert len(stack) in (1, 2)
            looks += 1
        work.result()


def test_a_registry_that_cannot_be_written_is_one_line(
    registry: Registry, bundles: list[Path], key: SigningKey
) -> None:
    promote(registry, bundles[0], key)
    shutil.rmtree(registry.directory / "staging", ignore_errors=True)
    (registry.directory / "staging").write_text("in the way")
    with pytest.raises(EdgeAIError, match="the registry is unchanged: ") as caught:
        registry.promote(bundles[1], key.public, now=NOW)
    assert "\n" not in str(caught.value)
    assert len(standing(registry)) == 1
