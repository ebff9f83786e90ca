"""Which Hugging Face networks become GGUF models, and where each of their tensors goes.

Sources: transformers' ``modeling_llama.py``, ``modeling_mistral.py``, ``modeling_qwen2.py`` and
``modeling_qwen3.py`` (names and shapes), "Standardized tensor names" and "Standardized key-value
pairs" of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and llama.cpp's own converter
(https://github.com/ggml-org/llama.cpp, conversion/llama.py) for the order of the rotated rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.assess.huggingface_config import (
    CONTEXT,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    VOCABULARY,
    Config,
)
from pytest_edgeai.errors import ModelError


@dataclass(frozen=True)
class Family:
    """One kind of network.

    Attributes:
        architecture: ``general.architecture`` of the GGUF file.
        rotates_neighbors: whether llama.cpp rotates neighboring rows of queries and keys instead of
            the two halves of a head, so that their rows change places.
        takes_frequencies: whether llama.cpp reads a factor for each rotation frequency.
        has_head_norms: whether queries and keys are normalized by head.
        query_bias: config key that switches the biases of queries, keys and values on; ``always``
            and ``never`` where no key does.
        output_bias: the same for the output projection of the attention.
        mlp_bias: the same for the feed-forward layers.
    """

    architecture: str
    rotates_neighbors: bool
    takes_frequencies: bool
    has_head_norms: bool = False
    query_bias: str = "never"
    output_bias: str = "never"
    mlp_bias: str = "never"


FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": Family(
        "llama",
        rotates_neighbors=True,
        takes_frequencies=True,
        query_bias="attention_bias",
        output_bias="attention_bias",
        mlp_bias="mlp_bias",
    ),
    "MistralForCausalLM": Family("llama", rotates_neighbors=True, takes_frequencies=True),
    "Qwen2ForCausalLM": Family(
        "qwen2", rotates_neighbors=False, takes_frequencies=False, query_bias="always"
    ),
    "Qwen3ForCausalLM": Family(
        "qwen3", rotates_neighbors=False, takes_frequencies=False, has_head_norms=True
    ),
}
"""``architectures`` of ``config.json`` to the family; what llama.cpp computes exactly like
transformers, as the tests show against NumPy."""

# Keys that change what a network computes, and the only value that GGUF has an equal of.
_FIXED = {
    "hidden_act": "silu",
    "partial_rotary_factor": 1.0,
    "attention_multiplier": None,
    "embedding_multiplier": None,
    "residual_multiplier": None,
    "logits_scaling": None,
    "final_logit_softcapping": None,
    "attn_logit_softcapping": None,
}


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding.

    Attributes:
        base: base of the frequencies.
        linear_factor: positions are divided by it; 1 for none.
        divisors: float32, shape ``(head_size / 2,)``: each frequency is divided by its own;
            ``None`` for none.
    """

    base: float
    linear_factor: float = 1.0
    divisors: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Network:
    """The sizes of one network.

    Attributes:
        family: its kind.
        vocabulary: rows of the embedding.
        context_tokens: longest sequence that llama.cpp computes like transformers.
        hidden: width of the residual stream.
        feed_forward: width of the feed-forward layers.
        layers: number of blocks.
        heads: attention heads.
        kv_heads: heads of keys and values.
        head_size: width of a head.
        norm_epsilon: added to the mean square before its root.
        rope: rotary position embedding.
        tied: whether the output layer is the embedding.
        biased: which projections have a bias: ``query``, ``output``, ``mlp``.
        notes: what was decided on the way, one sentence each.
    """

    family: Family
    vocabulary: int
    context_tokens: int
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    norm_epsilon: float
    rope: Rope
    tied: bool
    biased: frozenset[str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placement:
    """One tensor on its way from a checkpoint into a GGUF file.

    Attributes:
        source: name in the checkpoint.
        name: name in the GGUF file.
        shape: shape in both.
        heads: heads whose rows change places; 0 for none.
    """

    source: str
    name: str
    shape: tuple[int, ...]
    heads: int = 0


def read_network(config: Config) -> Network:
    """Read the sizes of a network from its configuration.

    Raises:
        ModelError: the class is not one of :data:`FAMILIES`, a size is missing or impossible, or
            the network has a part that GGUF has no equal of.
    """
    family = _family(config)
    _refuse_unequal(config)
    hidden, heads = _number(config, HIDDEN), _number(config, HEADS)
    head_size = config.number(("head_dim",))
    if head_size is None:
        if hidden % heads:
            raise _wrong(config, HIDDEN[0], f"a multiple of the {heads} heads")
        head_size = hidden // heads
    kv_heads = config.number(KV_HEADS) or heads
    if heads % kv_heads:
        raise _wrong(config, KV_HEADS[0], f"a divisor of the {heads} heads")
    if head_size % 2:
        raise _wrong(config, "head_dim", "an even number")
    context, notes = _context(config)
    switches = {
        "query": family.query_bias,
        "output": family.output_bias,
        "mlp": family.mlp_bias,
    }
    biased = {
        name for name, key in switches.items() if key == "always" or config.raw.get(key) is True
    }
    if config.raw.get("attention_bias") is True and family.query_bias != "attention_bias":
        raise _wrong(config, "attention_bias", "false for this family")
    return Network(
        family=family,
        vocabulary=_number(config, VOCABULARY),
        context_tokens=context,
        hidden=hidden,
        feed_forward=_number(config, ("intermediate_size",)),
        layers=_number(config, LAYERS),
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        norm_epsilon=_positive(config, config.raw, "rms_norm_eps", 1e-6),
        rope=_read_rope(config, family, head_size),
        tied=config.raw.get("tie_word_embeddings") is True,
        biased=frozenset(biased),
        notes=notes,
    )


def placements(network: Network) -> Iterator[Placement]:
    """Yield every tensor of a network."""
    hidden, feed = network.hidden, network.feed_forward
    queries, keys = network.heads * network.head_size, network.kv_heads * network.head_size
    rotated = (network.heads, network.kv_heads) if network.family.rotates_neighbors else (0, 0)
    # Module, GGUF name, rows, columns, heads whose rows change places, kind of its bias.
    projections = (
        ("self_attn.q_proj", "attn_q", queries, hidden, rotated[0], "query"),
        ("self_attn.k_proj", "attn_k", keys, hidden, rotated[1], "query"),
        ("self_attn.v_proj", "attn_v", keys, hidden, 0, "query"),
        ("self_attn.o_proj", "attn_output", hidden, queries, 0, "output"),
        ("mlp.gate_proj", "ffn_gate", feed, hidden, 0, "mlp"),
        ("mlp.up_proj", "ffn_up", feed, hidden, 0, "mlp"),
        ("mlp.down_proj", "ffn_down", hidden, feed, 0, "mlp"),
    )
    norms = [
        ("input_layernorm", "attn_norm", hidden),
        ("post_attention_layernorm", "ffn_norm", hidden),
    ]
    if network.family.has_head_norms:
        norms += [
            ("self_attn.q_norm", "attn_q_norm", network.head_size),
            ("self_attn.k_norm", "attn_k_norm", network.head_size),
        ]
    table = (network.vocabulary, hidden)
    if not network.tied:
        yield Placement("lm_head.weight", "output.weight", table)
    yield Placement("model.embed_tokens.weight", "token_embd.weight", table)
    for layer in range(network.layers):
        old, new = f"model.layers.{layer}", f"blk.{layer}"
        for module, name, width in norms:
            yield Placement(f"{old}.{module}.weight", f"{new}.{name}.weight", (width,))
        for module, name, rows, columns, heads, bias in projections:
            shape = (rows, columns)
            yield Placement(f"{old}.{module}.weight", f"{new}.{name}.weight", shape, heads)
            if bias in network.biased:
                yield Placement(f"{old}.{module}.bias", f"{new}.{name}.bias", (rows,), heads)
    yield Placement("model.norm.weight", "output_norm.weight", (hidden,))


def swap_rows(array: NDArray[Any], heads: int) -> NDArray[Any]:
    """Return rows in the order in which llama.cpp rotates them.

    transformers rotates row i of a head with row i + half, llama.cpp row 2i with row 2i + 1.

    Args:
        array: weight or bias whose first axis is heads times head size.
        heads: number of heads.
    """
    halves = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)


