from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.promote.bundle import bundle_problems, promote, read_current
from pytest_edgeai.promote.names import portable_name
from pytest_edgeai.report.content import CandidateReport, ModelReport

Made = tuple[CandidateReport, ModelReport]
REPORTS = {"report.json": '{"created": "1"}\n', "report.md": "≥\n"}


def home_of(directory: Path) -> Path:
    return directory / "digits" / "intel" / "openvino-int8-static"


def snapshot(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def assert_valid(home: Path) -> None:
    """Whatever a reader can find is whole."""
    for entry in home.iterdir():
        if entry.is_dir() and not entry.name.startswith(".tmp-"):
            assert bundle_problems(entry) == ()
            for report in (entry / "reports").iterdir():
                assert report.name.startswith(".tmp-") or {
                    file.name for file in report.iterdir()
                } == set(REPORTS)
    current = read_current(home)
    if current is not None:
        assert current.bundle.is_dir()
        assert current.report.is_dir()
        assert current.sha256.startswith(current.bundle.name)


def test_the_bundle_holds_the_artifact_and_its_reports(made: Made, tmp_path: Path) -> None:
    candidate, model = made
    assert candidate.artifact is not None
    directory = tmp_path / "shelf"
    bundle = promote(candidate, model, REPORTS, directory)
    assert bundle == home_of(directory) / candidate.artifact.sha256[:12]
    for file in candidate.artifact.files:
        copy = bundle / "artifact" / file.relative_to(candidate.artifact.path.parent)
        assert copy.read_bytes() == file.read_bytes()
    current = read_current(home_of(directory))
    assert current is not None
    assert current.bundle == bundle
    assert (current.report / "report.md").read_text("utf-8") == "≥\n"
    described = json.loads((bundle / "bundle.json").read_text("utf-8"))
    assert described["artifact"]["sha256"] == candidate.artifact.sha256
    assert described["model"]["name"] == "digits"
    assert set(described["files"]) == {"model.xml", "model.bin", "extra/tokens.txt"}
    assert_valid(home_of(directory))


def test_an_artifact_that_is_a_folder_is_promoted_whole(made: Made, tmp_path: Path) -> None:
    candidate, model = made
    assert candidate.artifact is not None
    folder = dataclasses.replace(candidate.artifact, path=candidate.artifact.path.parent)
    bundle = promote(
        dataclasses.replace(candidate, artifact=folder), model, REPORTS, tmp_path / "shelf"
    )
    assert bundle_problems(bundle) == ()
    description = json.loads((bundle / "bundle.json").read_text("utf-8"))
    assert description["artifact"]["main"] == "."
    assert set(description["files"]) == {"model.xml", "model.bin", "extra/tokens.txt"}


def test_the_same_again_changes_nothing(made: Made, tmp_path: Path) -> None:
    directory = tmp_path / "shelf"
    first = promote(*made, REPORTS, directory)
    before = snapshot(directory)
    assert promote(*made, REPORTS, directory) == first
    assert snapshot(directory) == before


def test_the_same_artifact_with_a_new_report_keeps_both(made: Made, tmp_path: Path) -> None:
    directory = tmp_path / "shelf"
    first = promote(*made, REPORTS, directory)
    before = snapshot(directory)
    second = promote(*made, REPORTS | {"report.json": "{}"}, directory)
    assert second == first
    after = snapshot(directory)
    pointer = "digits/intel/openvino-int8-static/current.json"
    assert {name: after[name] for name in before if name != pointer} == {
        name: content for name, content in before.items() if name != pointer
    }
    assert len(list((first / "reports").iterdir())) == 2
    current = read_current(home_of(directory))
    assert current is not None
    assert (current.report / "report.json").read_text() == "{}"


def test_another_artifact_gets_its_own_bundle_and_the_pointer(
    made: Made, other: Made, tmp_path: Path
) -> None:
    directory = tmp_path / "shelf"
    first = promote(*made, REPORTS, directory)
    second = promote(*other, REPORTS, directory)
    assert first != second
    assert bundle_problems(first) == bundle_problems(second) == ()
    current = read_current(home_of(directory))
    assert current is not None
    assert current.bundle == second


@pytest.mark.parametrize("damage", ["change", "remove", "add", "describe", "break"])
def test_a_bundle_of_another_content_is_never_overwritten(
    made: Made, tmp_path: Path, damage: str
) -> None:
    directory = tmp_path / "shelf"
    bundle = promote(*made, REPORTS, directory)
    weights = bundle / "artifact" / "model.bin"
    description = bundle / "bundle.json"
    if damage == "change":
        weights.write_bytes(b"tampered")
    elif damage == "remove":
        weights.unlink()
    elif damage == "add":
        (bundle / "artifact" / "more").write_text("")
    elif damage == "describe":
        content = json.loads(description.read_text())
        content["artifact"]["sha256"] = "00" * 32
        description.write_text(json.dumps(content))
    else:
        description.write_text("[]")
    assert len(bundle_problems(bundle)) == 1
    before = snapshot(directory)
    with pytest.raises(EdgeAIError, match="nothing is overwritten"):
        promote(*made, REPORTS, directory)
    assert snapshot(directory) == before


def test_a_changed_report_is_never_overwritten(made: Made, tmp_path: Path) -> None:
    directory = tmp_path / "shelf"
    promote(*made, REPORTS, directory)
    current = read_current(home_of(directory))
    assert current is not None
    (current.report / "report.md").write_text("tampered")
    with pytest.raises(EdgeAIError, match="nothing is overwritten"):
        promote(*made, REPORTS, directory)
    assert (current.report / "report.md").read_text() == "tampered"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"promotion_blocked_by": ("speedup",)}, "blocked by speedup"),
        ({"verdicts": ()}, "blocked by accuracy_retained, speedup"),
        ({"required_gates": ("accuracy_retained", "memory_cut")}, "blocked by memory_cut"),
        ({"required_gates": ()}, "no gate was required"),
        ({"artifact": None}, "no artifact"),
    ],
)
def test_what_did_not_pass_is_refused_and_nothing_is_written(
    made: Made, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    candidate, model = made
    refused = dataclasses.replace(candidate, **change)  # type: ignore[arg-type]
    with pytest.raises(EdgeAIError, match=message):
        promote(refused, model, REPORTS, tmp_path / "shelf")
    assert not (tmp_path / "shelf").exists()


@pytest.mark.parametrize("outcome", ["fail", "inconclusive", "error"])
def test_a_blocking_verdict_is_refused_whatever_the_caller_decided(
    made: Made, tmp_path: Path, outcome: str
) -> None:
    candidate, model = made
    worse = dataclasses.replace(candidate.verdicts[0], outcome=outcome)  # type: ignore[arg-type]
    refused = dataclasses.replace(candidate, verdicts=(*candidate.verdicts, worse))
    with pytest.raises(EdgeAIError, match="blocked by accuracy_retained"):
        promote(refused, model, REPORTS, tmp_path / "shelf")


def test_a_proxy_that_the_caller_accepted_is_promoted(made: Made, tmp_path: Path) -> None:
    candidate, model = made
    proxy = dataclasses.replace(candidate.verdicts[1], outcome="proxy")
    accepted = dataclasses.replace(candidate, verdicts=(candidate.verdicts[0], proxy))
    assert promote(accepted, model, REPORTS, tmp_path / "shelf").is_dir()


def test_an_artifact_that_changed_after_it_was_measured_is_refused(
    made: Made, tmp_path: Path
) -> None:
    candidate, model = made
    assert candidate.artifact is not None
    candidate.artifact.files[1].write_bytes(b"tampered")
    with pytest.raises(EdgeAIError, match="changed after it was measured"):
        promote(candidate, model, REPORTS, tmp_path / "shelf")
    assert snapshot(tmp_path / "shelf") == {}


def test_a_file_that_is_gone_is_one_line(made: Made, tmp_path: Path) -> None:
    candidate, model = made
    assert candidate.artifact is not None
    candidate.artifact.files[1].unlink()
    with pytest.raises(UserError, match=r"model.bin: .* cannot be promoted: No such file"):
        promote(candidate, model, REPORTS, tmp_path / "shelf")
    assert snapshot(tmp_path / "shelf") == {}


def test_a_directory_that_cannot_be_one_is_one_line(made: Made, tmp_path: Path) -> None:
    (tmp_path / "shelf").write_text("a file")
    with pytest.raises(UserError, match="cannot be promoted: Not a directory"):
        promote(*made, REPORTS, tmp_path / "shelf")


def test_promotions_at_once_leave_one_bundle(made: Made, other: Made, tmp_path: Path) -> None:
    directory = tmp_path / "shelf"
    with ThreadPoolExecutor(6) as pool:
        bundles = list(
            pool.map(lambda i: promote(*(made, other)[i % 2], REPORTS, directory), range(12))
        )
    assert len(set(bundles)) == 2
    assert_valid(home_of(directory))
    assert not list(directory.rglob(".tmp-*"))


@pytest.mark.parametrize("name", [".", "..", "a/b", "a\\b", "CON", "com1.txt", "a.", "é", "a b"])
def test_odd_names_become_one_portable_component(name: str) -> None:
    safe = portable_name(name)
    assert safe not in (".", "..")
    assert not set(safe) & set('/\\:*?"<>| ')
    assert not safe.endswith(".")
    assert safe.partition(".")[0].lower() not in {"con", "com1"}
    assert safe != name


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(UserError):
        portable_name("")


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_stay_apart(one: str, two: str) -> None:
    assert (portable_name(one) == portable_name(two)) == (one == two)
    assert portable_name(one).isascii()


DRIVER = """
    import os, pickle, signal, sys
    from pathlib import Path
    from pytest_edgeai.promote.bundle import promote

    first, second, reports, root = pickle.load(sys.stdin.buffer)
    WATCHED = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod"}

    def crash_at(step, directory):
        seen = 0
        def hook(event, arguments):
            nonlocal seen
            if event in WATCHED:
                seen += 1
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        promote(*second, reports, directory)
        os._exit(0)

    for step in range(1, 1000):
        directory = Path(root, str(step))
        promote(*first, reports, directory)
        child = os.fork()
        if child == 0:
            crash_at(step, directory)
        status = os.waitpid(child, 0)[1]
        print(step, os.WTERMSIG(status) if os.WIFSIGNALED(status) else "done")
        if not os.WIFSIGNALED(status):
            break
"""


@pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")
@pytest.mark.parametrize("second", ["another artifact", "another report"])
def test_a_promotion_killed_at_any_step_leaves_what_is_whole(
    made: Made, other: Made, tmp_path: Path, second: str
) -> None:
    import pickle
    import signal

    root = tmp_path / "shelves"
    late = other if second == "another artifact" else made
    late_reports = REPORTS | {"report.json": "{}"}
    # The driver promotes `first` with the same reports, so that only the artifact differs; for the
    # second case the shelves start with the other report.
    reports = REPORTS if second == "another artifact" else late_reports
    script = textwrap.dedent(DRIVER)
    if second == "another report":
        script = script.replace(
            "promote(*first, reports, directory)", "promote(*first, EARLY, directory)"
        )
        script = script.replace("WATCHED =", f"EARLY = {REPORTS!r}\nWATCHED =")
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps((made, late, reports, str(root))),
        capture_output=True,
        check=True,
        timeout=120,
    )
    steps = [line.split() for line in done.stdout.decode().splitlines()]
    assert len(steps) > 10
    assert {signal_number for _, signal_number in steps[:-1]} == {str(int(signal.SIGKILL))}
    pointers = set()
    for step, _ in steps:
        directory = root / step
        home = home_of(directory)
        assert_valid(home)
        current = read_current(home)
        assert current is not None
        pointers.add((current.bundle.name, current.report.name))
        # The next promotion succeeds and clears what was left half done.
        promote(*late, reports, directory)
        assert_valid(home)
        assert not list(directory.rglob(".tmp-*"))
    # The pointer names the old or the new promotion, and both were seen.
    assert len(pointers) == 2
    shutil.rmtree(root)
