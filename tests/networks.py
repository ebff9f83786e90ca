"""Test models of the two classes that recipes tell apart: convolutional and transformer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from model_parts import (
    CLASSES,
    Array,
    Batch,
    Feed,
    Graph,
    Project,
    fit_head,
    reference,
    split_samples,
    with_head,
    write_files,
)
from onnx import TensorProto, helper


def _bars(labels: Array, size: int, noise: float, seed: int) -> Array:
    """Return images ``(N, 1, size, size)`` of bars at 0, 45, 90 or 135 degrees, shifted, noisy."""
    rng = np.random.default_rng(seed)
    angle = labels * np.pi / CLASSES
    offset = rng.uniform(-size / 5, size / 5, len(labels))
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    across = (
        rows * np.cos(angle)[:, None, None]
        - columns * np.sin(angle)[:, None, None]
        - offset[:, None, None]
    )
    bars = (np.abs(across) < 2.0).astype(np.float64)
    images = bars + rng.normal(scale=noise, size=bars.shape)
    return np.asarray(images[:, None], dtype=np.float32)


def _convolve(images: Array, kernels: Array) -> Array:
    """Return the 3x3 convolution with zero padding 1; ``(N, C, H, W)`` and ``(F, C, 3, 3)``."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.moveaxis(np.tensordot(windows, kernels, axes=((1, 4, 5), (1, 2, 3))), 3, 1)


