"""A Hugging Face directory as a GGUF file, every weight in the precision that it came in.

The file is what llama.cpp's own converter writes, less the descriptive keys: the same names, the
same order of rows, norms and biases as float32 (llama.cpp computes with them in no other type).
Source: https://github.com/ggml-org/llama.cpp, convert_hf_to_gguf.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.optimize.frameworks.base import Progress
from pytest_edgeai.optimize.frameworks.checkpoint import Checkpoint, to_float32
from pytest_edgeai.optimize.frameworks.checkpoint_fit import check_tensors
from pytest_edgeai.optimize.frameworks.gguf_families import (
    Network,
    Placement,
    placements,
    read_network,
    swap_rows,
)
from pytest_edgeai.optimize.frameworks.gguf_tokenizer import (
    GgufTokenizer,
    read_special_tokens,
    read_tokenizer,
)

_FILE_TYPES = {
    "float32": gguf.LlamaFileType.ALL_F32,
    "float16": gguf.LlamaFileType.MOSTLY_F16,
    "bfloat16": gguf.LlamaFileType.MOSTLY_BF16,
}
_TYPES = {
    "float32": gguf.GGMLQuantizationType.F32,
    "float16": gguf.GGMLQuantizationType.F16,
    "bfloat16": gguf.GGMLQuantizationType.BF16,
}
_FREQUENCIES = "rope_freqs.weight"


@dataclass(frozen=True)
class Conversion:
    """What was written.

    Attributes:
        precision: dtype name of most weights, as they came.
        tokenizer: the tokenizer that was carried over.
        log: what a reader should know, one line each.
    """

    precision: str
    tokenizer: GgufTokenizer
    log: tuple[str, ...]


def convert_directory(source: Path, output: Path, progress: Progress) -> Conversion:
    """Write a Hugging Face directory as one GGUF file; one tensor at a time is in memory.

    Args:
        source: the directory.
        output: the file to write.
        progress: called with what is being done, from 0 to 1.

    Raises:
        ModelError: the directory is damaged, its configuration and its tensors contradict each
            other, or the network is none whose conversion is known to be exact.
    """
    progress("reading the headers", 0.0)
    checkpoint = Checkpoint(source)
    network = read_network(checkpoint.config)
    planned = list(placements(network))
    check_tensors(checkpoint, network, planned, f"a {network.family.architecture} network")
    tokenizer = read_tokenizer(source, network.vocabulary)
    elements: Counter[str] = Counter()
    for placement in planned:
        if len(placement.shape) > 1:
            elements[_written_dtype(checkpoint, placement)] += int(np.prod(placement.shape))
    precision = elements.most_common(1)[0][0]
    writer = gguf.GGUFWriter(output, network.family.architecture)
    try:
        _add_sizes(writer, network, precision)
        _add_tokenizer(writer, checkpoint, network, tokenizer)
        _write_tensors(writer, checkpoint, network, planned, progress)
    finally:
        writer.close()
    return Conversion(precision, tokenizer, _log(network, elements, tokenizer))


def _add_sizes(writer: gguf.GGUFWriter, network: Network, precision: str) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_file_type(_FILE_TYPES[precision])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(network.layers)
    writer.add_context_length(network.context_tokens)
    writer.add_embedding_length(network.hidden)
    writer.add_feed_forward_length(network.feed_forward)
    writer.add_head_count(network.heads)
    writer.add_head_count_kv(network.kv_heads)
    writer.add_key_length(network.head_size)
    writer.add_value_length(network.head_size)
    writer.add_rope_dimension_count(network.head_size)
    writer.add_rope_freq_base(network.rope.base)
    writer.add_layer_norm_rms_eps(network.norm_epsilon)
    writer.add_vocab_size(network.vocabulary)
    if network.rope.linear_factor != 1.0:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(network.rope.linear_factor)


def _add_tokenizer(
    writer: gguf.GGUFWriter, checkpoint: Checkpoint, network: Network, tokenizer: GgufTokenizer
) -> None:
    writer.add_tokenizer_model(tokenizer.model)
    if not tokenizer.tokens:
        return
    if tokenizer.pre:
        writer.add_tokenizer_pre(tokenizer.pre)
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types([int(kind) for kind in tokenizer.types])
    if tokenizer.scores:
        writer.add_token_scores(tokenizer.scores)
    if tokenizer.merges:
        writer.add_token_merges(tokenizer.merges)
    if tokenizer.space_prefix is not None:
        writer.add_add_space_prefix(tokenizer.space_prefix)
    special = read_special_tokens(
        checkpoint.path, checkpoint.config.raw, tokenizer.tokens, network.vocabulary
    )
    adders = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
        "eot": writer.add_eot_token_id,
        "eom": writer.add_eom_token_id,
    }
    for role, index in special.ids.items():
        adders[role](index)
    if special.add_bos is not None:
        writer.add_add_bos_token(special.add_bos)
    if special.add_eos is not None:
        writer.add_add_eos_token(special.add_eos)
    if special.chat_template:
        writer.add_chat_template(special.chat_template)


def _write_tensors(
    writer: gguf.GGUFWriter,
    checkpoint: Checkpoint,
    network: Network,
    planned: Sequence[Placement],
    progress: Progress,
) -> None:
    for placement in planned:
        dtype = _written_dtype(checkpoint, placement)
        elements = int(np.prod(placement.shape))
        stored = np.dtype(np.float32 if dtype == "float32" else np.uint16)
        writer.add_tensor_info(
            placement.name, placement.shape, stored, elements * stored.itemsize, _TYPES[dtype]
        )
    divisors = network.rope.divisors
    if divisors is not None:
        writer.add_tensor_info(_FREQUENCIES, divisors.shape, divisors.dtype, divisors.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for index, placement in enumerate(planned):
        array: NDArray[Any] = checkpoint.array(placement.source)
        if _written_dtype(checkpoint, placement) == "float32":
            array = to_float32(array)
        if placement.heads:
            array = swap_rows(array, placement.heads)
        writer.write_tensor_data(array)
        progress("converting to GGUF", (index + 1) / (len(planned) + 1))
    if divisors is not None:
        writer.write_tensor_data(divisors)


def _written_dtype(checkpoint: Checkpoint, placement: Placement) -> str:
    if len(placement.shape) == 1:
        return "float32"
    dtype = checkpoint.tensors[placement.source].dtype
    if dtype not in _TYPES:
        checkpoint.array(placement.source)  # says what is allowed
    return dtype


def _log(
    network: Network, elements: Mapping[str, int], tokenizer: GgufTokenizer
) -> tuple[str, ...]:
    parts = [f"{name} ({count} weights)" for name, count in sorted(elements.items())]
    lines = [
        f"converted to GGUF, architecture {network.family.architecture}, weights as they came: "
        + ", ".join(parts)
        + "; norms and biases float32",
        *network.notes,
    ]
    if not tokenizer.tokens:
        lines.append(f"no tokenizer in the GGUF file, token ids only: {tokenizer.note}")
    else:
        pre = f" with the pre-tokenizer {tokenizer.pre}" if tokenizer.pre else ""
        note = f" ({tokenizer.note})" if tokenizer.note else ""
        lines.append(f"tokenizer: {tokenizer.model}{pre}{note}")
    return tuple(lines)
