"""The tensors of a Hugging Face directory as NumPy arrays, mapped from their safetensors files.

Source: https://huggingface.co/docs/safetensors, section "Format": eight bytes give the length of
the header, the header follows, then the data of every tensor without holes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.assess.huggingface import CONFIG, read_huggingface
from pytest_edgeai.assess.huggingface_config import Config
from pytest_edgeai.assess.safetensors_file import DAMAGED, read_safetensors
from pytest_edgeai.assess.structure import ModelStructure
from pytest_edgeai.errors import ModelError

_LENGTH_BYTES = 8
# NumPy has no bfloat16: its bits are handed out.
_STORED_AS = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


@dataclass(frozen=True)
class CheckpointTensor:
    """Where one tensor lies.

    Attributes:
        path: its safetensors file.
        offset: first byte of its data in the file.
        dtype: dtype name.
        shape: extent of each axis.
    """

    path: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]


class Checkpoint:
    """A Hugging Face directory whose configuration agrees with its tensors.

    Attributes:
        path: the directory.
        config: its ``config.json``.
        structure: what was read of it.
        tensors: tensor name to where it lies.
    """

    def __init__(self, path: Path) -> None:
        """Read the headers.

        Raises:
            ModelError: as :func:`pytest_edgeai.assess.huggingface.read_huggingface`.
        """
        self.path = path
        self.structure: ModelStructure = read_huggingface(path)
        self.config = Config(path / CONFIG)
        self.tensors: dict[str, CheckpointTensor] = {}
        for file in self.structure.files:
            if file.suffix == ".safetensors":
                self._list(file)

    def array(self, name: str) -> NDArray[Any]:
        """Return a tensor as it is stored, read when it is used; bfloat16 as uint16 bits.

        Raises:
            ModelError: its dtype is none of float32, float16 and bfloat16.
        """
        tensor = self.tensors[name]
        stored = _STORED_AS.get(tensor.dtype)
        if stored is None:
            raise ModelError(
                f'the tensor "{name[:64]}" is {tensor.dtype}',
                where=str(tensor.path),
                allowed=", ".join(_STORED_AS),
                advice="Save the model in one of these precisions",
            )
        try:
            return np.memmap(tensor.path, stored, "r", tensor.offset, tensor.shape)
        except (OSError, ValueError) as error:
            raise ModelError(
                f'the tensor "{name[:64]}" cannot be read ({error})',
                where=str(tensor.path),
                advice=DAMAGED,
            ) from None

    def _list(self, path: Path) -> None:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        offset = _LENGTH_BYTES + length
        for tensor in read_safetensors(path):
            self.tensors[tensor.name] = CheckpointTensor(path, offset, tensor.dtype, tensor.shape)
            offset += tensor.stored_bytes


def to_float32(stored: NDArray[Any]) -> NDArray[np.float32]:
    """Return what :meth:`Checkpoint.array` gave as float32; exact for each of its dtypes."""
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(stored, np.float32)