def small_cnn(
    directory: Path,
    *,
    name: str = "cnn",
    width: int = 32,
    n: int = 300,
    size: int = 32,
    noise: float = 0.15,
    batch: Batch = "batch",
    seed: int = 0,
) -> Project:
    """Two random 3x3 convolutions (``width``, then twice that) and a fitted head, on oriented bars.

    Cost of a call in ONNX Runtime, one thread of a CPU with AVX-512, at ``size`` 32: 0.1 ms at
    width 32, 0.3 at 64, 1.3 at 128, 3 at 192, 8 at 320. Building takes about a thousand times that.
    """
    rng = np.random.default_rng(seed)
    first = (rng.normal(size=(width, 1, 3, 3)) / 3).astype(np.float32)
    second = (rng.normal(size=(2 * width, width, 3, 3)) * (2 / (9 * width)) ** 0.5).astype(
        np.float32
    )
    nodes = (
        helper.make_node("Conv", ["image", "conv1_w"], ["conv1"], pads=[1] * 4),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("MaxPool", ["relu1"], ["pool1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["pool1", "conv2_w"], ["conv2"], pads=[1] * 4),
        helper.make_node("Relu", ["conv2"], ["relu2"]),
        helper.make_node("GlobalAveragePool", ["relu2"], ["pool2"]),
        helper.make_node("Flatten", ["pool2"], ["embedding"]),
    )
    backbone = Graph(
        nodes,
        {"conv1_w": first, "conv2_w": second},
        {"image": (TensorProto.FLOAT, (1, size, size))},
        {"embedding": (TensorProto.FLOAT, (2 * width,))},
    )

    def embed(images: Array) -> Array:
        # The reference evaluator is fifty times slower than this on convolutions and pooling.
        rows: list[Array] = []
        for chunk in np.array_split(images, -(-len(images) // 25)):
            hidden = np.maximum(_convolve(chunk, first), 0)
            pooled = hidden.reshape(*hidden.shape[:2], size // 2, 2, size // 2, 2).max((3, 5))
            rows.append(np.maximum(_convolve(pooled, second), 0).mean(axis=(2, 3)))
        return np.concatenate(rows)

    samples = split_samples(
        lambda labels: {"image": _bars(labels, size, noise, seed + 1)}, max(200, 2 * width), n
    )
    weight, bias = fit_head(embed(samples.train["image"]), samples.train_labels)
    logits = embed(samples.test["image"]) @ weight + bias
    graph = with_head(backbone, weight, bias)
    return write_files(directory, name, "image-classification", graph, samples, logits, batch=batch)


def _tokens(labels: Array, length: int, vocabulary: int, seed: int) -> Feed:
    """Return ids and mask ``(N, length)``: four in five tokens from the label's vocabulary part."""
    rng = np.random.default_rng(seed)
    part = vocabulary // CLASSES
    shape = (len(labels), length)
    own = labels[:, None] * part + rng.integers(0, part, shape)
    ids = np.where(rng.random(shape) < 0.8, own, rng.integers(0, vocabulary, shape))
    mask = np.arange(length) < rng.integers(length // 2, length + 1, len(labels))[:, None]
    return {
        "input_ids": np.where(mask, ids, 0).astype(np.int64),
        "attention_mask": mask.astype(np.int64),
    }


def tiny_transformer(
    directory: Path,
    *,
    name: str = "transformer",
    n: int = 400,
    hidden: int = 64,
    length: int = 16,
    vocabulary: int = 64,
    layers: int = 1,
    batch: Batch = "batch",
) -> Project:
    """Encoder with masked attention, LayerNormalization and a fitted head; two int64 inputs."""
    rng = np.random.default_rng(11)
    scale = hidden**-0.5

    def matrix(*shape: int) -> Array:
        return np.asarray(rng.normal(size=shape) * scale, dtype=np.float32)

    weights: dict[str, Array] = {
        "embedding": matrix(vocabulary, hidden) / np.float32(scale),
        "position": matrix(length, hidden),
        "one": np.array([1.0], np.float32),
        "masked_out": np.array([-1e4], np.float32),
        "scale": np.array([scale], np.float32),
        "axis_1": np.array([1]),
        "axis_2": np.array([2]),
    }
    nodes: list[Any] = []

    def op(kind: str, inputs: Iterable[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def norm(tensor: str, output: str) -> str:
        # Not "_scale": ONNX Runtime's quantizer gives that name to a tensor of its own.
        weights[f"{output}_gamma"] = np.ones(hidden, np.float32)
        weights[f"{output}_beta"] = np.zeros(hidden, np.float32)
        return op("LayerNormalization", (tensor, f"{output}_gamma", f"{output}_beta"), output)

    mask = op("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    op("Sub", ["one", mask], "absent")
    op("Mul", ["absent", "masked_out"], "penalty_flat")
    op("Unsqueeze", ["penalty_flat", "axis_1"], "penalty")
    op("Gather", ["embedding", "input_ids"], "token")
    state = norm(op("Add", ["token", "position"], "embedded"), "norm0")
    for layer in range(layers):
        p = f"l{layer}_"
        for role in "qkvo":
            weights[p + role + "_w"] = matrix(hidden, hidden)
        for role in "qkv":
            op("MatMul", [state, f"{p}{role}_w"], p + role)
        op("Transpose", [p + "k"], p + "k_t", perm=[0, 2, 1])
        op("MatMul", [p + "q", p + "k_t"], p + "dot")
        op("Mul", [p + "dot", "scale"], p + "scaled")
        op("Add", [p + "scaled", "penalty"], p + "scores")
        op("Softmax", [p + "scores"], p + "attention", axis=-1)
        op("MatMul", [p + "attention", p + "v"], p + "mixed")
        op("MatMul", [p + "mixed", p + "o_w"], p + "projected")
        state = norm(op("Add", [state, p + "projected"], p + "sum1"), p + "norm1")
        weights[p + "up_w"], weights[p + "down_w"] = (
            matrix(hidden, 4 * hidden),
            matrix(4 * hidden, hidden),
        )
        op("MatMul", [state, p + "up_w"], p + "up")
        op("Relu", [p + "up"], p + "act")
        op("MatMul", [p + "act", p + "down_w"], p + "down")
        state = norm(op("Add", [state, p + "down"], p + "sum2"), p + "norm2")
    op("Unsqueeze", [mask, "axis_2"], "mask_3d")
    op("Mul", [state, "mask_3d"], "present")
    op("ReduceSum", ["present", "axis_1"], "total", keepdims=0)
    op("ReduceSum", [mask, "axis_1"], "tokens", keepdims=1)
    op("Div", ["total", "tokens"], "pooled")

    ids = (TensorProto.INT64, (length,))
    backbone = Graph(
        tuple(nodes),
        weights,
        {"input_ids": ids, "attention_mask": ids},
        {"pooled": (TensorProto.FLOAT, (hidden,))},
    )
    samples = split_samples(lambda labels: _tokens(labels, length, vocabulary, 12), 800, n)
    head = fit_head(reference(backbone, samples.train), samples.train_labels)
    graph = with_head(backbone, *head)
    logits = reference(graph, samples.test)
    return write_files(directory, name, "text-classification", graph, samples, logits, batch=batch)
