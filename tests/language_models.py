"""Small language models with random weights, and what NumPy says that they compute.

Hugging Face directories (config.json, safetensors, tokenizer.json) and GGUF files. The same
arguments give the same bytes. ``plain_logits`` is a Llama in float64, written from the paper and
transformers' modeling files, that shares nothing with the package.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Weights: TypeAlias = dict[str, NDArray[np.float32]]

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "dtype": "float32",
}
"""A Llama of 103,000 parameters; rows of 64 and 96 elements are no multiple of 256."""

_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_TEXT = (
    "the model is measured against the model that it replaces, and tests decide with statistics "
    "rather than luck whether it may be promoted. the quantized weights take less memory, the "
    "tokens come faster, and the perplexity stays where it was. "
)


def llama_config(**changes: Any) -> dict[str, Any]:
    """Return :data:`CONFIG` with some keys changed; ``None`` leaves a key out."""
    merged = {**CONFIG, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def llama_weights(config: Mapping[str, Any], seed: int = 0) -> Weights:
    """Return random weights under transformers' names, for any of the Llama-like families."""
    rng = np.random.default_rng(seed)
    hidden, feed = config["hidden_size"], config["intermediate_size"]
    size = _head_size(config)
    queries = config["num_attention_heads"] * size
    keys = config["num_key_value_heads"] * size
    qwen2, qwen3 = (config["model_type"] == name for name in ("qwen2", "qwen3"))

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return rng.normal(size=(rows, columns), scale=columns**-0.5).astype(np.float32)

    def vector(width: int, mean: float = 1.0) -> NDArray[np.float32]:
        return rng.normal(size=width, loc=mean, scale=0.2).astype(np.float32)

    table = (config["vocab_size"], hidden)
    # The rows of a tied table are those of an output layer, too.
    scale = hidden**-0.5 if config.get("tie_word_embeddings") else 0.5
    embedding = rng.normal(size=table, scale=scale).astype(np.float32)
    weights = {"model.embed_tokens.weight": embedding}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        for name, rows, columns in (
            ("self_attn.q_proj", queries, hidden),
            ("self_attn.k_proj", keys, hidden),
            ("self_attn.v_proj", keys, hidden),
            ("self_attn.o_proj", hidden, queries),
            ("mlp.gate_proj", feed, hidden),
            ("mlp.up_proj", feed, hidden),
            ("mlp.down_proj", hidden, feed),
        ):
            weights[f"{prefix}.{name}.weight"] = matrix(rows, columns)
            attends = name.startswith("self_attn")
            if (
                (qwen2 and attends and "o_proj" not in name)
                or (attends and config.get("attention_bias"))
                or (not attends and config.get("mlp_bias"))
            ):
                weights[f"{prefix}.{name}.bias"] = vector(rows, 0.1)
        weights[f"{prefix}.input_layernorm.weight"] = vector(hidden)
        weights[f"{prefix}.post_attention_layernorm.weight"] = vector(hidden)
        if qwen3:
            weights[f"{prefix}.self_attn.q_norm.weight"] = vector(size)
            weights[f"{prefix}.self_attn.k_norm.weight"] = vector(size)
    weights["model.norm.weight"] = vector(hidden)
    if not config.get("tie_word_embeddings"):
        weights["lm_head.weight"] = matrix(*table)
    return weights


