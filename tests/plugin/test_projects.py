"""Projects as users have them: where the manifest lies, what models and data look like."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from edge_runs import CANDIDATE, GATES, PASSING, QUICK, Place, Run
from models import Project
from onnx import helper, numpy_helper

with_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="openvino is not installed; run: pip install 'pytest-edgeai[intel]'",
)
FAST = ("-k", "accuracy_retained or output_sanity or precision_proof")
"""The gates that take no timing and no fresh processes."""


def passed(run: Run, count: int = 3) -> None:
    assert run.code == 0, run.text
    assert run.outcomes["passed"] == count


def prepend(path: Path, text: str) -> None:
    path.write_text(text + path.read_text(encoding="utf-8"), encoding="utf-8")


def add(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


# Where the manifest lies


def test_every_gate_of_a_project_with_edgeai_toml(quick: Callable[..., Run]) -> None:
    run = quick()
    assert run.code == 0
    assert run.outcomes == {"passed": PASSING, "skipped": 2}
    assert f"SHIP: linear {CANDIDATE} may be promoted" in run.text
    assert run.candidate()["promotion_blocked_by"] == []


def to_pyproject(place: Place) -> None:
    own = place.write()
    text = own.read_text(encoding="utf-8")
    text = text.replace("[models", "[tool.edgeai.models").replace("[gates", "[tool.edgeai.gates")
    (place.path / "pyproject.toml").write_text('[project]\nname = "mine"\n' + text)
    own.unlink()


def test_the_table_in_pyproject(place: Place) -> None:
    to_pyproject(place)
    run = place.run(*FAST, "-v")
    passed(run)
    assert f"pyproject.toml::linear::{CANDIDATE}::output_sanity PASSED" in run.text


def test_a_manifest_elsewhere(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write()
    elsewhere = place.path / "unrelated"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (place.path / "edgeai.toml").rename(place.path / "gates.toml")
    passed(place.run(*FAST, "--edge-manifest=../gates.toml"))


def test_from_a_subdirectory(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write()
    below = place.path / "tests" / "unit"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    passed(place.run(*FAST))


def test_the_target_may_stand_in_the_manifest(place: Place) -> None:
    add(place.write(), '[settings]\ntarget = "cross"\n')
    result = place.run("--co", "-q", target="")
    assert f"edgeai.toml::linear::{CANDIDATE}::speedup" in result.text


def test_a_byte_order_mark_is_no_syntax_error(place: Place) -> None:
    manifest = place.write()
    manifest.write_bytes(b"\xef\xbb\xbf" + manifest.read_bytes())
    assert place.run("--co", "-q").code == 0


# What models and data look like


BUILDERS = {
    "dynamic": models.dynamic_batch,
    "fixed": models.fixed_batch,
    "several": models.several_inputs,
    "float16": models.float16_classifier,
    "int64": models.int64_classifier,
    "strings": models.string_labels,
    "external": models.external_data,
}


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    """Models of every kind, each small."""
    place = tmp_path_factory.mktemp("zoo")
    return {name: build(place / name) for name, build in BUILDERS.items()}


def test_models_of_every_kind_side_by_side(place: Place, zoo: dict[str, Project]) -> None:
    for project in zoo.values():
        for companion in project.model.parent.glob("*.data"):
            (place.path / companion.name).write_bytes(companion.read_bytes())
    place.write(models=tuple(zoo.values()))
    run = place.run(*FAST)
    passed(run, 3 * len(zoo))
    for model in run.report["models"]:
        [candidate] = model["candidates"]
        observed = {gate["name"]: gate["observed"] for gate in candidate["gates"]}
        assert observed["accuracy_retained"] == pytest.approx(1.0, abs=0.01), model["name"]


@with_openvino
@pytest.mark.parametrize("name", ["fixed", "several", "float16", "external"])
def test_openvino_takes_the_same_models(place: Place, zoo: dict[str, Project], name: str) -> None:
    for companion in zoo[name].model.parent.glob("*.data"):
        (place.path / companion.name).write_bytes(companion.read_bytes())
    place.write(models=(zoo[name],))
    run = place.run(*FAST, "--edge-framework=openvino")
    passed(run)
    assert run.candidate()["id"] == "openvino-int8-static"


def without_batch_axis(project: Project, directory: Path) -> Project:
    """Return the same classifier for one bare sample: ``x`` ``(16,)`` to ``scores`` ``(4,)``."""
    model = onnx.load(project.model)
    graph = model.graph
    last = graph.node[-1]
    last.output[0] = "batched"
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["features"]),
        *graph.node,
        helper.make_node("Squeeze", ["batched", "axis"], ["scores"]),
    ]
    weights = [*graph.initializer, numpy_helper.from_array(np.array([0]), "axis")]
    bare = helper.make_model(
        helper.make_graph(
            nodes,
            "bare",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [16])],
            [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [4])],
            weights,
        ),
        opset_imports=list(model.opset_import),
    )
    bare.ir_version = model.ir_version
    path = directory / "bare.onnx"
    onnx.save(bare, path)
    files: dict[str, Any] = {}
    for name in ("data", "calibration"):
        with np.load(getattr(project, name)) as archive:
            arrays = {"x" if key == "features" else key: archive[key] for key in archive.files}
        files[name] = directory / f"bare-{name}.npz"
        np.savez(files[name], **arrays)
    return dataclasses.replace(project, name="bare", model=path, **files)


def test_a_model_without_batch_axis(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    bare = without_batch_axis(place.linear, tmp_path_factory.mktemp("bare"))
    place.write(models=(bare,))
    run = place.run(*FAST)
    passed(run)
    assert run.candidate()["gates"][0]["samples"] == 600


def rename_labels(path: Path, names: str) -> None:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["labels"] = np.array(list(names))[arrays["labels"]]
    np.savez(path, **arrays)


def test_class_names_give_the_order_of_the_columns(place: Place) -> None:
    manifest = place.write()
    rename_labels(place.path / place.linear.data.name, "dcba")
    text = manifest.read_text().replace("task =", 'classes = ["d", "c", "b", "a"]\ntask =')
    manifest.write_text(text)
    passed(place.run(*FAST))


def test_without_class_names_the_assumed_order_is_told(place: Place) -> None:
    place.write()
    rename_labels(place.path / place.linear.data.name, "abcd")
    run = place.run(*FAST)
    passed(run)
    told = "string labels were taken as the output's columns in sorted order: a, b"
    assert told in " ".join(run.text.split())


def test_big_endian_data_are_read_right(place: Place) -> None:
    place.write()
    path = place.path / place.linear.data.name
    with np.load(path) as archive:
        arrays = {
            name: archive[name].astype(archive[name].dtype.newbyteorder(">"))
            for name in archive.files
        }
    np.savez(path, **arrays)
    passed(place.run(*FAST))


SOURCES = """
import pathlib
import numpy

