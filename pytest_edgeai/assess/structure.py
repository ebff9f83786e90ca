"""What the readers of model files hand on: a format-neutral structure and its dataflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_edgeai.records import Architecture, LanguageModelFacts, ModelFormat, TensorSpec

# Bits that one element takes on disk. The names are NumPy's, and those that ml_dtypes registers
# with NumPy for the types that NumPy lacks.
DTYPE_BITS: Mapping[str, int] = {
    "float64": 64,
    "float32": 32,
    "float16": 16,
    "bfloat16": 16,
    "float8_e4m3fn": 8,
    "float8_e4m3fnuz": 8,
    "float8_e5m2": 8,
    "float8_e5m2fnuz": 8,
    "float8_e8m0fnu": 8,
    "float6_e2m3fn": 6,
    "float6_e3m2fn": 6,
    "float4_e2m1fn": 4,
    "nf4": 4,
    "int64": 64,
    "int32": 32,
    "int16": 16,
    "int8": 8,
    "int4": 4,
    "int2": 2,
    "uint64": 64,
    "uint32": 32,
    "uint16": 16,
    "uint8": 8,
    "uint6": 6,
    "uint4": 4,
    "uint3": 3,
    "uint2": 2,
    "uint1": 1,
    "bool": 8,
    "complex64": 64,
    "complex128": 128,
}


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of a dataflow.

    Attributes:
        operator: operator type as the format names it.
        inputs: value ids by position; -1 where an optional input is left out.
        outputs: value ids by position; -1 likewise.
        name: as the file has it; empty where it has none.
    """

    operator: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor that is stored in the model.

    Attributes:
        value: value id that the tensor feeds.
        dtype: key of ``DTYPE_BITS``, or another name where the size of an element is unknown.
        elements: number of elements.
        storage: what identifies the stored bytes, so that shared bytes are counted once.
    """

    value: int
    dtype: str
    elements: int
    storage: object


@dataclass
class Dataflow:
    """Operators, constants and the values between them, subgraphs and functions flattened.

    Attributes:
        nodes: every operator.
        links: pairs of value ids: what flows into the first also flows out of the second (formal
            parameters of subgraphs and functions, and their results).
        constants: every stored tensor.
    """

    nodes: list[Node] = field(default_factory=list)
    links: list[tuple[int, int]] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)
    _values: int = 0

    def new_value(self) -> int:
        """Return a fresh value id."""
        self._values += 1
        return self._values - 1


@dataclass(frozen=True)
class Workload:
    """The work of one inference at batch 1, or of one generated token for a language model.

    Attributes:
        flops: floating-point operations; one multiply-accumulate counts as two. ``None``: unknown.
        moved_bytes: bytes moved between memory and the processor; ``None``: unknown.
        note: what the figures are, or why they are not known.
    """

    flops: int | None
    moved_bytes: int | None
    note: str


UNKNOWN_WORKLOAD = Workload(None, None, "")


@dataclass(frozen=True)
class ModelStructure:
    """Everything that is read from a model file short of its hash.

    Attributes:
        path: the model file.
        format: ``onnx``, ``openvino``, ``gguf`` or ``huggingface``.
        files: the model file first, then its external files in order of name.
        size_bytes: sum over ``files``.
        opset: version of the default operator set, 0 where the format has none.
        inputs: inputs that a caller must feed.
        outputs: outputs in the model's order.
        operators: operator type to number of nodes, subgraphs and functions included.
        parameters: number of elements of all weights.
        weight_elements: weight dtype name to number of elements stored.
        quantized_operators: type to number of operators that compute on quantized weights or data.
        architecture: the class that the default recipes are chosen by.
        workload: work of one inference.
        quantization: as in ``ModelFacts``.
        language: as in ``ModelFacts``.
        notes: as in ``ModelFacts``.
        row_elements: as in ``ModelFacts``.
        full_precision_weights: name of an operator to the weight elements of 16 bits and more that
            it computes with; those that several share count for one of them.
    """

    path: Path
    format: ModelFormat
    files: tuple[Path, ...]
    size_bytes: int
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    parameters: int
    weight_elements: Mapping[str, int]
    quantized_operators: Mapping[str, int]
    architecture: Architecture
    workload: Workload = UNKNOWN_WORKLOAD
    quantization: str = ""
    language: LanguageModelFacts | None = None
    notes: tuple[str, ...] = ()
    row_elements: Mapping[int, int] = field(default_factory=dict)
    full_precision_weights: Mapping[str, int] = field(default_factory=dict)


def stored_bytes(dtype: str, elements: int) -> int | None:
    """Return the bytes that a tensor takes on disk, packed where an element is under 8 bits.

    ``None`` where the size of an element is unknown (strings, types of the future).
    """
    bits = DTYPE_BITS.get(dtype)
    return None if bits is None else (elements * bits + 7) // 8
