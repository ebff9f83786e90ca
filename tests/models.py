"""Small real models with real data, made with ``onnx.helper`` and NumPy alone.

Every builder writes a model, its evaluation data and its calibration data into a directory and
returns a :class:`Project`. The classifiers are honest: a fixed random backbone and a head fitted in
closed form (ridge regression), so they reach the accuracy that :class:`Project` states. All seeds
are fixed: the same arguments give the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from model_parts import (
    CLASSES,
    Array,
    Batch,
    Graph,
    Project,
    Samples,
    fit_head,
    reference,
    require,
    split_samples,
    with_head,
    write_files,
)
from networks import small_cnn, tiny_transformer
from onnx import TensorProto, helper

__all__ = [
    "CLASS_NAMES",
    "Project",
    "dynamic_batch",
    "external_data",
    "fixed_batch",
    "float16_classifier",
    "int64_classifier",
    "linear_classifier",
    "multi_output",
    "require",
    "several_inputs",
    "small_cnn",
    "string_labels",
    "string_output",
    "tiny_transformer",
    "write_project",
]

CLASS_NAMES = ("ant", "bee", "cat", "dog")


def _blobs(dimensions: int, separation: float, seed: int) -> Callable[[Array], Array]:
    """Return a sampler of Gaussian blobs of unit variance, one center per class."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(CLASSES, dimensions)) * separation / np.sqrt(dimensions)

    def draw(labels: Array) -> Array:
        noise = rng.normal(size=(len(labels), dimensions))
        return np.asarray(centers[labels] + noise, dtype=np.float32)

    return draw


def _mlp(dimensions: int, hidden: int, seed: int) -> Graph:
    """Return a random hidden layer with ReLU: ``features`` ``(N, D)`` to ``hidden`` ``(N, H)``."""
    rng = np.random.default_rng(seed)
    weights = {
        "hidden_w": rng.normal(size=(dimensions, hidden)).astype(np.float32) / dimensions**0.5,
        "hidden_b": rng.normal(size=hidden).astype(np.float32) / 2,
    }
    nodes = (
        helper.make_node("Gemm", ["features", "hidden_w", "hidden_b"], ["hidden_pre"]),
        helper.make_node("Relu", ["hidden_pre"], ["hidden"]),
    )
    inputs = {"features": (TensorProto.FLOAT, (dimensions,))}
    return Graph(nodes, weights, inputs, {"hidden": (TensorProto.FLOAT, (hidden,))})


def _tabular(n: int, separation: float, seed: int) -> tuple[Graph, Samples, Array]:
    """Return the fitted MLP on blobs, its samples and its logits for the evaluation samples."""
    draw = _blobs(16, separation, seed)
    samples = split_samples(lambda labels: {"features": draw(labels)}, 800, n)
    backbone = _mlp(16, 64, seed + 1)
    weight, bias = fit_head(reference(backbone, samples.train), samples.train_labels)
    graph = with_head(backbone, weight, bias)
    return graph, samples, reference(graph, samples.test)


def linear_classifier(
    directory: Path,
    *,
    name: str = "linear",
    n: int = 600,
    separation: float = 6.0,
    batch: Batch = "batch",
    seed: int = 0,
) -> Project:
    """Small MLP on Gaussian blobs; a smaller ``separation`` lowers the accuracy (2 gives .75)."""
    graph, samples, logits = _tabular(n, separation, seed)
    return write_files(
        directory, name, "tabular-classification", graph, samples, logits, batch=batch
    )


def dynamic_batch(directory: Path, *, n: int = 600) -> Project:
    """:func:`linear_classifier` whose batch axis is free (named ``batch``)."""
    return linear_classifier(directory, name="dynamic", n=n)


def fixed_batch(directory: Path, *, batch: int = 4, n: int = 602) -> Project:
    """:func:`linear_classifier` for exactly ``batch`` samples a call; 602 leaves a rest of 2."""
    return linear_classifier(directory, name=f"fixed{batch}", n=n, batch=batch)


def float16_classifier(directory: Path, *, n: int = 600) -> Project:
    """:func:`linear_classifier` with input, weights and output in float16."""
    graph, samples, _ = _tabular(n, 6.0, 0)
    half = TensorProto.FLOAT16
    graph = Graph(
        graph.nodes,
        {key: array.astype(np.float16) for key, array in graph.weights.items()},
        {key: (half, shape) for key, (_, shape) in graph.inputs.items()},
        {key: (half, shape) for key, (_, shape) in graph.outputs.items()},
    )
    samples = dataclasses.replace(
        samples,
        train={key: array.astype(np.float16) for key, array in samples.train.items()},
        test={key: array.astype(np.float16) for key, array in samples.test.items()},
    )
    logits = reference(graph, samples.test)
    return write_files(directory, "float16", "tabular-classification", graph, samples, logits)


