"""The plugin beside pytest's own options: selection, order, caching, strictness, silence."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from edge_runs import CANDIDATE, GATES, NODE, QUICK, Place, Run

Quick = Callable[..., Run]
FAILING = QUICK.replace("speedup = 0.01", "speedup = 1000")
ROOT = Path(__file__).parents[2]


def collected(run: Run) -> list[str]:
    return [line for line in run.text.splitlines() if "::" in line and " " not in line]


def test_ids_read_file_model_candidate_gate(quick: Quick) -> None:
    run = quick("--collect-only", "-q")
    assert run.code == 0
    assert collected(run) == [f"{NODE}::{gate}" for gate in GATES]


def test_collecting_starts_nothing_and_leaves_nothing(place: Place) -> None:
    place.write()
    run = place.run("--co", own_cache=True)
    assert run.code == 0
    assert not (place.path / ".edgeai").exists()
    assert run.report == {}


def test_collecting_imports_no_framework(place: Place) -> None:
    place.write()
    place.pytester.makeconftest(
        """
        import sys
        def pytest_unconfigure():
            heavy = {"onnxruntime", "onnx", "openvino", "nncf", "torch"}
            print("IMPORTED", sorted(heavy & set(sys.modules)))
        """
    )
    run = place.run("--co", "-q", "-s")
    assert "IMPORTED []" in run.text


def test_gating_imports_no_framework_in_the_pytest_process(place: Place) -> None:
    place.write()
    place.pytester.makeconftest(
        """
        import sys
        def pytest_unconfigure():
            heavy = {"onnxruntime", "onnx", "openvino", "nncf", "torch"}
            print("IMPORTED", sorted(heavy & set(sys.modules)))
        """
    )
    run = place.run("-s", f"{NODE}::output_sanity", f"{NODE}::precision_proof")
    assert run.outcomes == {"passed": 2}
    assert "IMPORTED []" in run.text


@pytest.mark.parametrize(
    ("arguments", "gates"),
    [
        ([f"{NODE}::speedup"], ["speedup"]),
        (["-k", "speedup or sanity"], ["speedup", "output_sanity"]),
        (["-m", "edge_gate"], list(GATES)),
        (["-m", "edge_gate(name='speedup')"], []),
        (["edgeai.toml"], list(GATES)),
        (["--deselect", f"{NODE}::speedup", "-k", "speedup"], []),
    ],
)
def test_selecting(quick: Quick, arguments: list[str], gates: list[str]) -> None:
    run = quick("--co", "-q", *arguments)
    assert collected(run) == [f"{NODE}::{gate}" for gate in gates]
    assert run.code == (0 if gates else 5)


def test_a_failed_gate_is_exit_1_and_last_failed_runs_it_alone(place: Place) -> None:
    place.write(FAILING)
    first = place.run("-k", "speedup or sanity")
    others = len(GATES) - 2
    assert (first.code, first.outcomes) == (1, {"passed": 1, "failed": 1, "deselected": others})
    assert first.verdicts() == {"speedup": "fail", "output_sanity": "pass"}
    again = place.run("--lf", "-v")
    assert (again.code, again.outcomes) == (1, {"failed": 1, "deselected": len(GATES) - 1})
    assert list(again.verdicts()) == ["speedup"]
    ordered = place.run("--ff", "--co", "-q")
    assert collected(ordered)[0] == f"{NODE}::speedup"
    place.write()
    mended = place.run("--lf")
    assert (mended.code, mended.outcomes) == (0, {"passed": 1, "deselected": len(GATES) - 1})


@pytest.mark.parametrize("stop", ["-x", "--maxfail=1"])
def test_stopping_at_the_first_failure_reports_what_ran(place: Place, stop: str) -> None:
    place.write(FAILING)
    run = place.run(stop)
    before = GATES.index("speedup")
    assert (run.code, run.outcomes) == (1, {"passed": before, "failed": 1})
    assert run.verdicts() == {**dict.fromkeys(GATES[:before], "pass"), "speedup": "fail"}
    assert run.candidate()["promotion_blocked_by"] == [*GATES[before:]]


def test_without_the_cache_plugin_and_under_strict_settings(place: Place) -> None:
    place.write()
    place.pytester.makeini("[pytest]\nstrict = true\n")
    run = place.run("-W", "error", "-p", "no:cacheprovider", "-k", "not memory")
    of_memory = sum("memory" in gate for gate in GATES)
    passed = len(GATES) - of_memory - 1
    assert run.code == 0
    assert run.outcomes == {"passed": passed, "skipped": 1, "deselected": of_memory}
    assert "warning" not in run.text.lower()


def test_reruns_settle_nothing_that_failed(place: Place) -> None:
    place.write(FAILING)
    run = place.run("--reruns=2", "-k", "speedup", "--junitxml=junit.xml")
    assert run.code == 1
    run.result.stdout.fnmatch_lines(["*1 failed*2 rerun*"])
    assert run.verdicts() == {"speedup": "fail"}
    case = next(ElementTree.parse(place.path / "junit.xml").iter("testcase"))
    names = [p.get("name") for p in case.iter("property")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
def test_junit_of_pytest_carries_the_figures(place: Place, family: str) -> None:
    place.write()
    run = place.run(
        "--junitxml=junit.xml", "-o", f"junit_family={family}", "-k", "speedup or artifact"
    )
    assert run.code == 0
    cases = list(ElementTree.parse(place.path / "junit.xml").iter("testcase"))
    assert [case.get("name") for case in cases] == ["speedup", "artifact_size"]
    figures = {p.get("name"): p.get("value") for p in cases[0].iter("property")}
    gate = run.candidate()["gates"][0]
    assert figures["edge_gate"] == "speedup"
    assert figures["edge_outcome"] == "pass"
    assert figures["edge_candidate"] == CANDIDATE
    assert figures["edge_observed"] == str(gate["observed"])
    assert [figures["edge_interval_low"], figures["edge_interval_high"]] == [
        str(end) for end in gate["interval"]
    ]
    assert figures["edge_threshold"] == "0.01"


def test_without_the_terminal_reporter(quick: Quick) -> None:
    run = quick("-p", "no:terminal", f"{NODE}::output_sanity")
    assert (run.code, run.text) == (0, "")
    assert run.verdicts() == {"output_sanity": "pass"}


def test_quiet_shows_no_progress_and_no_header(quick: Quick) -> None:
    run = quick("-q", f"{NODE}::output_sanity")
    assert run.code == 0
    assert "evaluating" not in run.text
    assert "edgeai:" not in run.text
    assert "SHIP" in run.text


def test_progress_is_plain_lines_in_a_log(quick: Quick) -> None:
    run = quick(f"{NODE}::output_sanity", "-v")
    assert "\x1b" not in run.text
    lines = [line for line in run.text.splitlines() if line.startswith(f"  linear {CANDIDATE}: ")]
    assert any("evaluating the candidate on 600 samples" in line for line in lines)
    assert len(lines) == len(set(lines))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_is_one_line_on_a_terminal(place: Place) -> None:
    import os
    import pty

    place.write()
    main, side = pty.openpty()
    command = [sys.executable, "-m", "pytest", "--edge-target=cross", f"{NODE}::output_sanity"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        command, stdin=side, stdout=side, stderr=side, cwd=place.path, env=environment
    ) as process:
        os.close(side)
        seen = b""
        while True:
            try:
                block = os.read(main, 65536)
            except OSError:  # the other side is closed: EIO on Linux
                break
            if not block:
                break
            seen += block
        os.close(main)
    assert process.returncode == 0
    drawn = seen.decode().split("evaluating the candidate on 600 samples")
    assert len(drawn) >= 2
    assert drawn[-1].startswith("\x1b[K\x1b[1A\r"), "the cursor goes back up"
    erased = drawn[-1].split("\n\r\x1b[K\x1b[1A\r")
    assert len(erased) == 2, "the line is erased once, before the outcome is written"
    assert "evaluating" not in erased[1]


def test_latencies_land_in_the_storage_of_pytest_benchmark(place: Place) -> None:
    place.write()
    run = place.run(
        "--benchmark-json=benchmark.json", "--benchmark-autosave", "-k", "speedup", "-W", "error"
    )
    assert run.code == 0
    names = {entry["name"] for entry in _benchmarks(place.path / "benchmark.json")}
    assert names == {f"linear/{CANDIDATE}/{side}" for side in ("baseline", "candidate")}
    stored = list((place.path / ".benchmarks").rglob("*.json"))
    assert len(stored) == 1
    compare = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare"],
        cwd=place.path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"linear/{CANDIDATE}/baseline" in compare.stdout.replace("...", "")


def test_pytest_benchmark_compares_nothing_of_other_threads(place: Place) -> None:
    place.write()
    assert place.run("--benchmark-autosave", "-k", "speedup").code == 0
    (stored,) = (place.path / ".benchmarks").rglob("*.json")
    content = json.loads(stored.read_text("utf-8"))
    for entry in content["benchmarks"]:
        assert entry["group"].startswith("linear on ")
        entry["extra_info"]["environment"]["threads"] = 4
    stored.write_text(json.dumps(content), "utf-8")
    compare = ("--benchmark-compare", "-k", "speedup")
    named = "threads 4 instead of 1; measure both here"
    shown = place.run(*compare)
    assert shown.code == 0
    assert shown.text.count(named) == 1
    # A comparison that was to decide and was not made is no pass.
    deciding = (*compare, "--benchmark-compare-fail=median:100000%")
    refused = place.run(*deciding)
    assert refused.code == 4
    assert named in refused.text
    assert place.run(*deciding, "--edge-across=threads").code == 0


def _benchmarks(path: Path) -> list[dict[str, str]]:
    content: dict[str, list[dict[str, str]]] = json.loads(path.read_text("utf-8"))
    return content["benchmarks"]


def test_without_pytest_benchmark(quick: Quick) -> None:
    run = quick("-p", "no:benchmark", "-k", "speedup")
    assert (run.code, run.verdicts()) == (0, {"speedup": "pass"})


def test_switched_off_as_a_plugin(place: Place) -> None:
    place.write()
    run = place.run("-p", "no:edgeai", target="")
    assert run.code == 5
    refused = place.pytester.runpytest_subprocess("-p", "no:edgeai", "--edge-target=cross")
    assert refused.ret == 4


def test_the_manifest_may_set_the_target(place: Place) -> None:
    place.write(QUICK + '\n[settings]\ntarget = "cross"\n')
    run = place.run("--co", "-q", target="")
    assert collected(run) == [f"{NODE}::{gate}" for gate in GATES]
    below = place.path / "below"
    below.mkdir()
    (below / "test_one.py").write_text("def test_one(): pass\n")
    run = place.run("below", target="")
    assert run.outcomes == {"passed": 1}


def test_without_a_target_nothing_is_loaded_and_the_fixtures_skip(place: Place) -> None:
    place.write()
    place.pytester.makepyfile(
        """
        import sys
        import pytest

        @pytest.mark.parametrize("name", ["host", "model", "baseline", "candidate", "compare",
                                          "onnxruntime", "openvino"])
        def test_fixture(request, name):
            request.getfixturevalue("edge_" + name)

        def test_modules():
            ours = {name for name in sys.modules if name.startswith("pytest_edgeai")}
            assert ours <= {"pytest_edgeai", "pytest_edgeai.plugin", "pytest_edgeai.hookspecs",
                            "pytest_edgeai.settings"}
            heavy = {"numpy", "scipy", "filelock", "onnxruntime", "openvino", "onnx", "junit_xml"}
            assert not heavy & set(sys.modules)
        """
    )
    run = place.run("-p", "no:xdist", "-p", "no:hypothesispytest", "-rs", target="")
    assert run.outcomes == {"passed": 1, "skipped": 7}
    assert "--edge-target=NAME" in run.text


def test_gates_as_test_modules_by_package_name(place: Place) -> None:
    place.write()
    run = place.run("--pyargs", "pytest_edgeai.gates", "-k", "sanity or memory_footprint", "-v")
    assert run.code == 0
    assert run.verdicts() == {"output_sanity": "pass"}
    assert f"test_output_sanity[linear-{CANDIDATE}] PASSED" in run.text


def test_gates_of_this_repository() -> None:
    """``pytest gates`` beside the manifest in pyproject.toml collects the gates as test modules."""
    command = [sys.executable, "-m", "pytest", "gates", "--edge-target=cross", "--co", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gates/test_speedup.py::test_speedup[digits-onnxruntime-int8-static]" in done.stdout