def _family(config: Config) -> Family:
    family = next((FAMILIES[name] for name in config.classes if name in FAMILIES), None)
    if family is None or len(config.classes) != 1:
        named = ", ".join(config.classes) or config.family
        raise ModelError(
            f'no exact conversion to GGUF is known for "{named[:80]}"',
            where=str(config.path),
            allowed=", ".join(FAMILIES),
            advice="Convert the model with llama.cpp's convert_hf_to_gguf.py and name the .gguf "
            "file in the manifest",
        )
    return family


def _refuse_unequal(config: Config) -> None:
    if config.raw.get("quantization_config") or config.raw.get("quantization"):
        raise ModelError(
            "the weights are quantized already",
            where=str(config.path),
            allowed="float32, float16 or bfloat16 weights",
            advice="Name the model that they were quantized from",
        )
    if config.expert_count:
        raise _wrong(config, "num_local_experts", "a model without experts")
    for key, value in _FIXED.items():
        stated = config.raw.get(key)
        if stated is not None and stated != value:
            raise _wrong(config, key, "nothing else than " + json.dumps(value))


def _context(config: Config) -> tuple[int, tuple[str, ...]]:
    context = _number(config, CONTEXT)
    window = config.number(("sliding_window",))
    slides = config.raw.get("use_sliding_window", True) is not False
    if window is None or not slides or window >= context:
        return context, ()
    # Up to the window every token sees every other, with and without it.
    return window, (
        f"context length: {window} tokens, the sliding window, because attention beyond it is "
        f"computed differently by llama.cpp ({context} in config.json)",
    )


