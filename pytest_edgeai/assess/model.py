"""Facts about one model file, whatever its format, and its fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pytest_edgeai.assess.gguf_file import read_gguf
from pytest_edgeai.assess.huggingface import CONFIG, read_huggingface
from pytest_edgeai.assess.onnx_file import read_onnx
from pytest_edgeai.assess.openvino_ir import read_openvino
from pytest_edgeai.assess.structure import ModelStructure
from pytest_edgeai.errors import ModelError
from pytest_edgeai.records import ModelFacts

READERS: Mapping[str, Callable[[Path], ModelStructure]] = {
    ".onnx": read_onnx,
    ".xml": read_openvino,
    ".gguf": read_gguf,
}
ALLOWED_FORMATS = (
    ".onnx (ONNX), .xml (OpenVINO IR), .gguf (GGUF) and directories with config.json and "
    "*.safetensors (Hugging Face)"
)

_CHUNK_BYTES = 1 << 20


def read_structure(path: Path) -> ModelStructure:
    """Read everything about a model that needs no hash.

    Args:
        path: a ``.onnx``, ``.xml`` or ``.gguf`` file, or a Hugging Face directory.

    Raises:
        ModelError: if the model is missing, of another format, damaged or incomplete.
    """
    try:
        is_directory = path.is_dir()
        if is_directory and path.suffix.lower() in READERS and not (path / CONFIG).is_file():
            raise ModelError(
                "the model is a directory without config.json",
                where=str(path),
                allowed=ALLOWED_FORMATS,
            )
        exists = is_directory or path.is_file()
    except (OSError, ValueError) as error:
        raise ModelError(f"the model cannot be read ({error})", where=str(path)) from None
    if not exists:
        raise ModelError(
            "there is no such model file", where=str(path), advice="Check the path of the model"
        )
    if is_directory:
        return read_huggingface(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ModelError(
            f'the model has the suffix "{path.suffix}"', where=str(path), allowed=ALLOWED_FORMATS
        )
    return reader(path)


def fingerprint(files: Iterable[Path]) -> str:
    """Return the SHA-256 over the contents of files, in order of name.

    Each file enters as its own digest, so that moving bytes from one file to the next changes the
    result. A single file's fingerprint is the SHA-256 of its content.

    Raises:
        ModelError: if a file cannot be read.
    """
    digests = [_digest(path) for path in sorted(files)]
    if len(digests) == 1:
        return digests[0].hex()
    return hashlib.sha256(b"".join(digests)).hexdigest()


def read_model(path: Path, *, with_hash: bool = True) -> ModelFacts:
    """Read the facts of a model.

    Args:
        path: a ``.onnx``, ``.xml`` or ``.gguf`` file, or a Hugging Face directory.
        with_hash: whether to read every byte for ``sha256``; without, it is an empty string and
            the cost does not grow with the weights.

    Raises:
        ModelError: as ``read_structure``.
    """
    structure = read_structure(path)
    return ModelFacts(
        path=structure.path,
        format=structure.format,
        sha256=fingerprint(structure.files) if with_hash else "",
        size_bytes=structure.size_bytes,
        files=structure.files,
        opset=structure.opset,
        inputs=structure.inputs,
        outputs=structure.outputs,
        operators=structure.operators,
        parameters=structure.parameters,
        weight_elements=structure.weight_elements,
        architecture=structure.architecture,
        quantization=structure.quantization,
        dynamic_inputs=tuple(
            spec.name for spec in structure.inputs if not spec.has_shape or None in spec.shape
        ),
        flops_per_inference=structure.workload.flops,
        bytes_per_inference=structure.workload.moved_bytes,
        workload_note=structure.workload.note,
        language=structure.language,
        notes=structure.notes,
        row_elements=structure.row_elements,
    )


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(
            f"the file cannot be read ({error.strerror or error})", where=str(path)
        ) from None
    return digest.digest()