here = pathlib.Path(__file__).parent

def evaluation():
    return dict(numpy.load(here / "linear-test.npz"))

def calibration():
    return dict(numpy.load(here / "linear-calibration.npz"))

def hits(outputs, labels):
    return outputs["logits"].argmax(axis=1) == labels

def distance(outputs, labels):
    scores = outputs["logits"]
    return scores.max(axis=1) - scores[numpy.arange(len(labels)), labels]

distance.kind = "loss"
"""


def test_data_and_metric_from_a_module_beside_the_manifest(place: Place) -> None:
    manifest = place.write()
    (place.path / "my_sources.py").write_text(SOURCES)
    text = manifest.read_text()
    text = text.replace('"linear-test.npz"', '"my_sources:evaluation"\nmetric = "my_sources:hits"')
    manifest.write_text(text.replace('"linear-calibration.npz"', '"my_sources:calibration"'))
    passed(place.run(*FAST))


def test_a_metric_of_ones_own_may_be_a_loss(place: Place) -> None:
    manifest = place.write()
    (place.path / "my_sources.py").write_text(SOURCES)
    manifest.write_text(
        manifest.read_text().replace("task =", 'metric = "my_sources:distance"\ntask =')
    )
    run = place.run("-k", "accuracy_retained")
    [gate] = run.candidate()["gates"]
    assert gate["outcome"] in ("pass", "fail", "inconclusive"), gate["reason"]
    assert gate["samples"] == 600


def test_without_calibration_data_the_recipe_changes(place: Place) -> None:
    manifest = place.write()
    lines = [x for x in manifest.read_text().splitlines() if not x.startswith("calibration")]
    manifest.write_text("\n".join(lines))
    run = place.run(*FAST)
    passed(run)
    assert run.candidate()["id"] == "onnxruntime-int8-dynamic"


# Recipes, baselines, known failures


def test_recipes_of_ones_own_replace_the_default(place: Place) -> None:
    add(
        place.write(),
        """
