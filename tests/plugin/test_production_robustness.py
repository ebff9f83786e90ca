"""The gates ``robustness`` and ``extreme_inputs``, as a user runs them."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import planted_inputs
import pytest
from edge_runs import Place, Run
from models import Project, require, small_cnn, tiny_transformer

FAULTS = (
    "convert",
    "healthy",
    "crash",
    "segfault",
    "hang",
    "poison",
    "nan-of-zeros",
    "refuse-zeros",
    "wraps",
)
EXTREME = '[production]\nrequired = ["extreme_inputs"]\n'
ROBUST = '[production]\nrequired = ["robustness"]\n'
QUICK_HANG = "[gates]\nextreme_inputs_time_limit_s = 2\n"


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require("onnxruntime", "onnx")


@pytest.fixture
def planted(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A project whose conftest adds the framework with the planted faults."""
    shutil.copy(planted_inputs.__file__, place.path / "planted_inputs.py")
    (place.path / "conftest.py").write_text(planted_inputs.HOOK % (FAULTS,), "utf-8")
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(place.path), *([inherited] if inherited else [])])
    monkeypatch.setenv("PYTHONPATH", path)
    return place


def recipe(scheme: str, framework: str = "planted", model: str = "linear") -> str:
    return f'[[models.{model}.recipes]]\nframework = "{framework}"\nscheme = "{scheme}"\n'


def verdicts(run: Run, name: str) -> dict[str, dict[str, Any]]:
    """Return scheme to the verdict of a gate."""
    found = {}
    for candidate in run.report["models"][0]["candidates"]:
        [gate] = [gate for gate in candidate["gates"] if gate["name"] == name]
        found[candidate["id"].partition("-")[2]] = gate
    return found


# -- extreme inputs


def test_planted_faults_are_found_beside_healthy_candidates(planted: Place) -> None:
    faults = {
        "crash": "NaN: crashes, killed by SIGABRT (the baseline answers)",
        "segfault": "NaN: crashes, killed by SIGSEGV (the baseline answers)",
        "hang": "an empty batch: hangs, no answer within 2 s",
        "poison": "NaN: afterwards the reference sample is answered otherwise",
        "nan-of-zeros": "NaN in the answer, and none in the baseline's",
        "refuse-zeros": "zeros: refused (ValueError: division by zero), and the baseline answers",
    }
    recipes = "".join(recipe(scheme) for scheme in ("healthy", *faults))
    planted.write(QUICK_HANG + EXTREME + recipes + recipe("int8-static", "onnxruntime"))
    run = planted.run("--edge-framework=planted,onnxruntime", "-k", "extreme_inputs")
    assert run.code == 1, run.text
    assert "Traceback" not in run.text
    found = verdicts(run, "extreme_inputs")
    for scheme, words in faults.items():
        assert found[scheme]["outcome"] == "fail", scheme
        assert words in found[scheme]["reason"], scheme
    for scheme in ("healthy", "int8-static"):
        assert found[scheme]["outcome"] == "pass", found[scheme]
        assert found[scheme]["observed"] == 0
    assert found["crash"]["observed"] == 2, "of all NaN, and of one"
    folder = Path(run.report["evidence"]["directory"]) / "linear"
    assert (folder / "planted-crash" / "extreme_inputs.json").is_file()


def test_a_crash_of_both_is_a_crash(planted: Place) -> None:
    """The baseline runs in the same framework and does the same."""
    shutil.copy(planted.linear.model, planted.path / "crash.onnx")
    planted.write(EXTREME + recipe("crash"))
    manifest = planted.path / "edgeai.toml"
    text = manifest.read_text("utf-8")
    text = text.replace(planted.linear.model.name, "crash.onnx")
    manifest.write_text(text.replace("task =", 'baseline = "planted"\ntask =', 1), "utf-8")
    run = planted.run("--edge-framework=planted", "-k", "extreme_inputs")
    found = verdicts(run, "extreme_inputs")["crash"]
    assert found["outcome"] == "fail", run.text
    assert "the baseline does so too" in found["reason"]


def test_without_production_neither_gate_exists(place: Place) -> None:
    place.write("")
    run = place.run("--collect-only", "-q")
    assert "robustness" not in run.text
    assert "extreme_inputs" not in run.text


