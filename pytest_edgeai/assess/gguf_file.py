"""The structure of a GGUF model, split over several files or not.

Keys: "Standardized key-value pairs" of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
Tensor names: the same document, "Standardized tensor names". Files split by llama-gguf-split carry
``split.no`` (from 0) and ``split.count`` (llama.cpp, tools/gguf-split).
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from pytest_edgeai.assess.ggml_types import ARCHITECTURES, ENCODERS, FILE_TYPES, NO_TEXT
from pytest_edgeai.assess.gguf_container import (
    DAMAGED,
    GgufFile,
    GgufTensor,
    MetadataArray,
    read_container,
)
from pytest_edgeai.assess.structure import ModelStructure, Workload
from pytest_edgeai.assess.token_workload import Weight, token_workload
from pytest_edgeai.errors import ModelError
from pytest_edgeai.records import Architecture, LanguageModelFacts

_EMBEDDING = "token_embd.weight"
_OUTPUT = "output.weight"
# Tables of which one row is read per token.
_LOOKUPS = frozenset(
    {_EMBEDDING, "position_embd.weight", "token_types.weight", "per_layer_token_embd.weight"}
)
_EXPERTS = re.compile(r"_exps(\.|$)")
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_MOST_SHARDS = 10_000


def read_gguf(path: Path) -> ModelStructure:
    """Read the structure of a GGUF model.

    An architecture that llama.cpp does not know is reported in ``language.is_known`` and ``notes``.

    Args:
        path: an existing ``.gguf`` file; of a split model the first file.

    Raises:
        ModelError: as ``read_container``; if the architecture is not stated or there is no tensor;
            if a file of a split model is missing or of another model.
    """
    first = read_container(path)
    files = (first, *_other_shards(first))
    tensors = [tensor for file in files for tensor in file.tensors]
    family = first.metadata.get("general.architecture")
    if not isinstance(family, str) or not family:
        raise ModelError(
            "the GGUF file does not state its architecture (general.architecture)",
            where=str(path),
            advice="Convert the model again",
        )
    if not tensors:
        raise ModelError(
            "the GGUF file holds no tensor (a vocabulary alone is no model)",
            where=str(path),
            advice="Name the file with the weights",
        )
    language = _language(first, family, tensors)
    elements: Counter[str] = Counter()
    rows: Counter[int] = Counter()
    for tensor in tensors:
        elements[tensor.type.name] += tensor.elements
        if len(tensor.dims) > 1:
            rows[tensor.dims[0]] += tensor.elements
    quantized = any(tensor.type.is_quantized for tensor in tensors)
    return ModelStructure(
        path=path,
        format="gguf",
        files=tuple(file.path for file in files),
        size_bytes=sum(file.size_bytes for file in files),
        opset=0,
        inputs=(),
        outputs=(),
        operators={},
        parameters=sum(elements.values()),
        weight_elements=dict(sorted(elements.items())),
        quantized_operators={},
        architecture=_architecture(family, language),
        workload=_workload(family, language, tensors),
        quantization=_scheme(first, elements) if quantized else "",
        language=language,
        notes=_notes(family, language),
        row_elements=dict(sorted(rows.items())),
    )


def _other_shards(first: GgufFile) -> list[GgufFile]:
    count = first.metadata.get("split.count", 0)
    if type(count) is not int or count <= 1:
        return []
    name = _SHARD.fullmatch(first.path.name)
    where = str(first.path)
    if count > _MOST_SHARDS or name is None or int(name["count"]) != count:
        raise ModelError(
            f"the model is split over {count} files, which the file's name does not say",
            where=where,
            allowed=f"a name that ends in -00001-of-{count:05}.gguf",
        )
    if int(name["number"]) != 1 or first.metadata.get("split.no", 0) != 0:
        raise ModelError(
            f"this is file {int(name['number'])} of a model split over {count}",
            where=where,
            advice=f"Name the first one: {name['stem']}-00001-of-{count:05}.gguf",
        )
    shards: list[GgufFile] = []
    seen = {tensor.name for tensor in first.tensors}
    for number in range(2, count + 1):
        path = first.path.with_name(f"{name['stem']}-{number:05}-of-{count:05}.gguf")
        if not path.is_file():
            raise ModelError(
                f"the model is split over {count} files and {path.name} is missing",
                where=where,
                advice="Copy all of its files",
            )
        shard = read_container(path)
        if shard.metadata.get("split.no") != number - 1:
            raise ModelError(
                f"split.no is {shard.metadata.get('split.no')}, not {number - 1}",
                where=str(path),
                advice="Copy the files of the model again, under their own names",
            )
        for tensor in shard.tensors:
            if tensor.name in seen:
                raise ModelError(
                    f'the tensor "{tensor.name[:64]}" lies in an earlier file of the model too',
                    where=str(path),
                    advice=DAMAGED,
                )
            seen.add(tensor.name)
        shards.append(shard)
    return shards


def _language(file: GgufFile, family: str, tensors: list[GgufTensor]) -> LanguageModelFacts:
    def number(key: str) -> int | None:
        value = file.metadata.get(f"{family}.{key}")
        if isinstance(value, MetadataArray):
            # One value per block; alike in all of them, or not one number.
            same = len(set(value.values)) == 1 and value.length == len(value.values)
            value = value.values[0] if same else None
        return value if type(value) is int and value > 0 else None

    by_name = {tensor.name: tensor for tensor in tensors}
    embedding = by_name.get(_EMBEDDING)
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    vocabulary = number("vocab_size")
    if embedding is not None and len(embedding.dims) == 2:
        vocabulary = embedding.dims[1]
    elif vocabulary is None and isinstance(tokens, MetadataArray):
        vocabulary = tokens.length
    hidden, heads = number("embedding_length"), number("attention.head_count")
    tokenizer = file.metadata.get("tokenizer.ggml.model", "")
    has_tokens = isinstance(tokens, MetadataArray) and tokens.length > 0
    return LanguageModelFacts(
        family=family,
        is_known=family in ARCHITECTURES,
        context_length=number("context_length"),
        vocabulary=vocabulary,
        hidden_size=hidden,
        layers=number("block_count"),
        heads=heads,
        kv_heads=number("attention.head_count_kv") or heads,
        head_size=number("attention.key_length")
        or (hidden // heads if hidden and heads and not hidden % heads else None),
        experts=number("expert_count") or 0,
        experts_per_token=number("expert_used_count") or 0,
        tokenizer=str(tokenizer) if has_tokens else "",
        has_chat_template="tokenizer.chat_template" in file.metadata,
        tied_embeddings=embedding is not None and _OUTPUT not in by_name,
    )


def _architecture(family: str, language: LanguageModelFacts) -> Architecture:
    if family in NO_TEXT:
        return "other"
    if family in ENCODERS:
        return "transformer"
    return "mixture-of-experts" if language.experts else "language-model"


def _workload(family: str, language: LanguageModelFacts, tensors: list[GgufTensor]) -> Workload:
    if family in NO_TEXT or family == "t5":
        return Workload(None, None, f'a "{family}" model does not pass every token through it once')
    return token_workload(
        (
            Weight(
                tensor.elements,
                tensor.stored_bytes,
                rows=tensor.dims[-1] if tensor.name in _LOOKUPS and tensor.dims else 0,
                is_output=tensor.name == _EMBEDDING
                and language.tied_embeddings
                and family not in ENCODERS,
                is_expert=_EXPERTS.search(tensor.name) is not None,
            )
            for tensor in tensors
        ),
        experts=language.experts,
        experts_per_token=language.experts_per_token,
    )


def _scheme(file: GgufFile, elements: Counter[str]) -> str:
    stated = file.metadata.get("general.file_type")
    known = FILE_TYPES.get(stated) if type(stated) is int else None
    # Without a statement the type of most weights names the scheme.
    return known or elements.most_common(1)[0][0]


def _notes(family: str, language: LanguageModelFacts) -> tuple[str, ...]:
    notes = []
    if not language.is_known:
        notes.append(f'the architecture "{family[:64]}" is none that llama.cpp is known to run')
    if not language.tokenizer:
        notes.append("the file holds no tokenizer, so it takes token ids only")
    return tuple(notes)
