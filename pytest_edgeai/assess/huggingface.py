"""The structure of a Hugging Face model directory: ``config.json`` and safetensors headers.

Layout: https://huggingface.co/docs/transformers/main_classes/model (save_pretrained): the weights
are ``model.safetensors``, or shards that ``model.safetensors.index.json`` lists in ``weight_map``.
MLX writes the same layout.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pytest_edgeai.assess.huggingface_config import (
    Config,
    check_sizes,
    embedding_of,
    has_output_layer,
    read_json,
)
from pytest_edgeai.assess.packed_weights import (
    LogicalWeight,
    logical_weights,
    module_of,
    read_packing,
)
from pytest_edgeai.assess.safetensors_file import DAMAGED, StoredTensor, read_safetensors
from pytest_edgeai.assess.structure import ModelStructure, Workload
from pytest_edgeai.assess.token_workload import Weight, token_workload
from pytest_edgeai.errors import ModelError
from pytest_edgeai.records import LanguageModelFacts

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
# In order of preference: tokenizers' own file, SentencePiece, byte-pair vocabularies, WordPiece.
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
# What belongs to the model beside its weights, and changes what it computes.
_COMPANIONS = (
    *TOKENIZERS,
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "preprocessor_config.json",
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_SHARD = re.compile(r".+-(\d{5})-of-(\d{5})\.safetensors")
_EDGE_BYTES = 64
_EXPERT = re.compile(r"\.experts?\.")


def read_huggingface(path: Path) -> ModelStructure:
    """Read the structure of a Hugging Face model.

    Args:
        path: an existing directory with ``config.json`` and safetensors weights.

    Raises:
        ModelError: if the configuration is missing, malformed or contradicts the weights; if the
            weights are missing, incomplete, damaged or pickled.
    """
    _refuse_others(path)
    config = Config(path / CONFIG)
    shards, listed = _find_weights(path)
    tensors = _read_shards(path, shards, listed)
    packing = read_packing(config.raw)
    weights, auxiliary = logical_weights(tensors, packing)
    if not weights:
        raise ModelError("the weights hold no tensor of numbers", where=str(path), advice=DAMAGED)
    check_sizes(config, weights)
    companions = tuple(path / name for name in _COMPANIONS if (path / name).is_file())
    language = config.language(
        tokenizer=next((name for name in TOKENIZERS if (path / name).is_file()), ""),
        has_chat_template=_has_chat_template(path),
        tied_embeddings=embedding_of(weights) is not None and not has_output_layer(weights),
    )
    index = (path / INDEX,) if listed is not None else ()
    files = (path / CONFIG, *sorted({*index, *shards, *companions}))
    elements: Counter[str] = Counter()
    rows: Counter[int] = Counter()
    for weight in weights:
        elements[weight.dtype] += weight.elements
        if len(weight.shape) > 1:
            rows[weight.shape[-1]] += weight.elements
    return ModelStructure(
        path=path,
        format="huggingface",
        files=files,
        size_bytes=sum(file.stat().st_size for file in files),
        opset=0,
        inputs=(),
        outputs=(),
        operators={},
        parameters=sum(elements.values()),
        weight_elements=dict(sorted(elements.items())),
        quantized_operators={},
        architecture=config.architecture,
        workload=_workload(config, language, weights, auxiliary),
        quantization=packing.label,
        language=language,
        notes=_notes(path, config, language),
        row_elements=dict(sorted(rows.items())),
    )


def _refuse_others(path: Path) -> None:
    """Refuse directories of other kinds, with the way out."""
    if (path / CONFIG).is_file():
        return
    for pattern, what, advice in (
        ("adapter_config.json", "a LoRA adapter, not a model", "Merge it into its base model"),
        ("*.gguf", "GGUF files", "Name the .gguf file itself"),
        ("*.onnx", "ONNX files", "Name the .onnx file itself"),
        ("openvino*.xml", "OpenVINO files", "Name the .xml file itself"),
        ("model_index.json", "a diffusion pipeline", "Name one of its models"),
    ):
        if next(path.glob(pattern), None) is not None:
            raise ModelError(f"the directory holds {what}", where=str(path), advice=advice)
    raise ModelError(
        f"the directory holds no {CONFIG}",
        where=str(path),
        allowed=f"a Hugging Face model: {CONFIG} and *.safetensors",
        advice="Export the model with save_pretrained",
    )


def _find_weights(path: Path) -> tuple[list[Path], dict[str, str] | None]:
    """Return the weight files, and the index's map from tensor to file where there is one."""
    if (path / INDEX).is_file():
        listed = _read_index(path / INDEX)
        names = sorted(set(listed.values()))
        missing = [name for name in names if not (path / name).is_file()]
        if missing:
            raise ModelError(
                f"{len(missing)} of {len(names)} weight files are missing, the first is "
                f"{missing[0]}",
                where=str(path / INDEX),
                advice="Download the whole model",
            )
        return [path / name for name in names], listed
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS], None
    found = sorted(file for file in path.glob("*.safetensors") if file.is_file())
    if not found:
        _refuse_without_weights(path)
    shards = [match for file in found if (match := _SHARD.fullmatch(file.name))]
    if shards or len(found) > 1:
        numbers = {int(match[1]) for match in shards}
        wanted = int(shards[0][2]) if shards else len(found)
        gaps = sorted(set(range(1, min(wanted, 100_000) + 1)) - numbers)
        detail = f" (file {gaps[0]} of {wanted} is missing too)" if shards and gaps else ""
        raise ModelError(
            f"the directory holds {len(found)} weight files and no {INDEX}{detail}",
            where=str(path),
            advice="Download the whole model",
        )
    return found, None


