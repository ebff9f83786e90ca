"""What every builder of test models needs: records, the fitted head, files on disk."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

INSTALL = "{module} is not installed; run: pip install 'pytest-edgeai[{extra}]'"

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator
except ModuleNotFoundError as missing:
    pytest.skip(INSTALL.format(module=missing.name, extra="intel"), allow_module_level=True)

Array: TypeAlias = NDArray[Any]
Feed: TypeAlias = dict[str, Array]
Batch: TypeAlias = int | str

CLASSES = 4
CALIBRATION_SAMPLES = 100
OPSET = 17
IR_VERSION = 8
_RIDGE = 1e-4


def require(module: str, extra: str) -> ModuleType:
    """Import ``module``, or skip the test with the command that installs it.

    A module that is there but fails to import raises: that is a fault, not an absence.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name != module.partition(".")[0]:
            raise
        reason = INSTALL.format(module=module, extra=extra)
    pytest.skip(reason, allow_module_level=True)


@dataclass(frozen=True)
class Project:
    """One model with its data on disk.

    Attributes:
        name: key of the model in the manifest.
        model: the model file.
        data: evaluation data, ``.npz`` with one array per input and ``labels``.
        calibration: calibration data, ``.npz`` with one array per input; disjoint from ``data``.
        task: Hugging Face task name.
        samples: number of evaluation samples.
        accuracy: share of the evaluation samples that the model gets right.
        inputs: input name to NumPy dtype name, in the model's order.
        outputs: output names in the model's order; the first one decides the class.
        batch: the fixed batch size, or ``None`` where the batch axis is free.
        class_names: names of the classes by index; empty where labels are integers.
    """

    name: str
    model: Path
    data: Path
    calibration: Path
    task: str
    samples: int
    accuracy: float
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    batch: int | None = None
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Graph:
    """The parts of a model, before they become one.

    Attributes:
        nodes: in topological order.
        weights: initializer name to array.
        inputs: input name to (ONNX element type, shape without the batch axis).
        outputs: output name to (ONNX element type, shape without the batch axis).
    """

    nodes: tuple[Any, ...]
    weights: Mapping[str, Array]
    inputs: Mapping[str, tuple[int, tuple[int, ...]]]
    outputs: Mapping[str, tuple[int, tuple[int, ...]]]

    def to_model(self, batch: Batch = "batch", domains: Mapping[str, int] | None = None) -> Any:
        """Return the ``ModelProto``; ``domains`` adds operator sets (domain to version)."""

        def infos(tensors: Mapping[str, tuple[int, tuple[int, ...]]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(name, kind, [batch, *shape])
                for name, (kind, shape) in tensors.items()
            ]

        initializers = [
            numpy_helper.from_array(array, name) for name, array in self.weights.items()
        ]
        graph = helper.make_graph(
            list(self.nodes), "zoo", infos(self.inputs), infos(self.outputs), initializers
        )
        opsets = {"": OPSET, **(domains or {})}
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(name, version) for name, version in opsets.items()],
            producer_name="pytest-edgeai-tests",
        )
        model.ir_version = IR_VERSION
        return model


def reference(graph: Graph, feed: Feed) -> Array:
    """Return the first output of ``graph`` for ``feed``, by ONNX's own reference evaluator."""
    output: Array = ReferenceEvaluator(graph.to_model()).run(None, feed)[0]
    return output


def fit_head(features: Array, labels: Array) -> tuple[Array, Array]:
    """Return weight ``(F, CLASSES)`` and bias of the ridge regression onto one-hot targets."""
    center = features.mean(axis=0, dtype=np.float64)
    centered = features - center
    targets = np.eye(CLASSES)[labels] * 10.0
    gram = centered.T @ centered
    penalty = _RIDGE * np.trace(gram) * np.eye(len(gram))
    weight = np.linalg.solve(gram + penalty, centered.T @ (targets - targets.mean(axis=0)))
    bias = targets.mean(axis=0) - center @ weight
    return weight.astype(np.float32), bias.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Samples:
    """Training and evaluation samples of one builder; labels are int64 ``(N,)``."""

    train: Feed
    train_labels: Array
    test: Feed
    test_labels: Array


def split_samples(draw: Callable[[NDArray[np.int64]], Feed], train: int, test: int) -> Samples:
    """Draw balanced samples; ``draw`` maps labels to the arrays of all inputs."""
    labels = np.arange(train + test, dtype=np.int64) % CLASSES
    feed = draw(labels)
    return Samples(
        {name: array[:train] for name, array in feed.items()},
        labels[:train],
        {name: array[train:] for name, array in feed.items()},
        labels[train:],
    )


def with_head(backbone: Graph, weight: Array, bias: Array) -> Graph:
    """Append the fitted head to the backbone's first output; the result's output is ``logits``."""
    feature = next(iter(backbone.outputs))
    return Graph(
        (*backbone.nodes, helper.make_node("Gemm", [feature, "head_w", "head_b"], ["logits"])),
        {**backbone.weights, "head_w": weight, "head_b": bias},
        backbone.inputs,
        {"logits": (TensorProto.FLOAT, (CLASSES,))},
    )


def write_files(
    directory: Path,
    name: str,
    task: str,
    graph: Graph,
    samples: Samples,
    logits: Array,
    *,
    batch: Batch = "batch",
    domains: Mapping[str, int] | None = None,
    class_names: Sequence[str] = (),
    external: bool = False,
) -> Project:
    """Write model and data; ``logits`` are the graph's for the evaluation samples."""
    directory.mkdir(parents=True, exist_ok=True)
    path, data, calibration = (
        directory / f"{name}.onnx",
        directory / f"{name}-test.npz",
        directory / f"{name}-calibration.npz",
    )
    model = graph.to_model(batch, domains)
    if class_names:
        helper.set_model_props(model, {"class_names": json.dumps(list(class_names))})
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=external,
        location=f"{path.name}.data" if external else None,
        size_threshold=0,
    )
    labels = np.array(class_names)[samples.test_labels] if class_names else samples.test_labels
    np.savez(data, allow_pickle=False, labels=labels, **samples.test)
    head = {key: array[:CALIBRATION_SAMPLES] for key, array in samples.train.items()}
    np.savez(calibration, allow_pickle=False, **head)
    return Project(
        name=name,
        model=path,
        data=data,
        calibration=calibration,
        task=task,
        samples=len(samples.test_labels),
        accuracy=float((logits.argmax(axis=1) == samples.test_labels).mean()),
        inputs={key: array.dtype.name for key, array in samples.test.items()},
        outputs=tuple(graph.outputs),
        batch=batch if isinstance(batch, int) else None,
        class_names=tuple(class_names),
    )
