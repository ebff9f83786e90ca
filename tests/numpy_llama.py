"""A plain Llama forward pass in NumPy: what every framework's logits are compared with.

Source: ``modeling_llama.py`` of Hugging Face transformers (RMS norm, grouped-query attention with
rotary embeddings that pair element i of a head with element i + half, SwiGLU); one sequence, no
cache, no padding. Everything is computed in float64, so that a framework's rounding is its own.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.assess.safetensors_file import read_safetensors

Array: TypeAlias = NDArray[np.float64]

_LENGTH_BYTES = 8
_STORED = {"float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}
_DEFAULT_ROPE_THETA = 10_000.0


@dataclass(frozen=True, eq=False)
class Llama:
    """A ``LlamaForCausalLM`` in memory.

    Attributes:
        weights: tensor name to float64 array; linear layers are ``(outputs, inputs)``.
        layers: number of blocks.
        heads: attention heads.
        kv_heads: heads of keys and values; divides ``heads``.
        head_size: width of a head.
        epsilon: added to the mean square in RMS norms.
        rope_theta: base of the rotary frequencies.
    """

    weights: Mapping[str, Array]
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    epsilon: float
    rope_theta: float


def read_weights(path: Path) -> dict[str, Array]:
    """Return the tensors of one safetensors file as float64.

    Raises:
        ModelError: the file is damaged.
        KeyError: a tensor is of another dtype than a float of 16, 32 or 64 bits.
    """
    content = path.read_bytes()
    position = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    found: dict[str, Array] = {}
    for tensor in read_safetensors(path):
        stored = np.frombuffer(content, _STORED[tensor.dtype], tensor.elements, position)
        if tensor.dtype == "bfloat16":
            # bfloat16 is the upper half of a float32.
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        found[tensor.name] = stored.astype(np.float64).reshape(tensor.shape)
        position += tensor.stored_bytes
    return found


@functools.lru_cache(maxsize=2)
def read_llama(directory: Path) -> Llama:
    """Read ``config.json`` and every ``*.safetensors`` of a Hugging Face directory.

    Raises:
        ValueError: the model is no Llama, or one with biases or scaled rotary embeddings.
    """
    config: dict[str, Any] = json.loads((directory / "config.json").read_text("utf-8"))
    if config["model_type"] != "llama":
        raise ValueError(f"{directory}: model_type is {config['model_type']}, not llama")
    rope = {"rope_theta": config.get("rope_theta", _DEFAULT_ROPE_THETA)}
    for key in ("rope_scaling", "rope_parameters"):
        rope |= config.get(key) or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise ValueError(f"{directory}: scaled rotary embeddings: {rope}")
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise ValueError(f"{directory}: linear layers with biases")
    weights: dict[str, Array] = {}
    for path in sorted(directory.glob("*.safetensors")):
        weights |= read_weights(path)
    heads = config["num_attention_heads"]
    return Llama(
        weights,
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or config["hidden_size"] // heads,
        epsilon=config["rms_norm_eps"],
        rope_theta=float(rope["rope_theta"]),
    )


def logits(directory: Path, tokens: NDArray[Any]) -> NDArray[np.float32]:
    """Return the logits after every token of one sequence.

    Args:
        directory: a Hugging Face directory of a ``LlamaForCausalLM``.
        tokens: token ids, any integer dtype, shape ``(n,)``; nothing is put in front of them.

    Returns:
        float32 of shape ``(n, vocabulary)``.
    """
    model = read_llama(directory)
    weights = model.weights
    hidden = weights["model.embed_tokens.weight"][np.asarray(tokens)]
    for index in range(model.layers):
        layer = f"model.layers.{index}"
        normed = _rms_norm(hidden, weights[f"{layer}.input_layernorm.weight"], model.epsilon)
        hidden = hidden + _attention(model, f"{layer}.self_attn", normed)
        weight = weights[f"{layer}.post_attention_layernorm.weight"]
        normed = _rms_norm(hidden, weight, model.epsilon)
        gate = normed @ weights[f"{layer}.mlp.gate_proj.weight"].T
        up = normed @ weights[f"{layer}.mlp.up_proj.weight"].T
        hidden = hidden + _silu(gate) * up @ weights[f"{layer}.mlp.down_proj.weight"].T
    hidden = _rms_norm(hidden, weights["model.norm.weight"], model.epsilon)
    head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    return (hidden @ head.T).astype(np.float32)


def token_losses(logits: NDArray[Any], tokens: NDArray[Any]) -> Array:
    """Return the negative log-likelihood, in nats, of every token but the first.

    Args:
        logits: shape ``(n, vocabulary)``.
        tokens: the ids that they were computed for, shape ``(n,)``.

    Returns:
        float64 of shape ``(n - 1,)``; ``exp`` of their mean is the perplexity.
    """
    before = np.asarray(logits[:-1], dtype=np.float64)
    top = before.max(axis=1, keepdims=True)
    normalizer = np.log(np.exp(before - top).sum(axis=1)) + top[:, 0]
    chosen = before[np.arange(len(before)), np.asarray(tokens)[1:]]
    return np.asarray(normalizer - chosen, dtype=np.float64)


def _attention(model: Llama, name: str, hidden: Array) -> Array:
    """Return causal grouped-query attention, ``(n, width)`` to ``(n, width)``."""
    count = len(hidden)

    def project(which: str, heads: int) -> Array:
        values = hidden @ model.weights[f"{name}.{which}_proj.weight"].T
        return values.reshape(count, heads, model.head_size).transpose(1, 0, 2)

    shared = model.heads // model.kv_heads
    queries = _rotate(project("q", model.heads), model.rope_theta)
    keys = np.repeat(_rotate(project("k", model.kv_heads), model.rope_theta), shared, axis=0)
    values = np.repeat(project("v", model.kv_heads), shared, axis=0)
    scores = queries @ keys.transpose(0, 2, 1) / model.head_size**0.5
    scores = np.where(np.tri(count, dtype=np.bool_), scores, -np.inf)
    scores = np.exp(scores - scores.max(axis=2, keepdims=True))
    scores /= scores.sum(axis=2, keepdims=True)
    mixed = (scores @ values).transpose(1, 0, 2).reshape(count, -1)
    return np.asarray(mixed @ model.weights[f"{name}.o_proj.weight"].T)


def _rotate(heads: Array, theta: float) -> Array:
    """Apply rotary embeddings (https://arxiv.org/abs/2104.09864) to ``(heads, n, head_size)``."""
    half = heads.shape[2] // 2
    frequencies = theta ** (-np.arange(half) / half)
    angles = np.arange(heads.shape[1])[:, None] * frequencies
    first, second = heads[..., :half], heads[..., half:]
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=2)


def _rms_norm(hidden: Array, weight: Array, epsilon: float) -> Array:
    mean_square = np.square(hidden).mean(axis=1, keepdims=True)
    return np.asarray(hidden / np.sqrt(mean_square + epsilon) * weight)


def _silu(values: Array) -> Array:
    return np.asarray(values / (1 + np.exp(-values)))