[[models.linear.recipes]]
framework = "onnxruntime"
scheme = "int8-dynamic"
[[models.linear.recipes]]
framework = "onnxruntime"
scheme = "int8-static"
label = "tensor"
options = { per_channel = false }
""",
    )
    run = place.run(*FAST)
    passed(run, 6)
    found = [candidate["id"] for candidate in run.report["models"][0]["candidates"]]
    assert found == ["onnxruntime-int8-dynamic", "onnxruntime-int8-static-tensor"]


def test_a_known_failure_that_fails_is_expected(place: Place) -> None:
    failing = QUICK.replace("speedup = 0.01", 'speedup = 0.01\nartifact_size = "1 kB"')
    known = '[[known_failures]]\nmodel = "linear"\ngate = "artifact_size"\nreason = "later"\n'
    place.write(failing + known)
    run = place.run("-k", "artifact_size")
    assert run.code == 0
    assert run.outcomes["xfailed"] == 1
    assert "may be promoted" not in run.text


def test_a_known_failure_that_passes_fails(place: Place) -> None:
    known = '[[known_failures]]\nmodel = "linear"\ngate = "output_sanity"\nreason = "later"\n'
    place.write(QUICK + known)
    run = place.run("-k", "output_sanity")
    assert run.code == 1
    assert "[XPASS(strict)] later" in run.text


def test_a_known_failure_of_another_candidate_does_not_count(place: Place) -> None:
    known = (
        '[[known_failures]]\nmodel = "linear"\ngate = "output_sanity"\nreason = "later"\n'
        'candidate = "openvino-int8-static"\n'
    )
    place.write(QUICK + known)
    run = place.run("-k", "output_sanity")
    assert run.code == 0
    assert run.outcomes == {"passed": 1, "deselected": len(GATES) - 1}


@with_openvino
@pytest.mark.parametrize("baseline", ["same-framework", "openvino"])
def test_the_baseline_may_run_in_the_candidates_framework(place: Place, baseline: str) -> None:
    manifest = place.write()
    manifest.write_text(manifest.read_text().replace("task =", f'baseline = "{baseline}"\ntask ='))
    run = place.run(*FAST, "--edge-framework=openvino")
    passed(run)
    assert run.report["models"][0]["baseline"]["framework"] == "openvino"


@with_openvino
def test_an_openvino_model_is_a_baseline_of_its_own(place: Place) -> None:
    manifest = place.write()
    script = (
        "import sys, openvino as ov; "
        "ov.save_model(ov.convert_model(sys.argv[1]), sys.argv[2], compress_to_fp16=False)"
    )
    subprocess.run(
        [sys.executable, "-c", script, "linear.onnx", "linear.xml"], cwd=place.path, check=True
    )
    manifest.write_text(manifest.read_text().replace("linear.onnx", "linear.xml"))
    run = place.run(*FAST)
    passed(run)
    assert run.candidate()["id"] == "openvino-int8-static"


# Thresholds: who set them, and which wins


def threshold(run: Run, gate: str = "artifact_size") -> tuple[float | None, str]:
    [found] = [entry for entry in run.candidate()["gates"] if entry["name"] == gate]
    return found["threshold"], found["threshold_origin"]


@pytest.mark.parametrize(
    ("table", "model_table", "variable", "flag", "expected"),
    [
        ('artifact_size = "5 MB"', "", "", "", (5e6, "edgeai.toml")),
        ('artifact_size = "5 MB"', "artifact_size = 6000000", "", "", (6e6, "edgeai.toml")),
        ('artifact_size = "5 MB"', "", "7 MiB", "", (7 * 2**20, "PYTEST_EDGEAI_THRESHOLD")),
        ("", "artifact_size = 6e6", "7 MB", "8MB", (8e6, "--edge-threshold")),
    ],
    ids=["gates", "model", "environment", "command line"],
)
def test_the_nearest_threshold_wins_and_says_where_it_came_from(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    model_table: str,
    variable: str,
    flag: str,
    expected: tuple[float, str],
) -> None:
    place.write(f"[gates]\n{table}\n[models.linear.gates]\n{model_table}\n")
    if variable:
        monkeypatch.setenv("PYTEST_EDGEAI_THRESHOLD", f"artifact_size={variable}")
    run = place.run(
        "-k", "artifact_size", *([f"--edge-threshold=artifact_size={flag}"] if flag else [])
    )
    passed(run, 1)
    assert threshold(run) == expected


@pytest.mark.parametrize("how", ["manifest", "command line"])
def test_a_gate_that_is_switched_off_is_skipped(place: Place, how: str) -> None:
    place.write("[gates]\nspeedup = false\n" if how == "manifest" else "")
    flags = ["--edge-threshold=speedup=off"] if how == "command line" else []
    run = place.run("-k", "speedup", *flags)
    assert run.outcomes["skipped"] == 1
    assert run.verdicts() == {"speedup": "not_applicable"}
    [gate] = run.candidate()["gates"]
    origin = "edgeai.toml" if how == "manifest" else "--edge-threshold"
    assert gate["reason"] == f"switched off ({origin})"


def test_an_absolute_limit_of_the_tail(place: Place) -> None:
    place.write("[gates]\nlatency_consistency = 1000\nlatency_p99_limit_ms = 0.000001\n")
    run = place.run("-k", "latency_consistency", "--edge-budget=1")
    assert run.code == 1
    assert "p99" in run.candidate()["gates"][0]["reason"]


# Settings: every option by manifest and by variable, with its origin


IN_MANIFEST = {
    "model": ('"linear"', "linear"),
    "framework": ('"onnxruntime"', "onnxruntime"),
    "budget": ("3", "3.0"),
    "inconclusive": ('"skip"', "skip"),
    "refresh": ("true", "True"),
    "markdown": ('"report.md"', "report.md"),
    "junit": ('"report.xml"', "report.xml"),
    "promote": ('"shipped"', "shipped"),
    "allow_proxy": ("true", "True"),
    "threshold": ('["speedup=3"]', "speedup=3"),
    "threads": ("2", "2"),
    "time_limit": ("100", "100.0"),
}


def header(run: Run) -> str:
    """Return the header's line of settings."""
    [line] = [x for x in run.text.splitlines() if x.startswith("edgeai settings: ")]
    return line


