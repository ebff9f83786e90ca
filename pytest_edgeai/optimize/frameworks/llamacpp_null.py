"""The smallest model that llama.cpp runs: what it takes is the runtime's own memory.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Written by hand, because
importing the package ``gguf`` takes memory that a measurement would count.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

_VERSION = 3
_UINT32, _FLOAT32, _STRING = 4, 6, 8
_F32 = 0
_ALIGNMENT = 32
_WIDTH, _VOCABULARY = 32, 32
CONTEXT_TOKENS = 32

Value: TypeAlias = int | float | str


def write_null_model(path: Path) -> None:
    """Write a llama network of one layer, 32 wide, of 32 tokens without a text: 40 KiB."""
    entries: dict[str, Value] = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": CONTEXT_TOKENS,
        "llama.embedding_length": _WIDTH,
        "llama.feed_forward_length": _WIDTH,
        "llama.attention.head_count": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": _WIDTH,
        "llama.vocab_size": _VOCABULARY,
        "tokenizer.ggml.model": "no_vocab",
    }
    square = (_WIDTH, _WIDTH)
    tensors: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (_WIDTH, _VOCABULARY),
        "output_norm.weight": (_WIDTH,),
        "output.weight": (_WIDTH, _VOCABULARY),
        "blk.0.attn_norm.weight": (_WIDTH,),
        "blk.0.ffn_norm.weight": (_WIDTH,),
        **{
            f"blk.0.{name}.weight": square
            for name in (
                *("attn_q", "attn_k", "attn_v", "attn_output"),
                *("ffn_gate", "ffn_up", "ffn_down"),
            )
        },
    }
    header = b"GGUF" + struct.pack("<IQQ", _VERSION, len(tensors), len(entries))
    header += b"".join(_entry(key, value) for key, value in entries.items())
    offset = 0
    for name, dims in tensors.items():
        header += _text(name) + struct.pack("<I", len(dims))
        header += struct.pack(f"<{len(dims)}QIQ", *dims, _F32, offset)
        offset += _bytes_of(dims)
    header += bytes(-len(header) % _ALIGNMENT)
    path.write_bytes(header + struct.pack("<f", 0.01) * (offset // 4))


def _entry(key: str, value: Value) -> bytes:
    if isinstance(value, str):
        return _text(key) + struct.pack("<I", _STRING) + _text(value)
    if isinstance(value, float):
        return _text(key) + struct.pack("<If", _FLOAT32, value)
    return _text(key) + struct.pack("<II", _UINT32, value)


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _bytes_of(dims: Sequence[int]) -> int:
    elements = 1
    for extent in dims:
        elements *= extent
    return 4 * elements