def write_huggingface(
    folder: Path,
    config: Mapping[str, Any] | None = None,
    *,
    weights: Weights | None = None,
    dtype: str = "float32",
    shards: int = 1,
    tokenizer: bool = True,
    seed: int = 0,
) -> Path:
    """Write a Hugging Face directory with random weights.

    Args:
        folder: the directory, which is created.
        config: content of ``config.json``; :data:`CONFIG` by default.
        weights: the weights; random by default.
        dtype: ``float32``, ``float16`` or ``bfloat16``.
        shards: number of safetensors files.
        tokenizer: whether ``tokenizer.json`` is written, of 256 bytes, some merges and two special
            tokens.
        seed: of the random weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {**(CONFIG if config is None else config)}
    config["dtype"] = dtype
    weights = llama_weights(config, seed) if weights is None else weights
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    if shards == 1:
        write_safetensors(folder / "model.safetensors", weights, dtype)
    else:
        places: dict[str, str] = {}
        for number in range(shards):
            name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
            part = dict(list(weights.items())[number::shards])
            write_safetensors(folder / name, part, dtype)
            places |= dict.fromkeys(part, name)
        index = {"metadata": {}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    if tokenizer:
        write_tokenizer(folder, config["vocab_size"])
    return folder


def write_safetensors(path: Path, weights: Weights, dtype: str = "float32") -> None:
    """Write tensors as a safetensors file, rounded to ``dtype``."""
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    offset = 0
    for name, array in weights.items():
        raw = _bits(array, dtype).tobytes()
        span = [offset, offset + len(raw)]
        header[name] = {"dtype": _DTYPES[dtype], "shape": list(array.shape), "data_offsets": span}
        parts.append(raw)
        offset += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def rounded(weights: Weights, dtype: str) -> Weights:
    """Return the weights as they are after storing them in ``dtype``."""
    if dtype == "bfloat16":
        return {
            name: (_bits(array, dtype).astype(np.uint32) << 16).view(np.float32)
            for name, array in weights.items()
        }
    return {name: array.astype(dtype).astype(np.float32) for name, array in weights.items()}


def write_tokenizer(
    folder: Path, vocabulary: int, *, pre_tokenizer: Mapping[str, Any] | None = None
) -> None:
    """Write a byte-level BPE ``tokenizer.json``, GPT-2's pre-tokenizer by default.

    Ids: ``<s>``, ``</s>``, the 256 bytes, then merges learned from a sentence, up to
    ``vocabulary``.
    """
    letters = list(_byte_letters().values())
    merges = _learn_merges(vocabulary - len(letters) - 2)
    tokens = ["<s>", "</s>", *sorted(letters), *("".join(pair) for pair in merges)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": tokens[index],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index in range(2)
        ],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer or {**byte_level, "use_regex": True},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [list(pair) for pair in merges],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    settings = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_gguf(
    path: Path,
    *,
    parameters: int = 27_000_000,
    hidden: int = 512,
    vocabulary: int = 5000,
    context: int = 512,
    dtype: str = "float32",
    seed: int = 0,
    most_tensors: int = 0,
) -> Path:
    """Write a Llama with random weights and no tokenizer as a GGUF file, for tests of speed.

    Args:
        path: the file.
        parameters: approximate number of parameters, which decides the number of layers.
        hidden: width of the residual stream, a multiple of 64.
        vocabulary: number of tokens.
        context: context length.
        dtype: ``float32`` or ``float16``.
        seed: of the random weights.
        most_tensors: tensors of one file, for a model split over several; 0: one file.

    Returns:
        The file, or the first of several.
    """
    import gguf

    feed = 3 * hidden
    keys = hidden // 2
    shapes = {
        "attn_q": (hidden, hidden),
        "attn_k": (keys, hidden),
        "attn_v": (keys, hidden),
        "attn_output": (hidden, hidden),
        "ffn_gate": (feed, hidden),
        "ffn_up": (feed, hidden),
        "ffn_down": (hidden, feed),
    }
    block = sum(rows * columns for rows, columns in shapes.values())
    layers = max(1, round((parameters - 2 * vocabulary * hidden) / block))
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=most_tensors)
    writer.add_block_count(layers)
    writer.add_context_length(context)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(feed)
    writer.add_head_count(hidden // 32)
    writer.add_head_count_kv(hidden // 64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(32)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("no_vocab")
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> NDArray[Any]:
        array = rng.standard_normal((rows, columns), np.float32) / np.float32(columns**0.5)
        return array.astype(dtype)

    ones = np.ones(hidden, np.float32)
    writer.add_tensor("token_embd.weight", matrix(vocabulary, hidden))
    writer.add_tensor("output.weight", matrix(vocabulary, hidden))
    writer.add_tensor("output_norm.weight", ones)
    for layer in range(layers):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
        for name, shape in shapes.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", matrix(*shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return min(path.parent.glob(f"{path.stem}-00001-of-*.gguf")) if most_tensors else path


def plain_logits(
    config: Mapping[str, Any], weights: Weights, tokens: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Return the logits after every token, shape ``(tokens, vocabulary)``, computed in float64."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    size, count = _head_size(config), len(tokens)
    groups = config["num_attention_heads"] // config["num_key_value_heads"]
    cos, sin = _rotations(config, size, count)

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        scale = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + config["rms_norm_eps"])
        return np.asarray(x / scale * w[f"{name}.weight"])

    def linear(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", np.zeros(1))

    def rotate(x: NDArray[np.float64]) -> NDArray[np.float64]:
        first, second = np.split(x, 2, axis=-1)
        turned = np.concatenate([-second, first], axis=-1)
        return x * cos[:, None] + turned * sin[:, None]

    x = w["model.embed_tokens.weight"][tokens]
    future = np.triu(np.full((count, count), -np.inf), 1)
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        attention = f"{block}.self_attn"
        y = norm(x, f"{block}.input_layernorm")
        q, k, v = (linear(y, f"{attention}.{name}_proj").reshape(count, -1, size) for name in "qkv")
        if f"{attention}.q_norm.weight" in w:
            q, k = norm(q, f"{attention}.q_norm"), norm(k, f"{attention}.k_norm")
        q, k = rotate(q), np.repeat(rotate(k), groups, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / size**0.5 + future
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", scores, np.repeat(v, groups, axis=1))
        x = x + linear(mixed.reshape(count, -1), f"{attention}.o_proj")
        y = norm(x, f"{block}.post_attention_layernorm")
        gate = linear(y, f"{block}.mlp.gate_proj")
        gate = gate / (1 + np.exp(-gate)) * linear(y, f"{block}.mlp.up_proj")
        x = x + linear(gate, f"{block}.mlp.down_proj")
    head = "model.embed_tokens" if config.get("tie_word_embeddings") else "lm_head"
    return linear(norm(x, "model.norm"), head)


def perplexity(logits: NDArray[Any], tokens: NDArray[np.int32]) -> float:
    """Return the perplexity of ``tokens[1:]`` under the logits after each token before."""
    wide = logits[:-1].astype(np.float64)
    top = wide.max(axis=-1, keepdims=True)
    normalizers = np.log(np.exp(wide - top).sum(axis=-1)) + top[:, 0]
    chosen = wide[np.arange(len(wide)), tokens[1:]]
    return float(np.exp(np.mean(normalizers - chosen)))


def random_tokens(config: Mapping[str, Any], count: int, seed: int = 7) -> NDArray[np.int32]:
    """Return random token ids of a model."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, config["vocab_size"], count, dtype=np.int32)


