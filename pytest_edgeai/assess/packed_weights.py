"""How quantized checkpoints pack their weights: which tensors are weights, and how many.

Quantizing tools store several elements in one integer and scales beside it. Sources: MLX
(``mlx.nn.QuantizedLinear``: ``weight`` u32, ``scales``, ``biases``; config key ``quantization``),
GPTQ and AWQ (``qweight`` i32, ``qzeros``, ``scales``, ``g_idx``), bitsandbytes (``weight`` u8 with
``weight.quant_state``; ``SCB``), compressed-tensors (``weight_packed``, ``weight_scale``), and the
FP8 and MXFP4 loaders of transformers (``weight_scale_inv``; ``_blocks`` and ``_scales``), see
https://huggingface.co/docs/transformers/main_classes/quantization.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_edgeai.assess.safetensors_file import StoredTensor

# Scales, zero points, group indices and tables: what quantizers store beside a weight.
_AUXILIARY = re.compile(
    r"(\.(scales|biases|qzeros|g_idx|SCB|weight_format|absmax|quant_map|nested_absmax"
    r"|nested_quant_map|weight_scale|weight_scale_inv|weight_zero_point|weight_shape"
    r"|weight_g_idx|input_scale|output_scale|activation_scale)"
    r"|\.quant_state\.[^.]+|_scales|_scale_inv)$"
)
_FLOATING = ("float", "bfloat", "nf")


@dataclass(frozen=True, slots=True)
class LogicalWeight:
    """One weight as the network sees it.

    Attributes:
        name: name of its tensor.
        dtype: dtype name of an element (``uint4`` for packed ones).
        elements: number of elements.
        shape: extents, unpacked along the last axis where that is how it is packed.
        stored_bytes: bytes on disk, those of its scales excluded.
    """

    name: str
    dtype: str
    elements: int
    shape: tuple[int, ...]
    stored_bytes: int


@dataclass(frozen=True)
class Packing:
    """What ``config.json`` says about quantization.

    Attributes:
        method: ``mlx``, ``gptq``, ``awq``, ``bitsandbytes``, ``compressed-tensors``, ``fp8``,
            ``mxfp4`` ...; empty for plain weights.
        bits: bits of a packed element; 0 where they are not stated.
        dtype: dtype name of a packed element; empty where it is not stated.
        group: elements that share a scale; 0 where it is not stated.
        overrides: module name to its own bits.
    """

    method: str = ""
    bits: int = 0
    dtype: str = ""
    group: int = 0
    overrides: Mapping[str, int] | None = None

    @property
    def label(self) -> str:
        """The scheme in one word: ``mlx-int4-g64``."""
        kind = self.dtype if self.dtype.startswith(("nf", "fp", "float")) else ""
        kind = kind or (f"int{self.bits}" if self.bits else "")
        group = f"g{self.group}" if self.group > 0 else ""
        return "-".join(part for part in (self.method, kind, group) if part)


def read_packing(config: Mapping[str, Any]) -> Packing:
    """Read the quantization of a ``config.json``; what is malformed reads as not stated."""
    mlx = config.get("quantization")
    if isinstance(mlx, dict) and "bits" in mlx:
        mode = mlx.get("mode", "affine")
        overrides = {
            name: _count(entry.get("bits"))
            for name, entry in mlx.items()
            if isinstance(entry, dict)
        }
        bits = _count(mlx["bits"])
        dtype = "float4_e2m1fn" if mode in ("mxfp4", "nvfp4") else ""
        return Packing("mlx", bits, dtype, _count(mlx.get("group_size")), overrides)
    found = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(found, dict):
        return Packing()
    method = str(found.get("quant_method", ""))[:40]
    if method == "bitsandbytes" or "load_in_4bit" in found:
        if found.get("load_in_4bit"):
            kind = found.get("bnb_4bit_quant_type")
            return Packing("bitsandbytes", 4, "nf4" if kind == "nf4" else "float4_e2m1fn")
        return Packing("bitsandbytes", 8)
    if method == "mxfp4":
        return Packing(method, 4, "float4_e2m1fn", 32)
    if method == "compressed-tensors":
        return Packing(method, *_compressed(found))
    return Packing(method, _count(found.get("bits")), "", _count(found.get("group_size")))


def logical_weights(
    tensors: Iterable[StoredTensor], packing: Packing
) -> tuple[list[LogicalWeight], dict[str, int]]:
    """Return the weights of a checkpoint, and the bytes of the scales that belong to each.

    Args:
        tensors: every stored tensor.
        packing: what the configuration says about quantization.

    Returns:
        The weights in the given order (buffers of plain integers are none), and the stored bytes
        of auxiliary tensors by the module that they belong to.
    """
    every = list(tensors)
    names = {tensor.name for tensor in every}
    weights: list[LogicalWeight] = []
    auxiliary: dict[str, int] = {}
    for tensor in every:
        if packing.method and _AUXILIARY.search(tensor.name):
            module = _AUXILIARY.sub("", tensor.name).removesuffix(".weight")
            auxiliary[module] = auxiliary.get(module, 0) + tensor.stored_bytes
            continue
        weight = _unpack(tensor, packing, names)
        if weight is not None:
            weights.append(weight)
    return weights, auxiliary


def module_of(name: str) -> str:
    """Return the module that a weight tensor belongs to: its name without the last word."""
    for suffix in ("_blocks", ".weight", ".qweight", ".weight_packed"):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def _unpack(tensor: StoredTensor, packing: Packing, names: set[str]) -> LogicalWeight | None:
    bits = 0
    module = module_of(tensor.name)
    along_last = True
    if packing.method == "mlx" and tensor.dtype == "uint32" and f"{module}.scales" in names:
        bits = (packing.overrides or {}).get(module, 0) or packing.bits
    elif tensor.name.endswith(".qweight") and tensor.dtype == "int32":
        bits, along_last = packing.bits, packing.method == "awq"
    elif tensor.name.endswith(".weight_packed"):
        bits = packing.bits
    elif (
        tensor.dtype == "uint8"
        and packing.bits == 4
        and (packing.method == "bitsandbytes" or tensor.name.endswith("_blocks"))
    ):
        bits, along_last = 4, False
    stored_bits = {"uint32": 32, "int32": 32, "uint8": 8}.get(tensor.dtype, 0)
    if bits and stored_bits and bits <= stored_bits:
        elements = tensor.elements * stored_bits // bits
        shape: tuple[int, ...] = (elements,)
        if along_last and tensor.shape:
            shape = (*tensor.shape[:-1], tensor.shape[-1] * stored_bits // bits)
        dtype = packing.dtype or f"uint{bits}"
        return LogicalWeight(tensor.name, dtype, elements, shape, tensor.stored_bytes)
    is_weight = tensor.dtype.startswith(_FLOATING) or (
        tensor.dtype in ("int8", "uint8") and bool(packing.method)
    )
    if not is_weight:
        return None
    return LogicalWeight(
        tensor.name, tensor.dtype, tensor.elements, tensor.shape, tensor.stored_bytes
    )


def _compressed(found: Mapping[str, Any]) -> tuple[int, str, int]:
    groups = found.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict):
            bits, is_float = _count(weights.get("num_bits")), weights.get("type") == "float"
            dtype = "float4_e2m1fn" if is_float and bits == 4 else ""
            return bits, dtype, _count(weights.get("group_size"))
    return 0, "", 0


def _count(value: object) -> int:
    return value if type(value) is int and 0 < value < 1 << 20 else 0
