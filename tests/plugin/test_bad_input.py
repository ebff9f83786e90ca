"""What users get wrong: one clear line and exit code 4, or one failed item among several models."""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import scipy.special  # noqa: F401  (as below: pytest_edgeai imports it when models are checked)
from edge_runs import CANDIDATE, QUICK, Place
from models import Project

import pytest_edgeai.driver  # noqa: F401  (pytester would import it anew for every run in this process)

MODEL = """
[models.m]
path = "model.onnx"
task = "tabular-classification"
data = "test.npz"
calibration = "calibration.npz"
"""
STATIC = """
[[models.m.recipes]]
framework = "onnxruntime"
scheme = "int8-static"
"""
Refused = Callable[..., str]


def cases(*rows: tuple[Any, ...]) -> list[Any]:
    """Name each row by its number and the beginning of what is expected of it, its last field."""
    return [
        pytest.param(*row, id=f"{number}-{re.sub(r'[^A-Za-z0-9]+', '-', str(row[-1]))[:40]}")
        for number, row in enumerate(rows)
    ]


@pytest.fixture
def project(pytester: pytest.Pytester, linear: Project) -> Path:
    """A project of one good model; a test then breaks it."""
    for source, name in (
        (linear.model, "model.onnx"),
        (linear.data, "test.npz"),
        (linear.calibration, "calibration.npz"),
    ):
        shutil.copy(source, pytester.path / name)
    (pytester.path / "edgeai.toml").write_text(MODEL, encoding="utf-8")
    return pytester.path


@pytest.fixture
def refused(pytester: pytest.Pytester, project: Path) -> Refused:
    """Run pytest on the project and return the one line that it is refused with."""

    def run(*arguments: str, manifest: str | None = None, target: str = "cross") -> str:
        if manifest is not None:
            (project / "edgeai.toml").write_text(manifest, encoding="utf-8")
        before = {path: path.read_bytes() for path in project.iterdir() if path.is_file()}
        words = [*arguments, *([f"--edge-target={target}"] if target else [])]
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *words)
        text = f"{result.stdout.str()}\n{result.stderr.str()}"
        assert result.ret == pytest.ExitCode.USAGE_ERROR, text
        assert "Traceback" not in text
        assert "INTERNALERROR" not in text
        assert "edge gates" not in text
        lines = [line for line in text.splitlines() if line.startswith("ERROR: ")]
        assert len(lines) == 1, text
        for path, content in before.items():
            assert path.read_bytes() == content, f"{path.name} was overwritten"
        return lines[0].removeprefix("ERROR: ")

    return run