def int64_classifier(directory: Path, *, n: int = 600) -> Project:
    """MLP on int64 features (blobs in hundredths), cast to float32 inside the graph."""
    draw = _blobs(16, 6.0, 3)
    samples = split_samples(
        lambda labels: {"counts": np.rint(draw(labels) * 100).astype(np.int64)}, 800, n
    )
    mlp = _mlp(16, 64, 4)
    cast = (
        helper.make_node("Cast", ["counts"], ["counts_f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["counts_f", "hundredth"], ["features"]),
    )
    backbone = Graph(
        (*cast, *mlp.nodes),
        {**mlp.weights, "hundredth": np.array([0.01], np.float32)},
        {"counts": (TensorProto.INT64, (16,))},
        mlp.outputs,
    )
    head = fit_head(reference(backbone, samples.train), samples.train_labels)
    graph = with_head(backbone, *head)
    logits = reference(graph, samples.test)
    return write_files(directory, "int64", "tabular-classification", graph, samples, logits)


def several_inputs(directory: Path, *, n: int = 600) -> Project:
    """Two inputs, ``features`` float32 ``(N, 16)`` and ``category`` int64 ``(N,)``; both needed.

    ``features`` tells only class pairs apart (label // 2), ``category`` the class within the pair.
    """
    draw = _blobs(16, 6.0, 5)
    rng = np.random.default_rng(6)
    samples = split_samples(
        lambda labels: {
            "features": draw(labels // 2),
            "category": rng.integers(0, 8, len(labels)) * 2 + labels % 2,
        },
        800,
        n,
    )
    mlp = _mlp(16, 64, 7)
    # The parity of a category is an interaction with the pair, which a linear head on a sum lacks:
    # the embedding therefore gates the hidden units instead of being added to them.
    embedding = np.tile(np.repeat(np.eye(2, dtype=np.float32), 64, axis=1), (8, 1))
    backbone = Graph(
        (
            *mlp.nodes,
            helper.make_node("Gather", ["embedding", "category"], ["gate"]),
            helper.make_node("Concat", ["hidden", "hidden"], ["twice"], axis=1),
            helper.make_node("Mul", ["twice", "gate"], ["gated"]),
        ),
        {**mlp.weights, "embedding": embedding},
        {**mlp.inputs, "category": (TensorProto.INT64, ())},
        {"gated": (TensorProto.FLOAT, (128,))},
    )
    head = fit_head(reference(backbone, samples.train), samples.train_labels)
    graph = with_head(backbone, *head)
    logits = reference(graph, samples.test)
    return write_files(directory, "several", "tabular-classification", graph, samples, logits)


def multi_output(directory: Path, *, n: int = 600) -> Project:
    """:func:`linear_classifier` with a second output, ``hidden`` float32 ``(N, 64)``."""
    graph, samples, logits = _tabular(n, 6.0, 0)
    outputs = {**graph.outputs, "hidden": (TensorProto.FLOAT, (64,))}
    graph = dataclasses.replace(graph, outputs=outputs)
    return write_files(directory, "multi", "tabular-classification", graph, samples, logits)


def string_labels(directory: Path, *, n: int = 600) -> Project:
    """:func:`linear_classifier` whose labels are ``<U`` strings while the model returns logits.

    Class i is the i-th name in sorted order; the model's metadata say so too (``class_names``).
    """
    graph, samples, logits = _tabular(n, 6.0, 0)
    return write_files(
        directory,
        "strings",
        "tabular-classification",
        graph,
        samples,
        logits,
        class_names=CLASS_NAMES,
    )


def string_output(directory: Path, *, n: int = 600) -> Project:
    """Classifier that returns the class name itself, ``label`` string ``(N,)``.

    Uses ``LabelEncoder`` of ``ai.onnx.ml``, which ONNX Runtime executes and OpenVINO does not.
    """
    graph, samples, logits = _tabular(n, 6.0, 0)
    graph = dataclasses.replace(
        graph,
        nodes=(
            *graph.nodes,
            helper.make_node("ArgMax", ["logits"], ["index"], axis=1, keepdims=0),
            helper.make_node(
                "LabelEncoder",
                ["index"],
                ["label"],
                domain="ai.onnx.ml",
                keys_int64s=list(range(CLASSES)),
                values_strings=list(CLASS_NAMES),
            ),
        ),
        outputs={"label": (TensorProto.STRING, ())},
    )
    return write_files(
        directory,
        "named",
        "tabular-classification",
        graph,
        samples,
        logits,
        domains={"ai.onnx.ml": 2},
        class_names=CLASS_NAMES,
    )


def external_data(directory: Path, *, n: int = 600) -> Project:
    """:func:`linear_classifier` whose weights lie beside it in ``external.onnx.data``."""
    graph, samples, logits = _tabular(n, 6.0, 0)
    return write_files(
        directory, "external", "tabular-classification", graph, samples, logits, external=True
    )


def write_project(directory: Path, models: Iterable[Project], extra: str = "") -> Path:
    """Write ``edgeai.toml`` for ``models`` into ``directory`` and return its path.

    Args:
        directory: the project; data below it are named relatively, others absolutely.
        models: what the manifest lists.
        extra: TOML text that is put behind the models' tables.
    """

    def quoted(path: Path) -> str:
        inside = path.is_relative_to(directory)
        return json.dumps((path.relative_to(directory) if inside else path).as_posix())

    tables = [
        f"[models.{json.dumps(project.name)}]\n"
        f"path = {quoted(project.model)}\n"
        f"task = {json.dumps(project.task)}\n"
        f"data = {quoted(project.data)}\n"
        f"calibration = {quoted(project.calibration)}\n"
        for project in models
    ]
    directory.mkdir(parents=True, exist_ok=True)
    manifest = directory / "edgeai.toml"
    manifest.write_text("\n".join([*tables, extra]), encoding="utf-8")
    return manifest
