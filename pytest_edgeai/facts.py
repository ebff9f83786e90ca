"""Facts about models and hosts: what was read, and never what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

Architecture: TypeAlias = Literal[
    "convolutional", "transformer", "recurrent", "mixture-of-experts", "language-model", "other"
]
ModelFormat: TypeAlias = Literal["onnx", "openvino", "gguf", "huggingface"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: name in the model.
        dtype: NumPy dtype name (``float32``, ``int64`` ...), or ``str`` for string tensors.
        shape: one entry per axis; ``None`` where the axis is dynamic.
        has_shape: False where the model states no shape; ``shape`` is then empty and says nothing.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    has_shape: bool = True


@dataclass(frozen=True)
class LanguageModelFacts:
    """What the metadata of a GGUF file or a Hugging Face ``config.json`` says about a network.

    ``None`` or an empty string means that the metadata do not say.

    Attributes:
        family: the architecture as the format names it (``llama``, ``qwen2`` ...).
        is_known: whether the format's own tools know the family; True where there is no list.
        context_length: longest sequence, in tokens, that the model was made for.
        vocabulary: number of tokens of the embedding.
        hidden_size: width of the residual stream.
        layers: number of blocks.
        heads: attention heads of a block; ``None`` too where blocks differ.
        kv_heads: heads of the keys and values, likewise.
        head_size: width of one head.
        experts: experts of a mixture-of-experts layer, 0 without.
        experts_per_token: experts that one token is routed to, 0 without.
        tokenizer: the tokenizer that comes with the weights: its kind (``gpt2``, ``llama``) in a
            GGUF file, its file (``tokenizer.json`` ...) in a directory; empty: there is none.
        has_chat_template: whether a chat template comes with it.
        tied_embeddings: whether the output layer shares the weights of the embedding.
    """

    family: str
    is_known: bool = True
    context_length: int | None = None
    vocabulary: int | None = None
    hidden_size: int | None = None
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_size: int | None = None
    experts: int = 0
    experts_per_token: int = 0
    tokenizer: str = ""
    has_chat_template: bool = False
    tied_embeddings: bool = False

    @property
    def kv_cache_elements_per_token(self) -> int | None:
        """Keys and values that one token adds to the cache: 2 x layers x KV heads x head size."""
        if not (self.layers and self.kv_heads and self.head_size):
            return None
        return 2 * self.layers * self.kv_heads * self.head_size


@dataclass(frozen=True)
class ModelFacts:
    """What a model file says about itself, read without running it.

    Attributes:
        path: the model file, or the directory of a Hugging Face model.
        format: ``onnx``, ``openvino``, ``gguf`` or ``huggingface``.
        sha256: hex digest over the model file and its external data files, in order of name.
        size_bytes: model file plus external data.
        files: the model file and every external data file it refers to.
        opset: version of the default operator set, 0 where the format has none.
        inputs: inputs that a caller must feed (initializers excluded).
        outputs: outputs in the model's order.
        operators: operator type to number of nodes, subgraphs and functions included.
        parameters: number of elements of all weights.
        weight_elements: weight dtype name to number of elements; quantized GGUF tensors go by
            their ggml type in lower case (``q4_k``).
        row_elements: length of a row (the last axis, along which weights are quantized in blocks)
            to number of elements in matrices with such rows; GGUF and Hugging Face models alone.
        architecture: the class that the default recipes are chosen by.
        quantization: the scheme that the weights are stored in as the format names it (``q4_k_m``,
            ``gptq-int4``, ``mlx-int4-g64``); empty where it names none.
        dynamic_inputs: names of inputs with an axis that is not fixed.
        flops_per_inference: floating-point operations of one inference at batch 1, or of one
            generated token for a language model; one multiply-accumulate counts as two. ``None``
            where the file alone does not tell.
        bytes_per_inference: bytes that the same inference moves; ``None`` likewise.
        workload_note: what the two figures are, or why they are not known.
        language: facts of a GGUF or Hugging Face model; ``None`` for the other formats.
        notes: what a reader should know before using the model, one sentence each.
    """

    path: Path
    format: ModelFormat
    sha256: str
    size_bytes: int
    files: tuple[Path, ...]
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    parameters: int
    weight_elements: Mapping[str, int]
    architecture: Architecture
    quantization: str = ""
    dynamic_inputs: tuple[str, ...] = ()
    flops_per_inference: int | None = None
    bytes_per_inference: int | None = None
    workload_note: str = ""
    language: LanguageModelFacts | None = None
    notes: tuple[str, ...] = ()
    row_elements: Mapping[int, int] = field(default_factory=dict)

    @property
    def arithmetic_intensity(self) -> float | None:
        """FLOPs per byte moved, as in the roofline model; ``None`` where either is unknown."""
        if self.flops_per_inference is None or not self.bytes_per_inference:
            return None
        return self.flops_per_inference / self.bytes_per_inference


@dataclass(frozen=True)
class Accelerator:
    """A processor beside the CPU that can run models.

    Attributes:
        kind: ``gpu``, ``npu`` (the neural engines of phones and laptops) or ``tpu``.
        vendor: ``NVIDIA``, ``Intel``, ``AMD``, ``Apple``, ``Qualcomm`` or ``Google``.
        name: marketing name where the interface gives it, else what identifies the device.
        memory_bytes: memory of its own; ``None`` where it shares the host's or none is stated.
        source: the interface that it was found through.
    """

    kind: Literal["gpu", "npu", "tpu"]
    vendor: str
    name: str
    memory_bytes: int | None
    source: str


@dataclass(frozen=True)
class HostFacts:
    """The machine that measures; an empty string or ``None`` means unknown.

    Attributes:
        hostname: network name of the machine.
        system: ``Linux``, ``Darwin`` or ``Windows``, with its release.
        architecture: machine architecture as the kernel names it (``x86_64``, ``aarch64`` ...).
        cpu_vendor: ``GenuineIntel``, ``AuthenticAMD``, ``Apple``, ``ARM`` ...
        cpu_model: marketing name.
        logical_cores: cores this process may run on.
        memory_bytes: physical memory, or the container's limit where that is lower.
        simd: the features that decide INT8 speed (``avx2``, ``avx512_vnni``, ``avx_vnni``,
            ``amx_int8``, ``asimddp``, ``i8mm`` ...).
        virtualization: hypervisor or container where one is recognized.
        sources: fact name to the interface that it was read from.
        accelerators: processors beside the CPU, as the system's own interfaces list them.
        power_source: ``mains`` or ``battery``.
        battery_percent: charge of the battery; ``None`` without one.
        cpu_limit: CPUs that the container's quota allows; ``None`` without a quota.
        memory_limit_bytes: memory that the container may use; ``None`` without a limit below the
            physical memory.
    """

    hostname: str
    system: str
    architecture: str
    cpu_vendor: str
    cpu_model: str
    logical_cores: int
    memory_bytes: int | None
    simd: tuple[str, ...]
    virtualization: str
    sources: Mapping[str, str]
    accelerators: tuple[Accelerator, ...] = ()
    power_source: str = ""
    battery_percent: int | None = None
    cpu_limit: float | None = None
    memory_limit_bytes: int | None = None