def rewrite(path: Path, **changes: Any) -> None:
    """Change arrays of a ``.npz``: by a function, to a new array, or drop them by ``None``."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, change in changes.items():
        if change is None:
            del arrays[name]
        else:
            arrays[name] = change(arrays[name]) if callable(change) else change
    np.savez(path, **arrays)


# The manifest as a whole


def test_a_missing_manifest_says_where_it_was_looked_for(refused: Refused, project: Path) -> None:
    (project / "edgeai.toml").unlink()
    line = refused()
    assert line.startswith(f"{project} and the directories above: no edgeai.toml")
    assert "--edge-manifest" in line


@pytest.mark.parametrize(
    ("argument", "expected"),
    cases(
        ("--edge-manifest=nope.toml", "nope.toml: no such file"),
        ("--edge-manifest=.", "is a directory; allowed: a manifest file"),
        ("--edge-manifest=", "--edge-manifest: '' is not a path"),
        ("--edge-manifest=model.onnx", "model.onnx: not UTF-8 at byte"),
        ("--edge-manifest=model.onnx/edgeai.toml", "edgeai.toml: "),
    ),
)
def test_a_named_manifest_that_is_none(refused: Refused, argument: str, expected: str) -> None:
    assert expected in refused(argument)


@pytest.mark.parametrize(
    ("content", "expected"),
    cases(
        (b"", "edgeai.toml: names no model. Add a table: [models.NAME]"),
        (b"# nothing\n", "edgeai.toml: names no model"),
        (b"[models]\n", "edgeai.toml: names no model"),
        (b"[models.m\n", "edgeai.toml: not valid TOML: Expected ']'"),
        (b"a = 1\na = 2\n", "edgeai.toml: not valid TOML"),
        (b'[models.m]\npath = "\xff"\n', "edgeai.toml: not UTF-8 at byte 19"),
        (b"a = " + b"1" * 5000, "edgeai.toml: not valid TOML"),
        (b"a = " + b"[" * 3000, "edgeai.toml: not valid TOML"),
    ),
)
def test_a_manifest_that_cannot_be_read(
    refused: Refused, project: Path, content: bytes, expected: str
) -> None:
    (project / "edgeai.toml").write_bytes(content)
    assert expected in refused()


def test_two_manifests_in_one_directory_are_ambiguous(refused: Refused, project: Path) -> None:
    (project / "pyproject.toml").write_text(MODEL.replace("[models", "[tool.edgeai.models"))
    assert "both edgeai.toml and [tool.edgeai] in pyproject.toml; allowed: one of them" in refused()


def test_errors_in_pyproject_name_the_tables_of_pyproject(refused: Refused, project: Path) -> None:
    (project / "edgeai.toml").unlink()
    manifest = MODEL.replace("[models", "[tool.edgeai.models")
    (project / "pyproject.toml").write_text(manifest + "taks = 1\n")
    assert refused().startswith('pyproject.toml [tool.edgeai.models.m]: unknown key "taks"')
    (project / "pyproject.toml").write_text(manifest + "[tool.edgeai.settings]\nbudget = -1\n")
    assert refused().startswith("pyproject.toml [tool.edgeai.settings] budget: -1 is out of range")


# Unknown names: the place, what is allowed, the closest


UNKNOWN = {
    "top": ("[modles]\n", 'edgeai.toml: unknown key "modles"', "models"),
    "model": (
        'calibraton = "x"\n',
        'edgeai.toml [models.m]: unknown key "calibraton"',
        "calibration",
    ),
    "gates": ("[gates]\nspedup = 2\n", 'edgeai.toml [gates]: unknown key "spedup"', "speedup"),
    "model gates": (
        "[models.m.gates]\nmemory_ct = 0.5\n",
        'edgeai.toml [models.m.gates]: unknown key "memory_ct"',
        "memory_cut",
    ),
    "settings": (
        "[settings]\nbudgit = 2\n",
        'edgeai.toml [settings]: unknown key "budgit"',
        "budget",
    ),
    "framework": (
        '[frameworks.openvno]\npython = "x"\n',
        'edgeai.toml [frameworks]: unknown framework "openvno"',
        "openvino",
    ),
    "framework key": (
        '[frameworks.openvino]\npyton = "x"\n',
        'edgeai.toml [frameworks.openvino]: unknown key "pyton"',
        "python",
    ),
    "recipe framework": (
        '[[models.m.recipes]]\nframework = "onxruntime"\nscheme = "int8-static"\n',
        'edgeai.toml [[models.m.recipes]] #1 framework: unknown framework "onxruntime"',
        "onnxruntime",
    ),
    "recipe scheme": (
        '[[models.m.recipes]]\nframework = "onnxruntime"\nscheme = "int8-statc"\n',
        'edgeai.toml [[models.m.recipes]] #1 scheme: unknown onnxruntime scheme "int8-statc"',
        "int8-static",
    ),
    "recipe key": (
        '[[models.m.recipes]]\nframework = "onnxruntime"\nscheme = "int8-static"\noption = 1\n',
        'edgeai.toml [[models.m.recipes]] #1: unknown key "option"',
        "options",
    ),
    "known failure gate": (
        '[[known_failures]]\nmodel = "m"\ngate = "spedup"\nreason = "r"\n',
        'edgeai.toml [[known_failures]] #1 gate: unknown gate "spedup"',
        "speedup",
    ),
    "known failure model": (
        '[[known_failures]]\nmodel = "mm"\ngate = "speedup"\nreason = "r"\n',
        'edgeai.toml [[known_failures]] #1 model: unknown model "mm"',
        "m",
    ),
    "known failure candidate": (
        '[[known_failures]]\nmodel = "m"\ngate = "speedup"\nreason = "r"\n'
        'candidate = "onnxruntime-int8static"\n',
        'edgeai.toml [[known_failures]] #1 candidate: "onnxruntime-int8static" names no candidate',
        "onnxruntime-int8-static",
    ),
    "metric": (
        'metric = "acuracy"\n',
        'edgeai.toml [models.m] metric: unknown metric "acuracy"',
        "accuracy",
    ),
    "baseline": (
        'baseline = "nativ"\n',
        'edgeai.toml [models.m] baseline: unknown baseline "nativ"',
        "native",
    ),
    "targets": (
        'targets = ["intl"]\n',
        'edgeai.toml [models.m] targets: unknown target "intl"',
        "intel",
    ),
    "setting framework": (
        '[settings]\nframework = "openvno"\n',
        'edgeai.toml [settings] framework: unknown framework "openvno"',
        "openvino",
    ),
    "setting model": (
        '[settings]\nmodel = "mm"\n',
        'edgeai.toml [settings] model: unknown model "mm"',
        "m",
    ),
    "setting threshold": (
        "[settings]\nthreshold = { spedup = 1 }\n",
        'edgeai.toml [settings] threshold: unknown gate "spedup"',
        "speedup",
    ),
    "setting word": (
        '[settings]\ninconclusive = "skp"\n',
        "edgeai.toml [settings] inconclusive: 'skp' is not a choice",
        "skip",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_names_in_the_manifest(refused: Refused, name: str) -> None:
    addition, beginning, closest = UNKNOWN[name]
    line = refused(manifest=MODEL + addition)
    assert line.startswith(beginning)
    assert "; allowed: " in line
    assert f'did you mean "{closest}"?' in line.lower()


def test_an_unknown_task_suggests_the_closest(refused: Refused) -> None:
    line = refused(manifest=MODEL.replace("tabular-classification", "tabular-clasification"))
    assert line.startswith('edgeai.toml [models.m] task: unknown task "tabular-clasification"')
    assert 'did you mean "tabular-classification"?' in line.lower()


@pytest.mark.parametrize(
    ("argument", "expected", "closest"),
    cases(
        ("--edge-target=intl", '--edge-target: unknown target "intl"', "intel"),
        ("--edge-framework=openvno", '--edge-framework: unknown framework "openvno"', "openvino"),
        ("--edge-model=mm", '--edge-model: unknown model "mm"', "m"),
        ("--edge-threshold=spedup=2", '--edge-threshold: unknown gate "spedup"', "speedup"),
        ("--edge-inconclusive=fial", "--edge-inconclusive: 'fial' is not a choice", "fail"),
    ),
)
def test_unknown_names_on_the_command_line(
    refused: Refused, argument: str, expected: str, closest: str
) -> None:
    line = refused(argument, target="" if "target" in argument else "cross")
    assert line.startswith(expected)
    assert f'did you mean "{closest}"?' in line.lower()


def test_settings_that_only_the_command_line_has(refused: Refused) -> None:
    line = refused(manifest=MODEL + '[settings]\nmanifest = "x"\n')
    assert line.startswith('edgeai.toml [settings]: unknown key "manifest"')


# Wrong types and values


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    cases(
        ("path", "3", "path: a number where a string is needed"),
        ("path", '""', "path: an empty string where a string is needed"),
        ("path", '["a"]', "path: a list where a string is needed"),
        ("task", "1", "task: a number where a string is needed"),
        ("task", None, '"task" is missing; allowed: a string'),
        ("path", None, '"path" is missing; allowed: a string'),
        ("data", None, '"data" is missing; allowed: a string'),
        ("data", "{}", "data: a table where a string is needed"),
        ("calibration", "false", "calibration: true/false where a string is needed"),
        ("metric", "1", "metric: a number where a string is needed"),
        ("baseline", "1", "baseline: a number where a string is needed"),
        ("output", "3", "output: a number where a string is needed"),
        ("output", '"logit"', 'output: the model has no output "logit"; allowed: logits'),
        ("classes", '"a"', "classes: a string where a list of strings is needed"),
        ("classes", "[1]", "classes: a number at place 1 of a list where a list of strings"),
        ("classes", '["a", "b", "c", "a"]', 'classes: class "a" is named twice'),
        ("classes", '["a", "b"]', "classes: 2 classes are named, and the model's output has 4"),
        ("batch", "0", "batch: 0 is no number that can be used; allowed: a whole number from 1 to"),
        ("batch", "true", "batch: True is no number"),
        ("batch", '"4"', "batch: '4' is no number"),
        ("batch", "2.0", "batch: 2.0 is no number"),
        ("batch", "10000000000", "batch: 10000000000 is no number"),
        ("batch", "601", "batch: 601 samples per call, and the evaluation data has 600"),
        ("targets", "[]", "targets: an empty list where a list of strings is needed"),
        ("targets", '"intel"', "targets: a string where a list of strings is needed"),
        ("targets", '["intel"]', "no model is for target cross"),
        ("gates", "1", "[models.m.gates]: a number where a table is needed"),
        ("recipes", "{}", "[[models.m.recipes]]: a table where an array of tables is needed"),
        ("recipes", "[1]", "[[models.m.recipes]] #1: a number where a table is needed"),
        ("metric", '"nowhere:function"', 'metric: "nowhere:function" cannot be imported'),
    ),
)
def test_wrong_values_of_a_model(
    refused: Refused, key: str, value: str | None, expected: str
) -> None:
    lines = [line for line in MODEL.splitlines() if not line.startswith(f"{key} =")]
    addition = [] if value is None else [f"{key} = {value}"]
    assert expected in refused(manifest="\n".join(lines + addition) + "\n")


@pytest.mark.parametrize(
    ("manifest", "expected"),
    cases(
        ("models = 3\n", "edgeai.toml [models]: a number where a table is needed"),
        ("[models]\nm = 3\n", "edgeai.toml [models.m]: a number where a table is needed"),
        ('[[models]]\nname = "m"\n', "edgeai.toml [models]: a list where a table is needed"),
        ("gates = 3\n" + MODEL, "edgeai.toml [gates]: a number where a table is needed"),
        ("settings = 3\n" + MODEL, "edgeai.toml [settings]: a number where a table is needed"),
        ("known_failures = 3\n" + MODEL, "edgeai.toml [[known_failures]]: a number where an array"),
        (MODEL.replace("models.m", 'models."a b"'), '"a b" cannot name a model; allowed: letters'),
        (MODEL.replace("models.m", 'models.".."'), '".." cannot name a model'),
        (MODEL.replace("models.m", 'models."a::b"'), '"a::b" cannot name a model'),
        (MODEL + "[frameworks]\nopenvino = 1\n", "[frameworks.openvino]: a number where a table"),
        (MODEL + '[frameworks.openvino]\npython = "x"\n', 'openvino] python: "x" does not exist'),
        (
            MODEL + '[frameworks.onnxruntime]\npython = "test.npz"\n',
            "[frameworks.onnxruntime] python: cannot start",
        ),
        (
            MODEL + '[[known_failures]]\nmodel = "m"\ngate = "speedup"\n',
            'edgeai.toml [[known_failures]] #1: "reason" is missing',
        ),
        (
            MODEL + STATIC * 2,
            'a second recipe named "onnxruntime-int8-static"; allowed: a label that tells them',
        ),
    ),
)
def test_wrong_tables(refused: Refused, manifest: str, expected: str) -> None:
    assert expected in refused(manifest=manifest)


@pytest.mark.parametrize(
    ("gate", "value", "expected"),
    cases(
        ("speedup", "nan", "nan is not finite; allowed: a number above 0, or false"),
        ("speedup", "inf", "inf is not finite"),
        ("speedup", "-inf", "-inf is not finite"),
        ("speedup", "1" + "0" * 400, "is not finite"),
        ("speedup", "0", "0 is out of range; allowed: a number above 0"),
        ("speedup", "-1", "-1 is out of range"),
        ("speedup", '"fast"', "'fast' is not a number"),
        ("speedup", "true", "True is not a number"),
        ("speedup", "[1]", "[1] is not a number"),
        ("speedup", "{ a = 1 }", "is not a number"),
        ("speedup", "1979-05-27", "is not a number"),
        ("accuracy_retained", "95", "95 is out of range; allowed: a number from 0 up to 1"),
        ("memory_cut", "50", "50 is out of range; allowed: a number up to 1"),
        ("output_sanity", "3", "3 is out of range; allowed: 0, or false"),
        ("precision_proof", "75", "75 is out of range"),
        ("artifact_size", "-5", "-5 is out of range"),
        ("artifact_size", '"5 XB"', "'5 XB' is not a number; allowed: a number of bytes above 0"),
        ("artifact_size", '"-5 MB"', "'-5 MB' is not a number"),
        ("artifact_size", "nan", "nan is not finite"),
        ("latency_p99_limit_ms", "0", "0 is out of range; allowed: a finite number above 0"),
        ("latency_p99_limit_ms", "nan", "nan is out of range; allowed: a finite number above 0"),
        ("latency_p99_limit_ms", '"1"', "'1' is not a number; allowed: a finite number above 0"),
        (
            "latency_p99_limit_ms",
            "1" + "0" * 400,
            "is out of range; allowed: a finite number above 0",
        ),
        (
            "latency_consistency_percentile",
            "50",
            "50 is out of range; allowed: a number above 50 and below 100",
        ),
        (
            "latency_consistency_percentile",
            "100",
            "100 is out of range; allowed: a number above 50 and below 100",
        ),
        (
            "latency_consistency_percentile",
            "0.99",
            "is out of range; allowed: a number above 50 and below 100",
        ),
        (
            "latency_consistency_percentile",
            "nan",
            "nan is out of range; allowed: a number above 50 and below 100",
        ),
        (
            "latency_consistency_percentile",
            "true",
            "True is not a number; allowed: a number above 50",
        ),
        (
            "recall_neighbors",
            "2.5",
            "2.5 is not a whole number, 1 and above; allowed: a whole number, 1 and above",
        ),
        ("recall_neighbors", "0", "0 is not a whole number, 1 and above"),
        ("recall_neighbors", "nan", "nan is not a whole number, 1 and above"),
        ("recall_neighbors", "inf", "inf is not a whole number, 1 and above"),
        ("recall_neighbors", "true", "True is not a whole number, 1 and above"),
        ("recall_neighbors", '"10"', "'10' is not a whole number, 1 and above"),
    ),
)
@pytest.mark.parametrize("table", ["gates", "models.m.gates"])
def test_wrong_thresholds(
    refused: Refused, table: str, gate: str, value: str, expected: str
) -> None:
    line = refused(manifest=f"{MODEL}[{table}]\n{gate} = {value}\n")
    assert line.startswith(f"edgeai.toml [{table}] {gate}: ")
    assert expected in line


@pytest.mark.parametrize(
    ("value", "expected"),
    cases(
        ("speedup", "--edge-threshold: 'speedup' is no threshold; allowed: GATE=VALUE"),
        ("speedup=", "--edge-threshold: 'speedup=' is no threshold"),
        ("=2", "--edge-threshold: '=2' is no threshold"),
        ("speedup=nan", "--edge-threshold speedup: 'nan' is not finite"),
        ("speedup=x", "--edge-threshold speedup: 'x' is not a number"),
        ("accuracy_retained=95", "--edge-threshold accuracy_retained: '95' is out of range"),
    ),
)
def test_wrong_thresholds_on_the_command_line(refused: Refused, value: str, expected: str) -> None:
    assert refused(f"--edge-threshold={value}").startswith(expected)


SETTINGS = [
    ("budget", '"x"', "'x' is not a number; allowed: a number of seconds above 0"),
    ("budget", "-1", "-1 is out of range"),
    ("budget", "nan", "nan is out of range"),
    ("budget", "[1]", "[1] is not a number"),
    ("budget", "true", "True is out of range"),
    ("budget", "1" + "0" * 400, "is not a number"),
    ("time_limit", "0", "0 is out of range"),
    ("threads", "0", "0 is out of range; allowed: a whole number from 1 to 1024"),
    ("threads", "1.5", "1.5 is out of range"),
    ("threads", '"x"', "'x' is not a whole number"),
    ("framework", '["primary", "openvino"]', '"primary,openvino" mixes words'),
    ("framework", "3", "3 is not a list of names"),
    ("framework", '""', "an empty name"),
    ("inconclusive", "true", "True is not a choice; allowed: fail, skip"),
    ("cache_dir", "3", "3 is not a path"),
    ("cache_dir", '""', "'' is not a path"),
    ("cache_dir", '"~nobody-of-that-name/cache"', "names the home of an unknown user"),
    ("refresh", "1", "1 is neither true nor false; allowed: true, false"),
    ("allow_proxy", '"x"', "'x' is neither true nor false"),
    ("json", "3", "3 is not a path"),
    ("threshold", "3", "3 is no threshold; allowed: GATE=VALUE"),
    ("threshold", '["speedup"]', "'speedup' is no threshold"),
]


@pytest.mark.parametrize(("name", "value", "expected"), cases(*SETTINGS))
def test_wrong_settings_in_the_manifest(
    refused: Refused, name: str, value: str, expected: str
) -> None:
    line = refused(manifest=f"{MODEL}[settings]\n{name} = {value}\n")
    assert line.startswith(f"edgeai.toml [settings] {name}: ")
    assert expected in line


def test_a_wrong_limit_in_the_threshold_setting_names_the_gate(refused: Refused) -> None:
    line = refused(manifest=MODEL + "[settings]\nthreshold = { speedup = [1] }\n")
    assert line.startswith("edgeai.toml [settings] threshold speedup: [1] is not a number")


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    cases(
        ("TARGET", "intl", 'unknown target "intl"'),
        ("FRAMEWORK", "openvno", 'unknown framework "openvno"'),
        ("MODEL", "mm", 'unknown model "mm"'),
        ("BUDGET", "x", "'x' is not a number"),
        ("TIME_LIMIT", "nan", "'nan' is out of range"),
        ("THREADS", "-1", "'-1' is out of range"),
        ("INCONCLUSIVE", "maybe", "'maybe' is not a choice"),
        ("REFRESH", "maybe", "'maybe' is neither true nor false; allowed: true, false"),
        ("ALLOW_PROXY", "2", "'2' is neither true nor false"),
        ("PLAN", "x", "'x' is neither true nor false"),
        ("THRESHOLD", "speedup", "'speedup' is no threshold"),
        ("MANIFEST", "nope.toml", "nope.toml: no such file"),
    ),
)
def test_wrong_environment_variables(
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    expected: str,
) -> None:
    monkeypatch.setenv(f"PYTEST_EDGEAI_{variable}", value)
    line = refused(target="" if variable == "TARGET" else "cross")
    assert expected in line
    if variable != "MANIFEST":
        assert line.startswith(f"PYTEST_EDGEAI_{variable}: ")


def test_a_wrong_value_behind_a_flag_does_not_blame_the_manifest(refused: Refused) -> None:
    line = refused("--edge-budget=x", manifest=MODEL + "[settings]\nbudget = 3\n")
    assert line.startswith("--edge-budget: 'x' is not a number")


# Paths and places


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    cases(
        ("model.onnx", "/nowhere/model.onnx", 'path: "/nowhere/model.onnx" does not exist'),
        ("model.onnx", "../../nowhere.onnx", 'path: "../../nowhere.onnx" does not exist'),
        ("model.onnx", "a\\u0000b", "path: a NUL character in a path"),
        ("model.onnx", "a" * 5000, "path: "),
        ("model.onnx", "~nobody-of-that-name/a.onnx", "does not exist"),
        ("model.onnx", ".", "directory"),
        ("model.onnx", "test.npz", 'the model has the suffix ".npz"; allowed: .onnx'),
        ("test.npz", "nowhere.npz", 'data: "nowhere.npz" does not exist; allowed: a path from'),
        ("test.npz", ".", 'data: "." is not a data file; allowed: a .npz file, or'),
        ("test.npz", "edgeai.toml", 'data: "edgeai.toml" is not a data file'),
        ("test.npz", "nowhere:function", 'data: "nowhere:function" cannot be imported'),
        ("calibration.npz", "nowhere.npz", 'calibration: "nowhere.npz" does not exist'),
    ),
)
def test_paths_that_lead_nowhere(refused: Refused, old: str, new: str, expected: str) -> None:
    line = refused(manifest=MODEL.replace(f'"{old}"', f'"{new}"'))
    assert line.startswith("edgeai.toml [models.m] ")
    assert expected in line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["model.onnx", "test.npz"])
def test_a_named_pipe_is_refused_and_not_waited_for(
    pytester: pytest.Pytester, project: Path, name: str
) -> None:
    (project / name).unlink()
    os.mkfifo(project / name)
    result = pytester.runpytest_inprocess("--edge-target=cross")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("option", ["json", "junit", "markdown"])
@pytest.mark.parametrize(
    ("value", "expected"),
    cases(
        ("model.onnx", "is the model m and would be overwritten"),
        ("test.npz", "is data of the model m and would be overwritten"),
        ("edgeai.toml", "is the manifest and would be overwritten"),
        (".", "is a directory"),
        ("model.onnx/report", "is not a directory"),
    ),
)
def test_reports_never_replace_what_is_read(
    refused: Refused, option: str, value: str, expected: str
) -> None:
    line = refused(f"--edge-{option}={value}")
    assert line.startswith(f"--edge-{option}: ")
    assert expected in line


def test_two_reports_need_two_files(refused: Refused) -> None:
    line = refused("--edge-json=report", "--edge-markdown=./report")
    assert line.startswith("--edge-markdown: ")
    assert "is the file of --edge-json" in line


@pytest.mark.parametrize("value", ["model.onnx", "model.onnx/inside"])
def test_promotion_needs_a_directory(refused: Refused, value: str) -> None:
    assert "is no directory; allowed: a directory" in refused(f"--edge-promote={value}")


@pytest.mark.parametrize("value", ["model.onnx", "model.onnx/inside"])
def test_a_cache_that_cannot_be_written(refused: Refused, value: str) -> None:
    line = refused(f"--edge-cache-dir={value}")
    assert line.startswith("--edge-cache-dir: ")
    assert "cannot be written" in line
    assert "allowed: a directory that can be written" in line


@pytest.mark.skipif(
    sys.platform == "win32" or getattr(os, "geteuid", lambda: 0)() == 0,
    reason="permissions do not bind this user",
)
def test_a_read_only_cache_directory(refused: Refused, project: Path) -> None:
    cache = project / "cache"
    cache.mkdir(mode=0o500)
    assert "Permission denied" in refused("--edge-cache-dir=cache")


def test_the_default_cache_is_a_file(refused: Refused, project: Path) -> None:
    (project / ".edgeai").write_text("mine")
    assert "cannot be written" in refused()


# Data


@pytest.mark.parametrize(
    ("changes", "expected"),
    cases(
        ({"labels": lambda x: x[:-1]}, "arrays of different length (features 600, labels 599)"),
        ({"labels": lambda x: x.astype("f4")}, "labels are float32; allowed: integers from 0"),
        ({"labels": lambda x: x > 0}, "labels are bool"),
        ({"labels": lambda x: x + 1j}, "labels are complex128"),
        ({"labels": lambda x: x.astype("M8[s]")}, "labels are datetime64[s]"),
        ({"labels": lambda x: x + 4}, "labels run from 4 to 7; allowed: 0 to 3, one per column"),
        ({"labels": lambda x: x - 1}, "labels run from -1 to 2"),
        ({"labels": lambda x: x[:, None]}, "labels have shape (600, 1)"),
        ({"labels": np.int64(3)}, 'array "labels" of "test.npz" has no samples (shape ())'),
        ({"labels": None}, 'no array "labels"; allowed: one label per sample'),
        ({"labels": lambda x: x.astype("U")[:, None]}, "labels have shape (600, 1)"),
        (
            {"labels": lambda x: np.arange(600).astype("U")},
            "labels are strings (600 distinct) and nothing says which column is which",
        ),
        (
            {"labels": lambda x: x.astype("U"), "classes": np.array(["0", "1", "2", "x"])},
            'label "3" is no class; allowed: 0, 1, 2, x',
        ),
        (
            {"labels": lambda x: x.astype("U"), "classes": np.array(["0", "1", "2", "3", "4"])},
            "5 classes are named, and the model's output has 4 columns",
        ),
        ({"classes": np.arange(4)}, 'array "classes" is int64 of shape (4,)'),
        (
            {"labels": lambda x: x.astype(object)},
            'array "labels" of "test.npz" holds pickled objects',
        ),
        ({"features": None}, 'no array "features"; allowed: one array per model input: features'),
        ({"feature": np.zeros((600, 16), "f4")}, 'array "feature" is no input of the model'),
        ({"features": lambda x: x.astype("f8")}, "is float64 and the model takes float32"),
        ({"features": lambda x: x[:, :8]}, "has shape (600, 8) and the model's input is any x 16"),
        ({"features": lambda x: x[..., None]}, "has shape (600, 16, 1)"),
        ({"features": np.zeros(600, [("a", "f4")])}, "and the model takes float32"),
        ({"features": np.float32(1)}, 'array "features" of "test.npz" has no samples'),
        ({"features": lambda x: x[:0], "labels": lambda x: x[:0]}, "has no samples (shape (0"),
    ),
)
def test_evaluation_data_that_does_not_fit(
    refused: Refused, project: Path, changes: Mapping[str, Any], expected: str
) -> None:
    rewrite(project / "test.npz", **changes)
    line = refused()
    assert line.startswith("edgeai.toml [models.m] data: ")
    assert expected in line


EMBEDS = MODEL.replace("tabular-classification", "feature-extraction")


@pytest.mark.parametrize("table", ["gates", "models.m.gates"])
@pytest.mark.parametrize("neighbors", [599, 10_000])
def test_neighbors_that_leave_no_sample_out(refused: Refused, table: str, neighbors: int) -> None:
    line = refused(manifest=f"{EMBEDS}[{table}]\nrecall_neighbors = {neighbors}\n")
    assert line == (
        f"edgeai.toml [{table}] recall_neighbors: {neighbors} neighbors, and the evaluation data "
        "has 600 samples; every other sample would be a neighbor; allowed: 1 to 598"
    )


def test_neighbors_in_a_pyproject(refused: Refused, project: Path) -> None:
    (project / "edgeai.toml").unlink()
    tables = f"{EMBEDS}[gates]\nrecall_neighbors = 600\n".replace("\n[", "\n[tool.edgeai.")
    (project / "pyproject.toml").write_text(tables, encoding="utf-8")
    assert refused().startswith("pyproject.toml [tool.edgeai.gates] recall_neighbors: 600 neigh")


def test_groups_of_one_sample_each(refused: Refused, project: Path) -> None:
    rewrite(project / "test.npz", labels=np.arange(600))
    assert refused(manifest=EMBEDS) == (
        "edgeai.toml [models.m] data: no label occurs twice, so that no sample has a relevant one; "
        "allowed: the group of each sample, or no labels at all. "
        "Leave the labels out or group them"
    )


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:count])


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[9000:9100] = bytes(100)
    path.write_bytes(content)


def lie(path: Path) -> None:
    header = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 16)}
    np.lib.format.write_array_header_1_0(header, described)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("features.npy", header.getvalue())


def text_inside(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    cases(
        (lambda path: path.write_bytes(b""), "is not a readable .npz file"),
        (lambda path: path.write_bytes(b"garbage" * 99), "is not a readable .npz file"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "is not a readable .npz file"),
        (lambda path: cut(path, 5000), "is not a readable .npz file"),
        (lambda path: cut(path, path.stat().st_size - 500), "is not a readable .npz file"),
        (lambda path: np.savez(path), "holds no array"),
        (damage, "cannot be read (Bad CRC-32"),
        (lie, "is cut short"),
        (text_inside, "is not a readable .npz file"),
    ),
)
def test_npz_files_that_are_none(
    refused: Refused, project: Path, spoil: Callable[[Path], Any], expected: str
) -> None:
    spoil(project / "test.npz")
    line = refused()
    assert line.startswith("edgeai.toml [models.m] data: ")
    assert expected in line


def test_pickles_are_never_opened(refused: Refused, project: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (project / "sprung",)

    rewrite(project / "calibration.npz", features=np.array([Trap()] * 3, dtype=object))
    assert "holds pickled objects" in refused()
    assert not (project / "sprung").exists()


def test_calibration_that_overlaps_the_evaluation_data(refused: Refused, project: Path) -> None:
    with np.load(project / "test.npz") as archive:
        shared = archive["features"][3:9]
    rewrite(project / "calibration.npz", features=lambda x: np.concatenate([x[:2], shared]))
    line = refused()
    assert line.startswith("edgeai.toml [models.m] calibration: 6 of 8 calibration samples are")
    assert "calibration sample 2 is evaluation sample 3" in line


def test_a_static_recipe_needs_calibration(refused: Refused) -> None:
    manifest = MODEL.replace('calibration = "calibration.npz"\n', "")
    line = refused(manifest=manifest + STATIC)
    assert 'recipe "onnxruntime-int8-static" needs calibration data' in line
    assert 'allowed: calibration = "FILE.npz"' in line


FUNCTIONS = """
def raises():
    raise ValueError("boom")