def _refuse_without_weights(path: Path) -> None:
    for pattern in _PICKLES:
        pickled = next(iter(sorted(path.glob(pattern))), None)
        if pickled is not None:
            raise ModelError(
                f"the weights are pickled ({pickled.name}): loading them can run any code",
                where=str(path),
                allowed="*.safetensors",
                advice="Save the model again with save_pretrained(..., safe_serialization=True)",
            )
    raise ModelError(
        "the directory holds no weights", where=str(path), allowed=f"{WEIGHTS}, or {INDEX}"
    )


def _read_index(path: Path) -> dict[str, str]:
    listed = read_json(path).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ModelError("weight_map is missing or empty", where=str(path), advice=DAMAGED)
    for name, file in listed.items():
        # A name that leads elsewhere would let a downloaded index read any file.
        plain = isinstance(file, str) and file not in ("", ".", "..") and "\0" not in file
        if not plain or "/" in file or "\\" in file or ":" in file:
            raise ModelError(
                f'weight_map gives the tensor "{name[:64]}" the file {str(file)[:80]!r}',
                where=str(path),
                allowed="the name of a file in the same directory",
            )
    return listed


def _read_shards(
    path: Path, shards: Sequence[Path], listed: dict[str, str] | None
) -> list[StoredTensor]:
    home: dict[str, str] = {}
    tensors: list[StoredTensor] = []
    for shard in shards:
        for tensor in read_safetensors(shard):
            if tensor.name in home:
                raise ModelError(
                    f'the tensor "{tensor.name[:64]}" lies in {home[tensor.name]} too',
                    where=str(shard),
                    advice=DAMAGED,
                )
            home[tensor.name] = shard.name
            tensors.append(tensor)
    for name, file in (listed or {}).items():
        if home.get(name) != file:
            raise ModelError(
                f'weight_map says that {file} holds the tensor "{name[:64]}", and it does not',
                where=str(path / INDEX),
                advice="The files are of different models: download all of them again",
            )
    return tensors


def _notes(path: Path, config: Config, language: LanguageModelFacts) -> tuple[str, ...]:
    if not language.tokenizer:
        ids_only = "the directory holds no tokenizer, so the model takes token ids only"
        return (ids_only,) if config.is_causal else ()
    if language.tokenizer.endswith(".json") and not _is_whole(path / language.tokenizer):
        return (f"{language.tokenizer} is damaged: it is no whole JSON object",)
    return ()


def _is_whole(path: Path) -> bool:
    """Return whether a JSON file starts and ends as an object; large ones take long to parse."""
    try:
        with path.open("rb") as file:
            start = file.read(_EDGE_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
            file.seek(-min(_EDGE_BYTES, path.stat().st_size), os.SEEK_END)
            end = file.read(_EDGE_BYTES).rstrip()
    except OSError:
        return False
    return start.startswith(b"{") and end.endswith(b"}")


def _has_chat_template(path: Path) -> bool:
    if (path / "chat_template.jinja").is_file() or (path / "chat_template.json").is_file():
        return True
    settings = path / "tokenizer_config.json"
    return settings.is_file() and "chat_template" in read_json(settings)


def _workload(
    config: Config,
    language: LanguageModelFacts,
    weights: Sequence[LogicalWeight],
    auxiliary: dict[str, int],
) -> Workload:
    if not config.is_causal:
        return Workload(
            None, None, "a configuration without a graph tells the work of text decoders only"
        )
    if set(config.raw) & {"vision_config", "audio_config"}:
        return Workload(
            None, None, "the model reads more than text, and its parts run at different rates"
        )
    embedding = embedding_of(weights)
    return token_workload(
        (
            Weight(
                weight.elements,
                weight.stored_bytes + auxiliary.get(module_of(weight.name), 0),
                rows=weight.shape[0] if weight is embedding and weight.shape else 0,
                is_output=language.tied_embeddings,
                is_expert=_EXPERT.search(weight.name) is not None,
            )
            for weight in weights
        ),
        experts=language.experts,
        experts_per_token=language.experts_per_token,
    )