def _read_rope(config: Config, family: Family, head_size: int) -> Rope:
    table = config.raw.get("rope_parameters") or config.raw.get("rope_scaling") or {}
    if not isinstance(table, dict):
        raise _wrong(config, "rope_scaling", "an object")
    base = _positive(config, {**config.raw, **table}, "rope_theta", 10_000.0)
    kind = table.get("rope_type", table.get("type", "default"))
    kinds = ["default", "linear", *(["llama3"] if family.takes_frequencies else [])]
    if kind == "default":
        return Rope(base)
    if kind == "linear":
        return Rope(base, linear_factor=_positive(config, table, "factor"))
    if kind == "llama3" and family.takes_frequencies:
        return Rope(base, divisors=_frequency_divisors(config, table, base, head_size))
    raise ModelError(
        f"rope_scaling is of the type {json.dumps(kind)[:40]}",
        where=str(config.path),
        allowed=", ".join(kinds),
        advice="Convert the model with llama.cpp's convert_hf_to_gguf.py and name the .gguf file",
    )


def _frequency_divisors(
    config: Config, table: Mapping[str, Any], base: float, head_size: int
) -> NDArray[np.float32]:
    """Return what each frequency is divided by; Llama 3.1, ``_compute_llama3_parameters``."""
    factor = _positive(config, table, "factor")
    low = _positive(config, table, "low_freq_factor")
    high = _positive(config, table, "high_freq_factor")
    old = _positive(config, table, "original_max_position_embeddings")
    if high <= low:
        raise _wrong(config, "high_freq_factor", "a number above low_freq_factor")
    wavelengths = 2 * math.pi * base ** (np.arange(0, head_size, 2, dtype=np.float64) / head_size)
    # Short wavelengths stay as they are (1), long ones are stretched by the factor (0).
    smooth = np.clip((old / wavelengths - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def _number(config: Config, keys: tuple[str, ...]) -> int:
    value = config.number(keys)
    if value is None:
        raise ModelError(
            f"{keys[0]} is missing",
            where=str(config.path),
            advice="Export the model again with save_pretrained",
        )
    return value


def _positive(
    config: Config, table: Mapping[str, Any], key: str, default: float | None = None
) -> float:
    value = table.get(key, default)
    if value is None and default is not None:
        value = default
    usable = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not usable or not 0 < value < math.inf:
        raise _wrong(config, key, "a positive number", value)
    return float(value)


def _wrong(config: Config, key: str, allowed: str, value: object = None) -> ModelError:
    stated = config.raw.get(key) if value is None else value
    return ModelError(
        f"{key} is {json.dumps(stated)[:40]}", where=str(config.path), allowed=allowed
    )
