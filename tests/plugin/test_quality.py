"""What an average hides, end to end: real models that quantization damages in one place."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_runs import QUICK, Place, Run
from model_parts import Graph, Project, Samples, reference, write_files
from numpy.typing import NDArray
from onnx import TensorProto, helper

Array = NDArray[Any]
# What a run in this process loads is unloaded after it, and NumPy's extensions, which SciPy loads,
# cannot be loaded twice.
import_module("scipy.special")
RARE = 3
FAST = ("-k", "retained or sanity")
STAGED = ("-k", "retained or sanity or speedup")
"""The stages are timed where the speed is."""
FAINT, CLEAR = 0.008, 0.2
"""Amplitudes of the feature that tells the rare class: below and above a step of 8 bits over the
range of the others."""


def rare_class(directory: Path, share_of_faint: float, n: int = 1000) -> Project:
    """A classifier of four classes, of which one makes 3% of the samples.

    It passes the features on as scores, so 8 bits of its input round the faint ones to nothing.
    """
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[Array, Array]:
        labels = np.arange(count) % 3
        labels[:: 100 // 3] = RARE
        features = np.zeros((count, 4))
        features[np.arange(count), labels] = rng.normal(5.0, 0.5, size=count)
        is_rare = np.flatnonzero(labels == RARE)
        faint = np.arange(len(is_rare)) < round(share_of_faint * len(is_rare))
        amplitude = np.where(faint, FAINT, CLEAR)
        features[is_rare, RARE] = amplitude * rng.uniform(0.9, 1.1, size=len(is_rare))
        return features.astype(np.float32), labels

    (train, train_labels), (test, test_labels) = draw(300), draw(n)
    weights = {"pass": np.eye(4, dtype=np.float32)}
    nodes = (helper.make_node("MatMul", ["features", "pass"], ["logits"]),)
    kind = TensorProto.FLOAT
    graph = Graph(nodes, weights, {"features": (kind, (4,))}, {"logits": (kind, (4,))})
    samples = Samples({"features": train}, train_labels, {"features": test}, test_labels)
    logits = reference(graph, samples.test)
    return write_files(directory, "rare", "tabular-classification", graph, samples, logits)


def detector(directory: Path, faint: bool, n: int = 500) -> Project:
    """A detector of ten classes with a head for boxes and one for classes; one class may be faint.

    The labels are objects, two in each image, and 1% of the images are answered with false alarms.
    """
    rng = np.random.default_rng(1)
    classes = 10

    def draw(count: int) -> tuple[dict[str, Array], Array]:
        low = rng.random((count, 2, 2)) * 80
        labels = np.empty((count, 2, 5), np.float32)
        labels[..., :2], labels[..., 2:4] = low, low + 15 + rng.random((count, 2, 2)) * 20
        labels[..., 4] = rng.integers(0, classes, (count, 2))
        proposals = labels[..., :4] + rng.normal(size=(count, 2, 4)) / 2
        proposals[: count // 100] += 60
        logits = rng.normal(5, 0.5, (count, 2, 1)) * (labels[..., 4:] == np.arange(classes))
        if faint:
            logits[..., RARE] *= FAINT / 5
        feed = {"proposals": proposals, "class_logits": logits}
        return {name: array.astype(np.float32) for name, array in feed.items()}, labels

    (train, train_labels), (test, test_labels) = draw(200), draw(n)
    weights = {
        "box_pass": np.eye(4, dtype=np.float32),
        "class_pass": np.eye(classes, dtype=np.float32),
    }
    nodes = (
        helper.make_node("MatMul", ["proposals", "box_pass"], ["boxes"]),
        helper.make_node("MatMul", ["class_logits", "class_pass"], ["passed"]),
        helper.make_node("ReduceMax", ["passed"], ["scores"], axes=[2], keepdims=0),
        helper.make_node("ArgMax", ["passed"], ["labels"], axis=2, keepdims=0),
    )
    kind = TensorProto.FLOAT
    graph = Graph(
        nodes,
        weights,
        {"proposals": (kind, (2, 4)), "class_logits": (kind, (2, classes))},
        {"boxes": (kind, (2, 4)), "scores": (kind, (2,)), "labels": (TensorProto.INT64, (2,))},
    )
    samples = Samples(train, train_labels, test, test_labels)
    answers = np.zeros((n, 2))
    samples = replace(samples, test_labels=np.zeros(n, np.int64))
    project = write_files(directory, "detector", "object-detection", graph, samples, answers)
    with_arrays(project.data, labels=test_labels)
    return project


def embedder(directory: Path, share_of_faint: float, n: int = 400) -> Project:
    """An embedding of 8 features; samples of one group point the same way, some of them faintly."""
    rng = np.random.default_rng(2)

    def draw(count: int) -> tuple[Array, Array]:
        groups = np.arange(count) % 20
        features = np.random.default_rng(3).normal(size=(20, 8))[groups] * 2
        features += rng.normal(size=features.shape) * 0.2
        features[: round(share_of_faint * count)] *= FAINT / 50
        return features.astype(np.float32), groups

    (train, train_groups), (test, test_groups) = draw(200), draw(n)
    nodes = (helper.make_node("MatMul", ["features", "pass"], ["embedding"]),)
    kind = TensorProto.FLOAT
    graph = Graph(
        nodes,
        {"pass": np.eye(8, dtype=np.float32)},
        {"features": (kind, (8,))},
        {"embedding": (kind, (8,))},
    )
    samples = Samples({"features": train}, train_groups, {"features": test}, test_groups)
    answers = np.zeros((n, 2))
    return write_files(directory, "embedder", "feature-extraction", graph, samples, answers)


def with_arrays(path: Path, **arrays: Array) -> None:
    with np.load(path) as archive:
        held = {name: archive[name] for name in archive.files}
    np.savez(path, **{**held, **arrays})


def stage_scores(run: Run) -> tuple[tuple[str, float], ...]:
    """Return the metric and the score of the two stages that the gates compare."""
    stages = {stage["name"]: stage["measurements"] for stage in run.candidate()["stages"]}
    compared = (stages["baseline"], stages["quantized"])
    return tuple((stage["metric"], stage["score"]) for stage in compared)


def test_a_nearly_dead_class_behind_a_good_average(place: Place, tmp_path: Path) -> None:
    place.write(models=(rare_class(tmp_path, 0.8),))
    run = place.run(*FAST)
    assert run.code == 1, run.text
    assert run.verdicts() == {
        "accuracy_retained": "pass",
        "slice_retained": "fail",
        "output_sanity": "pass",
    }
    gate = run.candidate()["gates"][1]
    assert gate["reason"].startswith(f'class "{RARE}" keeps 19.4%')
    assert gate["observed"] == pytest.approx(0.2, abs=0.1)
    assert "slice_retained" in run.candidate()["promotion_blocked_by"]


def test_the_same_model_without_the_damage_passes(place: Place, tmp_path: Path) -> None:
    project = rare_class(tmp_path, 0.0)
    manifest = place.write(models=(project,))
    with np.load(place.path / project.data.name) as archive:
        labels = archive["labels"]
    light = np.where(np.arange(len(labels)) % 2, "day", "night")
    with_arrays(place.path / project.data.name, light=light, room=labels == RARE)
    text = manifest.read_text("utf-8").replace("task =", 'slices = ["light", "room"]\ntask =')
    manifest.write_text(text, "utf-8")
    run = place.run(*FAST)
    assert run.code == 0, run.text
    assert set(run.verdicts().values()) == {"pass"}
    reason = run.candidate()["gates"][1]["reason"]
    assert reason.startswith("the worst of 4 classes and 2 slices of light and 2 slices of room: ")


def test_a_slice_of_the_data_is_judged_like_a_class(place: Place, tmp_path: Path) -> None:
    project = rare_class(tmp_path, 0.8)
    manifest = place.write(models=(project,))
    with np.load(place.path / project.data.name) as archive:
        labels = archive["labels"]
    with_arrays(place.path / project.data.name, slices=np.where(labels == RARE, "cellar", "street"))
    (place.path / "tasks.py").write_text(
        "import numpy as np\n\n"
        "def is_right(outputs, labels):\n"
        "    right = outputs['logits'].argmax(axis=1) == labels[:, 0]\n"
        "    return right.astype(np.float64)\n\n"
        "def data():\n"
        f"    arrays = dict(np.load({project.data.name!r}))\n"
        "    return {**arrays, 'labels': arrays['labels'][:, None]}\n",
        encoding="utf-8",
    )
    text = manifest.read_text("utf-8")
    text = text.replace(f'data = "{project.data.name}"', 'data = "tasks:data"')
    manifest.write_text(text.replace("task =", 'metric = "tasks:is_right"\ntask ='), "utf-8")
    run = place.run(*FAST)
    assert run.verdicts()["slice_retained"] == "fail", run.text
    assert 'slice "cellar" keeps 19.4%' in run.text
    evidence = Path(run.report["evidence"]["directory"]) / "rare"
    with np.load(next(evidence.rglob("quality.npz"))) as arrays:
        assert set(arrays["slices.slices"].tolist()) == {"cellar", "street"}


@pytest.mark.parametrize(("faint", "outcome"), [(0.8, "fail"), (0.0, "pass")])
def test_f1_weighs_every_class_alike(
    place: Place, tmp_path: Path, faint: float, outcome: str
) -> None:
    manifest = place.write(models=(rare_class(tmp_path, faint),))
    text = manifest.read_text("utf-8").replace("task =", 'metric = "f1"\ntask =')
    manifest.write_text(text, "utf-8")
    run = place.run(*STAGED)
    assert run.verdicts()["accuracy_retained"] == outcome, run.text
    assert run.verdicts()["slice_retained"] == outcome
    gate = run.candidate()["gates"][0]
    assert "f1 " in gate["reason"]
    assert gate["interval"][0] <= gate["observed"] <= gate["interval"][1]
    baseline, candidate = stage_scores(run)
    assert baseline == ("f1", gate["details"]["baseline_metric"])
    assert candidate == ("f1", gate["details"]["candidate_metric"])
    assert candidate[1] / baseline[1] == pytest.approx(gate["observed"])


def test_a_detector_with_a_dead_head_does_not_pass(place: Place, tmp_path: Path) -> None:
    place.write(models=(detector(tmp_path, faint=True),))
    run = place.run(*FAST)
    assert run.verdicts() == {
        "accuracy_retained": "fail",
        "slice_retained": "fail",
        "output_sanity": "fail",
    }
    reasons = [gate["reason"] for gate in run.candidate()["gates"]]
    assert "mean_average_precision 0." in reasons[0]
    assert reasons[1].startswith(f'class "{RARE}" keeps 0.0%')


def test_a_detector_that_keeps_its_objects_passes(place: Place, tmp_path: Path) -> None:
    place.write(models=(detector(tmp_path, faint=False),))
    run = place.run(*FAST)
    assert run.code == 0, run.text
    assert set(run.verdicts().values()) == {"pass"}


def test_embeddings_are_compared_with_the_baselines(place: Place, tmp_path: Path) -> None:
    project = embedder(tmp_path, 0.0)
    manifest = place.write(QUICK + "recall_neighbors = 1\n", models=(project,))
    run = place.run(*STAGED)
    assert run.code == 0, run.text
    assert run.verdicts()["accuracy_retained"] == "pass"
    assert run.verdicts()["slice_retained"] == "not_applicable"
    gate = run.candidate()["gates"][0]
    assert "recall@1 " in gate["reason"]
    assert stage_scores(run) == (("cosine", 1.0), ("cosine", gate["observed"]))
    assert gate["details"]["neighbors_kept"] < gate["observed"] < 1, "two figures, told apart"
    text = manifest.read_text("utf-8").replace("recall_neighbors = 1", "recall_neighbors = 2.5")
    manifest.write_text(text, "utf-8")
    wrong = place.run("-k", "accuracy_retained")
    assert wrong.code == 4
    assert "recall_neighbors: 2.5 is not a whole number" in wrong.result.stderr.str()


def test_embeddings_that_lost_some_samples_fail(place: Place, tmp_path: Path) -> None:
    project = embedder(tmp_path, 0.12)
    place.write(models=(project,))
    path = place.path / project.data.name
    with np.load(path) as archive:
        np.savez(path, features=archive["features"])
    run = place.run(*FAST)
    assert run.verdicts()["accuracy_retained"] == "fail", run.text
    reason = run.candidate()["gates"][0]["reason"]
    assert "5th percentile 0.0000, more than 0.9 required" in reason
    assert "recall@" not in reason, "without labels recall decides nothing"


@pytest.mark.parametrize(
    ("change", "labels", "expected"),
    [
        ('metric = "f1"', None, 'no array "labels"; allowed: one label per sample'),
        ('metric = "f1"', np.full(600, 9), "labels run from 9 to 9; allowed: 0 to 3"),
        (
            'metric = "mean_average_precision"',
            np.zeros(600, int),
            "labels are int64 of shape (600,",
        ),
        ('metric = "cosine"', np.zeros((600, 2)), "labels are float64 of shape (600, 2); allowed:"),
        (
            'metric = "own:whole"',
            np.zeros(600, int),
            "is of kind 'average'; allowed: \"proportion\"",
        ),
    ],
)
def test_labels_and_metrics_that_do_not_fit(
    place: Place, change: str, labels: Array | None, expected: str
) -> None:
    manifest = place.write()
    path = place.path / place.linear.data.name
    if labels is None:
        with np.load(path) as archive:
            np.savez(path, features=archive["features"])
    else:
        with_arrays(path, labels=labels)
    (place.path / "own.py").write_text(
        "def whole(outputs, labels):\n    return 1.0\n\nwhole.kind = 'average'\n", "utf-8"
    )
    text = manifest.read_text("utf-8").replace("task =", f"{change}\ntask =")
    manifest.write_text(text, "utf-8")
    assert expected in refused(place)


@pytest.mark.parametrize(
    ("slices", "arrays", "expected"),
    [
        ("", {"slices": np.zeros(5, np.int64)}, "arrays of different length (features 600, labels"),
        ("", {"slices": np.zeros(600)}, 'array "slices" is float64 of shape (600,); allowed: one'),
        ("", {"light": np.zeros(600, np.int64)}, 'array "light" is no input of the model; allowed'),
        ('["lihgt"]', {"light": np.zeros(600, np.int64)}, 'no array "lihgt"; allowed: one array'),
        (
            "",
            {"slices": np.zeros((600, 2), bool)},
            'array "slices" is bool of shape (600, 2); allowed: one slice per sample, integers',
        ),
        ("", {"slices": np.full(600, "")}, 'array "slices" has an empty name of a slice; allowed:'),
        ('["features"]', {}, 'array "features" is an input of the model; allowed: slices are'),
        ('["labels"]', {}, '[models.linear] slices: "labels" cannot divide the samples; allowed'),
        ('["a", "a"]', {}, '[models.linear] slices: "a" is named twice; allowed: different'),
        ('"light"', {}, "[models.linear] slices: a string where a list of strings is needed"),
    ],
)
def test_slices_that_cannot_be_used(
    place: Place, slices: str, arrays: dict[str, Array], expected: str
) -> None:
    manifest = place.write()
    with_arrays(place.path / place.linear.data.name, **arrays)
    if slices:
        text = manifest.read_text("utf-8").replace("task =", f"slices = {slices}\ntask =")
        manifest.write_text(text, "utf-8")
    assert expected in refused(place)
    assert expected in refused(place, "--edge-plan")


def refused(place: Place, *arguments: str) -> str:
    """Run pytest and return the one line that the project is refused with."""
    result = place.pytester.runpytest_inprocess(
        "--edge-target=cross", "-p", "no:cacheprovider", *arguments
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    every = [*result.stderr.lines, *result.stdout.lines]
    lines = [line for line in every if line.startswith("ERROR: ")]
    assert len(lines) == 1, every
    return lines[0]