def _head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _rotations(
    config: Mapping[str, Any], size: int, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return cosines and sines, shape ``(count, size)``; modeling_rope_utils.py."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    base = scaling.get("rope_theta", config.get("rope_theta", 10000.0))
    frequencies = 1.0 / base ** (np.arange(0, size, 2) / size)
    kind = scaling.get("rope_type", "default")
    if kind == "linear":
        frequencies = frequencies / scaling["factor"]
    elif kind == "llama3":
        old = scaling["original_max_position_embeddings"]
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        for index, frequency in enumerate(frequencies):
            wavelength = 2 * np.pi / frequency
            if wavelength > old / low:
                frequencies[index] = frequency / scaling["factor"]
            elif wavelength >= old / high:
                smooth = (old / wavelength - low) / (high - low)
                frequencies[index] = (1 - smooth) * frequency / scaling["factor"]
                frequencies[index] += smooth * frequency
    angles = np.outer(np.arange(count), frequencies)
    angles = np.concatenate([angles, angles], axis=-1)
    return np.cos(angles), np.sin(angles)


def _bits(array: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    if dtype != "bfloat16":
        return array.astype(dtype)
    bits = np.ascontiguousarray(array).view(np.uint32)
    # To the nearest, ties to even.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _byte_letters() -> dict[int, str]:
    """Return GPT-2's printable letter for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in plain)
    letters = {byte: chr(byte) for byte in plain}
    return letters | {byte: chr(256 + index) for index, byte in enumerate(others)}


def _learn_merges(count: int) -> list[tuple[str, str]]:
    letters = _byte_letters()
    words = [[letters[byte] for byte in f" {word}".encode()] for word in _TEXT.split()]
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs = Counter(pair for word in words for pair in itertools.pairwise(word))
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = [_merged(word, best) for word in words]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    made: list[str] = []
    at = 0
    while at < len(word):
        if tuple(word[at : at + 2]) == pair:
            made.append("".join(pair))
            at += 2
        else:
            made.append(word[at])
            at += 1
    return made
