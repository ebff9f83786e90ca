from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CONFTEST = """
import numpy as np
import pytest
from pytest_edgeai.report.benchmark import add_latency

def pytest_addoption(parser):
    parser.addoption("--factor", type=int, default=1)

@pytest.fixture
def record(request):
    def add(scale):
        factor = request.config.getoption("factor")
        samples = np.arange(1, 101, dtype=np.int64) * 10_000 * scale * factor
        name = f"digits/openvino-int8-static/{'baseline' if scale > 1 else 'candidate'}"
        return add_latency(
            request.config, name=name, group="digits", fullname=f"edgeai.toml::{name}",
            samples_ns=samples, extra_info={"threads": np.int64(1), "nan": float("nan")},
        )
    return add
"""
TEST = """
def test_latency(record):
    print("added", record(3), record(1))
"""


@pytest.fixture(name="project")
def project_fixture(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=TEST)
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_subprocess("-s", "-W", "error", "-p", "no:cacheprovider", *arguments)


def saved(project: pytest.Pytester, name: str) -> Any:
    (path,) = (project.path / ".benchmarks").rglob(f"*_{name}.json")
    return json.loads(path.read_text("utf-8"))


def test_entries_are_shown_and_saved_like_its_own(project: pytest.Pytester) -> None:
    result = run(project, "--benchmark-json=out.json", "--benchmark-save=one", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*added True True*",
            "*benchmark 'digits': 2 tests*",
            "digits/openvino-int8-static/candidate*",
            "digits/openvino-int8-static/baseline*",
        ]
    )
    out = json.loads((project.path / "out.json").read_text("utf-8"))
    entries = {entry["name"]: entry for entry in out["benchmarks"]}
    candidate = entries["digits/openvino-int8-static/candidate"]
    assert candidate["group"] == "digits"
    assert candidate["fullname"] == "edgeai.toml::digits/openvino-int8-static/candidate"
    assert candidate["extra_info"] == {"threads": 1, "nan": None}
    stats = candidate["stats"]
    assert stats["rounds"] == 100
    assert stats["iterations"] == 1
    assert stats["median"] == pytest.approx(505e-6)
    assert stats["data"][:2] == [1e-5, 2e-5]
    assert len(saved(project, "one")["benchmarks"]) == 2


def test_autosave_and_its_compare_command_work(project: pytest.Pytester) -> None:
    run(project, "--benchmark-autosave").assert_outcomes(passed=1)
    run(project, "--benchmark-save=two", "--factor=2").assert_outcomes(passed=1)
    command = shutil.which("pytest-benchmark", path=str(Path(sys.executable).parent))
    assert command is not None
    done = subprocess.run(
        [command, "compare", "--group-by=fullname", "--columns=median,ops", "--csv=out.csv"],
        cwd=project.path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.count("digits/openvino-int8-static/candidate") >= 2
    rows = (project.path / "out.csv").read_text("utf-8").splitlines()
    assert len(rows) == 5


@pytest.mark.parametrize(("factor", "regressed"), [("1", False), ("2", True)])
def test_its_comparison_fails_on_a_regression_only(
    project: pytest.Pytester, factor: str, regressed: bool
) -> None:
    run(project, "--benchmark-save=one").assert_outcomes(passed=1)
    result = run(
        project,
        "--benchmark-compare",
        "--benchmark-compare-fail=median:10%",
        f"--factor={factor}",
    )
    assert (result.ret != 0) == regressed
    assert ("Performance has regressed" in result.stdout.str() + result.stderr.str()) == regressed


@pytest.mark.parametrize(
    "arguments",
    [
        ["-p", "no:benchmark"],
        ["--benchmark-disable"],
        ["--benchmark-skip"],
    ],
)
def test_without_it_nothing_happens(project: pytest.Pytester, arguments: list[str]) -> None:
    result = run(project, *arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*added False False*"])
    assert "benchmark 'digits'" not in result.stdout.str()


def test_under_xdist_nothing_happens(project: pytest.Pytester) -> None:
    project.makepyfile(test_it="def test_latency(record):\n    assert record(1) is False\n")
    run(project, "-n1").assert_outcomes(passed=1)


def test_no_samples_is_a_mistake_of_the_caller(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_it="""
        import numpy as np, pytest
        from pytest_edgeai.report.benchmark import add_latency

        def test_latency(request):
            with pytest.raises(ValueError, match="no samples"):
                add_latency(request.config, name="a", group="b", fullname="c",
                            samples_ns=np.array([], dtype=np.int64), extra_info={})
        """
    )
    run(project).assert_outcomes(passed=1)


def test_an_entry_stands_beside_a_benchmark_of_the_user(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_it="""
        def test_latency(record, benchmark):
            assert record(3)
            benchmark.pedantic(lambda: None, rounds=3)
        """
    )
    run(project, "--benchmark-json=out.json").assert_outcomes(passed=1)
    out = json.loads((project.path / "out.json").read_text("utf-8"))
    assert {entry["name"] for entry in out["benchmarks"]} == {
        "digits/openvino-int8-static/baseline",
        "test_latency",
    }