def no_mapping():
    return [1]

def objects():
    import numpy
    return {"features": numpy.array([None])}

number = 3
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    cases(
        ("raises", '"broken_source:raises" raised ValueError: boom'),
        ("no_mapping", "returned no mapping of names to arrays"),
        ("objects", 'array "features" holds Python objects'),
        ("number", '"broken_source:number" raised TypeError'),
        ("absent", '"broken_source:absent" cannot be imported (AttributeError'),
    ),
)
def test_callables_that_give_no_data(
    refused: Refused, project: Path, name: str, expected: str
) -> None:
    (project / "broken_source.py").write_text(FUNCTIONS)
    line = refused(manifest=MODEL.replace('"test.npz"', f'"broken_source:{name}"'))
    assert line.startswith("edgeai.toml [models.m] data: ")
    assert expected in line


# Models


@pytest.mark.parametrize(
    ("spoil", "expected"),
    cases(
        (lambda path: path.write_bytes(b""), "the model file is empty. Export or copy it again"),
        (lambda path: cut(path, 3000), "this is no complete ONNX model"),
        (lambda path: path.write_bytes(b"garbage!" * 100), "this is no complete ONNX model"),
        (lambda path: path.write_bytes(bytes(1000)), "this is no complete ONNX model"),
        (lambda path: path.write_bytes(b"<html>404</html>"), "this is no complete ONNX model"),
        (
            lambda path: path.write_bytes(
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
            ),
            "the file is a Git LFS pointer, not the model. Run: git lfs pull",
        ),
    ),
)
def test_model_files_that_are_none(
    refused: Refused, project: Path, spoil: Callable[[Path], Any], expected: str
) -> None:
    spoil(project / "model.onnx")
    line = refused()
    assert line.startswith('edgeai.toml [models.m] path: "model.onnx": ')
    assert expected in line