# -- robustness


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Images, made once."""
    return small_cnn(tmp_path_factory.mktemp("cnn"), n=400)


def test_a_range_that_overflows_under_brightness_alone_fails_and_healthy_ones_pass(
    planted: Place, cnn: Project
) -> None:
    pytest.importorskip("PIL", reason='run: pip install "pytest-edgeai[images]"')
    schemes = {"healthy": "planted", "wraps": "planted", "int8-static": "onnxruntime"}
    recipes = "".join(recipe(scheme, name, "cnn") for scheme, name in schemes.items())
    planted.write(ROBUST + recipes, (cnn,))
    run = planted.run("--edge-framework=planted,onnxruntime", "-k", "robustness or accuracy")
    assert run.code == 1, run.text
    assert "Traceback" not in run.text
    accuracy, found = verdicts(run, "accuracy_retained"), verdicts(run, "robustness")
    assert {gate["outcome"] for gate in accuracy.values()} == {"pass"}
    outcomes = {scheme: gate["outcome"] for scheme, gate in found.items()}
    assert outcomes == {"healthy": "pass", "wraps": "fail", "int8-static": "pass"}
    assert found["wraps"]["reason"].startswith("brightness raised by 0.1 of the range: retains")
    assert "the worst of 5 corruptions is" in found["healthy"]["reason"]
    each = found["wraps"]["details"]["corruptions"]
    assert list(each) == ["gaussian_noise", "gaussian_blur", "brightness", "jpeg", "shift"]
    assert [each[name]["outcome"] for name in each] == ["pass", "pass", "fail", "pass", "pass"]
    assert "layout NCHW (inferred), range -0.72" in " ".join(run.text.split())
    folder = Path(run.report["evidence"]["directory"]) / "cnn" / "planted-wraps"
    with np.load(folder / "robustness.npz") as arrays:
        assert len(arrays["2/candidate_scores"]) == len(arrays["samples"]) == 400


def test_a_corruption_that_leaves_the_baseline_guessing_judges_nobody(
    place: Place, cnn: Project
) -> None:
    place.write(
        "[gates]\nrobustness_severity = 5\n" + ROBUST + 'corruptions = ["brightness"]\n', (cnn,)
    )
    run = place.run("-k", "robustness")
    [gate] = verdicts(run, "robustness").values()
    assert gate["outcome"] == "inconclusive"
    assert "the baseline itself does no better than guessing under it (accuracy" in gate["reason"]
    assert "robustness_severity lower" in gate["advice"]
    place.write(
        "[gates]\nrobustness_channel_axis = 4\n" + ROBUST + 'corruptions = ["brightness"]\n', (cnn,)
    )
    run = place.run("-k", "robustness")
    [gate] = verdicts(run, "robustness").values()
    assert gate["outcome"] == "error"
    assert "channel axis 4 of an array of shape" in gate["reason"]


def test_tabular_noise_passes_and_states_its_error_rate(place: Place) -> None:
    place.write(ROBUST)
    run = place.run("-k", "robustness")
    assert run.code == 0, run.text
    gate = verdicts(run, "robustness")["int8-static"]
    assert "noise of 0.1 of each feature's spread" in gate["reason"]
    assert gate["details"]["error_rate"] == 0.05
    assert gate["samples"] == 600


def test_a_corruption_that_fits_no_model_is_one_line_before_anything_runs(place: Place) -> None:
    place.write('[production]\ncorruptions = ["typos"]\n')
    run = place.run("--edge-plan")
    assert run.code == 4, run.text
    [line] = [x for x in run.result.stderr.lines if "corruptions" in x]
    assert 'the corruption "typos" does not fit tabular-classification; allowed: ' in line


def test_token_ids_are_not_certified_where_required_and_a_corruption_of_ones_own_is_judged(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = tiny_transformer(tmp_path_factory.mktemp("tokens"))
    place.write(ROBUST, (model,))
    run = place.run("-k", "robustness")
    [gate] = verdicts(run, "robustness").values()
    assert gate["outcome"] == "inconclusive"
    assert "not certified: no corruption fits the data: the inputs are numbers" in gate["reason"]
    place.write("[production]\n", (model,))
    run = place.run("-k", "robustness")
    [gate] = verdicts(run, "robustness").values()
    assert (run.code, gate["outcome"]) == (0, "not_applicable"), run.text
    place.pytester.makepyfile(
        own_noise="""
        import numpy as np

        def masked(arrays, severity, seed):
            random = np.random.default_rng(seed)
            ids = arrays["input_ids"]
            drop = random.random(ids.shape) < 0.05 * severity
            return {**arrays, "input_ids": np.where(drop, 0, ids)}

        def broken(arrays, severity, seed):
            return {name: array[:1] for name, array in arrays.items()}
        """
    )
    place.write(f'{ROBUST}corruptions = ["own_noise:masked"]\n', (model,))
    run = place.run("-k", "robustness")
    [gate] = verdicts(run, "robustness").values()
    assert gate["outcome"] == "pass", run.text
    assert '"own_noise:masked" at severity 2' in gate["reason"]
    place.write(f'{ROBUST}corruptions = ["own_noise:broken"]\n', (model,))
    run = place.run("-k", "robustness")
    [gate] = verdicts(run, "robustness").values()
    assert gate["outcome"] == "error"
    assert "changed the shape or dtype" in gate["reason"]


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("llama_cpp", "gguf", "tokenizers")),
    reason="llama.cpp is not installed; run: pip install 'pytest-edgeai[cross]'",
)
def test_a_language_model_reads_mistyped_text_and_refuses_odd_tokens(place: Place) -> None:
    example = Path(__file__).parents[2] / "examples" / "tiny-llama"
    shutil.copytree(example / "model", place.path / "model")
    text = (example / "heldout.txt").read_text("utf-8")[:12_000]
    (place.path / "heldout.txt").write_text(text, "utf-8")
    shutil.copy(example / "heldout.npz", place.path)
    manifest = (
        '[models.llama]\npath = "model"\ntask = "text-generation"\ndata = "{}"\n'
        'context_length = 128\n[production]\nrequired = ["robustness", "extreme_inputs"]\n'
    )
    (place.path / "edgeai.toml").write_text(manifest.format("heldout.txt"), "utf-8")
    run = place.run("-k", "robustness or extreme_inputs", "--edge-framework=llamacpp")
    assert run.code == 0, run.text
    [gate] = verdicts(run, "robustness").values()
    assert set(gate["details"]["corruptions"]) == {"typos", "case"}
    assert "retains" in gate["reason"]
    [gate] = verdicts(run, "extreme_inputs").values()
    assert "none of 7 extreme inputs crashes, hangs or poisons it: 2 answered" in gate["reason"]
    (place.path / "edgeai.toml").write_text(manifest.format("heldout.npz"), "utf-8")
    run = place.run("-k", "robustness", "--edge-framework=llamacpp")
    [gate] = verdicts(run, "robustness").values()
    assert gate["outcome"] == "inconclusive"
    assert "not certified: the evaluation data are token ids" in gate["reason"]
