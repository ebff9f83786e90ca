"""A Llama-like network as an OpenVINO graph with a key-value cache, straight from a checkpoint.

The inputs, the output and the cache are those of optimum-intel's stateful export (``input_ids``,
``attention_mask``, ``position_ids``, ``beam_idx``; ``logits``; one variable for the keys and one
for the values of each block), so that whatever runs such an export runs this.

Sources: transformers' ``modeling_llama.py``, ``modeling_qwen2.py`` and ``modeling_qwen3.py`` for
what is computed; OpenVINO's operation sets 6 and 13 (``ReadValue``, ``Assign``,
``ScaledDotProductAttention``); ``stateful_sdpa_fusion.cpp`` and ``rms_fusion.cpp`` of OpenVINO for
the forms that its plugins replace by one kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13
from openvino.op.util import Variable, VariableInfo

from pytest_edgeai.optimize.frameworks.checkpoint import to_float32
from pytest_edgeai.optimize.frameworks.gguf_families import FAMILIES, Network, Rope, placements

ReadTensor: TypeAlias = Callable[[str], NDArray[Any]]
"""Returns a tensor of a checkpoint by its name, as it is stored; bfloat16 as uint16 bits."""

OUTPUT = "logits"
IDS = "input_ids"
MASK = "attention_mask"
POSITIONS = "position_ids"
BEAMS = "beam_idx"
NULL_CONTEXT_TOKENS = 64

# The plugins' own kernels add the mask; an infinite one would make a row that sees nothing NaN.
_HIDDEN = np.float32(np.finfo(np.float32).min)
_BATCH, _SEQUENCE = 0, 1


def build_graph(network: Network, read: ReadTensor) -> openvino.Model:
    """Return the network with its weights in float32.

    Inputs: ``input_ids``, ``attention_mask`` and ``position_ids`` (int64, shapes ``(batch,
    tokens)``, ``(batch, cached + tokens)`` and ``(batch, tokens)``), ``beam_idx`` (int32, shape
    ``(batch,)``: which row of the cache each sequence goes on from). A token sees those before it
    whose mask is not 0. Output: ``logits``, float32, shape ``(batch, tokens, vocabulary)``.

    Args:
        network: the sizes.
        read: is asked for the tensors of ``placements(network)``.
    """
    return _Builder(network, read).build()


def build_null_graph() -> openvino.Model:
    """Return a Llama of one block, 64 wide, of 64 tokens, whose weights are zero."""
    shapes = {place.source: place.shape for place in placements(_NULL)}
    return build_graph(_NULL, lambda name: np.zeros(shapes[name], np.float32))


_NULL = Network(
    family=FAMILIES["LlamaForCausalLM"],
    vocabulary=64,
    context_tokens=NULL_CONTEXT_TOKENS,
    hidden=64,
    feed_forward=64,
    layers=1,
    heads=1,
    kv_heads=1,
    head_size=64,
    norm_epsilon=1e-5,
    rope=Rope(10_000.0),
    tied=False,
    biased=frozenset(),
)


class _Builder:
    def __init__(self, network: Network, read: ReadTensor) -> None:
        self._network = network
        self._read = read
        self._names = frozenset(place.source for place in placements(network))
        self._sinks: list[Any] = []
        self._variables: list[Variable] = []

    def build(self) -> openvino.Model:
        network = self._network
        ids, mask, positions = (_parameter(name, 2) for name in (IDS, MASK, POSITIONS))
        self._beams = _parameter(BEAMS, 1, np.int32)
        batch = _extent(ids, _BATCH)
        self._empty = opset13.concat(
            [batch, _integers(network.kv_heads), _integers(0), _integers(network.head_size)], 0
        )
        self._mask = _visible(ids, mask)
        self._cosine, self._sine = _rotations(positions, network.rope, network.head_size)
        table = self._weight("model.embed_tokens")
        hidden = opset13.gather(table, ids, _integer(0), name="model.embed_tokens")
        for layer in range(network.layers):
            hidden = self._block(f"model.layers.{layer}", layer, hidden)
        hidden = self._norm("model.norm", hidden)
        head = table if network.tied else self._weight("lm_head")
        logits = opset13.matmul(hidden, head, False, True, name="lm_head")
        result = opset13.result(logits)
        logits.output(0).get_tensor().set_names({OUTPUT})
        return openvino.Model(
            [result],
            self._sinks,
            [ids, mask, positions, self._beams],
            self._variables,
            "language-model",
        )

    def _block(self, name: str, layer: int, hidden: Any) -> Any:
        normed = self._norm(f"{name}.input_layernorm", hidden)
        hidden = opset13.add(hidden, self._attention(f"{name}.self_attn", layer, normed))
        normed = self._norm(f"{name}.post_attention_layernorm", hidden)
        gate = opset13.swish(self._linear(f"{name}.mlp.gate_proj", normed))
        product = opset13.multiply(gate, self._linear(f"{name}.mlp.up_proj", normed))
        return opset13.add(hidden, self._linear(f"{name}.mlp.down_proj", product))

    def _attention(self, name: str, layer: int, hidden: Any) -> Any:
        network = self._network
        queries = self._rotated(f"{name}.q", network.heads, hidden)
        keys = self._rotated(f"{name}.k", network.kv_heads, hidden)
        values = self._heads(f"{name}.v_proj", network.kv_heads, hidden)
        # transformers' names of the cache, which tools know the variables by.
        keys = self._cached(f"past_key_values.{layer}.keypresent.{layer}.key", keys)
        values = self._cached(f"past_key_values.{layer}.valuepresent.{layer}.value", values)
        mixed = opset13.scaled_dot_product_attention(
            queries, self._shared(keys), self._shared(values), self._mask
        )
        width = network.heads * network.head_size
        mixed = opset13.transpose(mixed, _integers(0, 2, 1, 3))
        mixed = opset13.reshape(mixed, _integers(0, 0, width), True)
        return self._linear(f"{name}.o_proj", mixed)

    def _rotated(self, name: str, heads: int, hidden: Any) -> Any:
        """Return queries or keys with rotary embeddings (https://arxiv.org/abs/2104.09864)."""
        projected = self._heads(f"{name}_proj", heads, hidden, norm=f"{name}_norm")
        half = self._network.head_size // 2
        first, second = (
            opset13.slice(projected, *(_integers(each) for each in (start, stop, 1, 3)))
            for start, stop in ((0, half), (half, 2 * half))
        )
        turned = opset13.concat([opset13.multiply(second, np.float32(-1)), first], -1)
        return opset13.add(
            opset13.multiply(projected, self._cosine), opset13.multiply(turned, self._sine)
        )

    def _heads(self, name: str, heads: int, hidden: Any, *, norm: str = "") -> Any:
        """Return a projection, of shape ``(batch, heads, tokens, head size)``."""
        projected = self._linear(name, hidden)
        shape = _integers(0, 0, heads, self._network.head_size)
        projected = opset13.reshape(projected, shape, True)
        if f"{norm}.weight" in self._names:
            projected = self._norm(norm, projected)
        return opset13.transpose(projected, _integers(0, 2, 1, 3))

    def _cached(self, name: str, current: Any) -> Any:
        """Append to a variable; return all it holds."""
        network = self._network
        info = VariableInfo()
        info.variable_id = name
        info.data_type = openvino.Type.f32
        info.data_shape = openvino.PartialShape([-1, network.kv_heads, -1, network.head_size])
        variable = Variable(info)
        empty = opset13.broadcast(np.float32(0), self._empty)
        past = opset13.gather(opset13.read_value(empty, variable), self._beams, _integer(0))
        grown = opset13.concat([past, current], 2)
        self._sinks.append(opset13.assign(grown, variable))
        self._variables.append(variable)
        return grown

    def _shared(self, cached: Any) -> Any:
        """Repeat heads of keys or values for the queries that share them."""
        network = self._network
        times = network.heads // network.kv_heads
        if times == 1:
            return cached
        apart = opset13.unsqueeze(cached, _integer(2))
        repeated = opset13.broadcast(apart, _integers(1, 1, times, 1, 1), None, "BIDIRECTIONAL")
        return opset13.reshape(repeated, _integers(0, network.heads, -1, network.head_size), True)

    def _norm(self, name: str, hidden: Any) -> Any:
        """Return the RMS norm (https://arxiv.org/abs/1910.07467) over the last axis."""
        squared = opset13.power(hidden, np.float32(2))
        mean = opset13.reduce_mean(squared, _integers(-1), True)
        root = opset13.sqrt(opset13.add(mean, np.float32(self._network.norm_epsilon)))
        normed = opset13.multiply(hidden, opset13.divide(np.float32(1), root))
        return opset13.multiply(normed, self._weight(name), name=name)

    def _linear(self, name: str, hidden: Any) -> Any:
        product = opset13.matmul(hidden, self._weight(name), False, True, name=name)
        if f"{name}.bias" in self._names:
            return opset13.add(product, self._constant(f"{name}.bias"))
        return product

    def _weight(self, name: str) -> Any:
        return self._constant(f"{name}.weight")

    def _constant(self, name: str) -> Any:
        array = to_float32(self._read(name))
        # A copy: a graph that shares an array's memory does not keep the array alive.
        return opset13.constant(array, np.float32, name=name)


def _visible(ids: Any, mask: Any) -> Any:
    """Return what is added to the scores, of shape ``(batch, 1, tokens, cached + tokens)``."""
    total = _extent(mask, _SEQUENCE, scalar=True)
    cached = opset13.subtract(total, _extent(ids, _SEQUENCE, scalar=True))
    zero, one = _integer(0), _integer(1)
    keys = opset13.range(zero, total, one, "i64")
    queries = opset13.unsqueeze(opset13.range(cached, total, one, "i64"), one)
    earlier = opset13.less_equal(keys, queries)
    kept = opset13.unsqueeze(opset13.not_equal(mask, zero), _integers(1, 2))
    seen = opset13.logical_and(earlier, kept)
    return opset13.select(seen, np.float32(0), _HIDDEN)


def _rotations(positions: Any, rope: Rope, head_size: int) -> tuple[Any, Any]:
    """Return cosines and sines of shape ``(batch, 1, tokens, head size)``."""
    exponents = np.arange(0, head_size, 2, dtype=np.float64) / head_size
    frequencies: NDArray[Any] = rope.base**-exponents / rope.linear_factor
    if rope.divisors is not None:
        frequencies = frequencies / rope.divisors
    twice = np.concatenate([frequencies, frequencies]).astype(np.float32)
    places = opset13.convert(opset13.unsqueeze(positions, _integers(1, 3)), "f32")
    angles = opset13.multiply(places, twice.reshape(1, 1, 1, -1))
    return opset13.cos(angles), opset13.sin(angles)


def _parameter(name: str, rank: int, dtype: type = np.int64) -> Any:
    parameter = opset13.parameter([-1] * rank, dtype, name=name)
    parameter.output(0).get_tensor().set_names({name})
    return parameter


def _extent(source: Any, axis: int, *, scalar: bool = False) -> Any:
    index = _integer(axis) if scalar else _integers(axis)
    return opset13.gather(opset13.shape_of(source, "i64"), index, _integer(0))


def _integer(value: int) -> Any:
    return opset13.constant(np.int64(value))


def _integers(*values: int) -> Any:
    return opset13.constant(np.array(values, np.int64))