def set_opset(path: Path, version: int) -> None:
    model = onnx.load(path)
    model.opset_import[0].version = version
    onnx.save(model, path)


def test_an_opset_that_the_runtime_does_not_know(refused: Refused, project: Path) -> None:
    set_opset(project / "model.onnx", 99)
    line = refused()
    assert line.startswith(f"{project / 'model.onnx'}: the model uses opset 99")
    assert "allowed: up to opset" in line


# One model among several is one failed item; the others are gated


PAIR = MODEL + MODEL.replace("models.m]", "models.other]").replace("model.onnx", "other.onnx")


def spoil_path(project: Path) -> str:
    return PAIR.replace("other.onnx", "nowhere.onnx")


def spoil_file(project: Path) -> str:
    cut(project / "other.onnx", 3000)
    return PAIR


def spoil_opset(project: Path) -> str:
    set_opset(project / "other.onnx", 99)
    return PAIR


def spoil_overlap(project: Path) -> str:
    first, second = PAIR.split("[models.other]")
    return f"{first}[models.other]{second.replace('calibration.npz', 'test.npz')}"


@pytest.mark.parametrize(
    ("spoil", "expected"),
    cases(
        (spoil_path, '"nowhere.onnx" does not exist'),
        (spoil_file, "this is no complete ONNX model"),
        (spoil_opset, "pset 99"),
        (spoil_overlap, "calibration samples are evaluation samples too"),
    ),
)
def test_a_broken_model_leaves_the_others_gated(
    place: Place, project: Path, spoil: Callable[[Path], str], expected: str
) -> None:
    shutil.copy(project / "model.onnx", project / "other.onnx")
    (project / "edgeai.toml").write_text(spoil(project) + QUICK, encoding="utf-8")
    run = place.run("-k", "output_sanity or precision_proof or usable", "-v")
    assert run.code == pytest.ExitCode.TESTS_FAILED
    assert "Traceback" not in run.text
    assert expected in run.text
    assert f"edgeai.toml::m::{CANDIDATE}::output_sanity PASSED" in run.text
    assert run.outcomes["passed"] == 2
    failed = [line for line in run.text.splitlines() if line.startswith("FAILED ")]
    assert failed
    assert all("::other::" in line for line in failed)