def test_every_setting_of_the_manifest_tells_its_origin(place: Place) -> None:
    table = "".join(f"{name} = {value}\n" for name, (value, _) in IN_MANIFEST.items())
    place.write(f"[settings]\n{table}")
    line = header(place.run("--co"))
    for name, (_, shown) in IN_MANIFEST.items():
        assert f"{name} = " in line
        assert f"{shown} (edgeai.toml)" in line


def test_every_setting_of_the_environment_tells_its_origin(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("[settings]\nbudget = 99\n")
    for name, (value, _) in IN_MANIFEST.items():
        monkeypatch.setenv(f"PYTEST_EDGEAI_{name.upper()}", value.strip('[]"'))
    monkeypatch.setenv("PYTEST_EDGEAI_TARGET", "cross")
    line = header(place.run("--co", target=""))
    for name, (_, shown) in IN_MANIFEST.items():
        assert f"{shown} (PYTEST_EDGEAI_{name.upper()})" in line
    assert "edgeai.toml" not in line


def test_an_empty_variable_is_unset(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("[settings]\nbudget = 99\n")
    for name in ("BUDGET", "FRAMEWORK", "THRESHOLD", "REFRESH", "CACHE_DIR", "TARGET"):
        monkeypatch.setenv(f"PYTEST_EDGEAI_{name}", "")
    run = place.run("--co")
    assert run.code == 0
    assert "budget = 99.0 (edgeai.toml)" in header(run)


def test_paths_of_the_manifest_start_at_the_manifest(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write(QUICK + '[settings]\nmarkdown = "out/report.md"\n')
    below = place.path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    passed(place.run("-k", "output_sanity"), 1)
    assert (place.path / "out" / "report.md").is_file()


def test_the_manifest_chooses_where_artifacts_are_kept(place: Place) -> None:
    place.write(QUICK + '[settings]\ncache_dir = "kept"\n')
    passed(place.run("-k", "output_sanity", own_cache=True), 1)
    assert list((place.path / "kept" / "artifacts").glob("*.json"))
    assert not (place.path / ".edgeai").exists()


# Another interpreter


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX paths of virtual environments")
def test_a_framework_in_an_interpreter_of_its_own(place: Place) -> None:
    """Its environment has the framework's packages, and no pytest and no pytest-edgeai."""
    environment = place.path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    [site] = environment.glob("lib/python*/site-packages")
    needed = (
        "onnxruntime",
        "onnx",
        "numpy",
        "sympy",
        "mpmath",
        "google",
        "ml_dtypes",
        "typing_ext",
        "flatbuffers",
        "packaging",
        "protobuf",
        "humanfriendly",
        "coloredlogs",
    )
    for place_of_packages in map(Path, sys.path):
        if place_of_packages.name == "site-packages":
            for entry in place_of_packages.iterdir():
                if entry.name.startswith(needed):
                    (site / entry.name).symlink_to(entry)
    python = environment / "bin" / "python"
    probe = subprocess.run([python, "-c", "import pytest_edgeai"], capture_output=True, check=False)
    assert b"No module named 'pytest_edgeai'" in probe.stderr
    place.write(QUICK + '[frameworks.onnxruntime]\npython = "other/bin/python"\n')
    passed(place.run(*FAST))


def test_an_interpreter_without_the_framework(place: Place) -> None:
    environment = place.path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    folder = "Scripts" if os.name == "nt" else "bin"
    python = json.dumps(f"bare/{folder}/python")
    place.write(QUICK + f"[frameworks.onnxruntime]\npython = {python}\n")
    run = place.run("-k", "output_sanity", "--edge-framework=onnxruntime")
    assert run.code == 1
    assert "onnxruntime is not installed in" in run.text
    assert 'pip install "pytest-edgeai[onnx]"' in " ".join(run.text.split())
