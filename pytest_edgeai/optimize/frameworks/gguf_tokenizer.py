"""A Hugging Face ``tokenizer.json`` as the tokenizer of a GGUF file.

Sources: https://huggingface.co/docs/tokenizers (the file's parts), "Tokenizer" in
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (the keys), and llama.cpp's
``src/llama-vocab.cpp`` (the regular expressions behind each name of a pre-tokenizer).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from pytest_edgeai.assess.huggingface_config import read_json
from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.huggingface_tokenizer import TOKENIZER

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _CONTRACTIONS + _WORDS + r"\p{N}{1,3}" + _REST
_QWEN2 = _CONTRACTIONS + _WORDS + r"\p{N}" + _REST
_SPACE = "▁"
_BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
_UNKNOWN_SCORE = -1e6


@dataclass(frozen=True)
class GgufTokenizer:
    """A tokenizer in the words of GGUF.

    Attributes:
        model: ``gpt2`` (byte-level), ``llama`` (SentencePiece-like) or ``no_vocab`` (ids only).
        pre: name of the pre-tokenizer; empty where the model has none.
        tokens: text of each id.
        types: kind of each id.
        scores: the larger, the earlier a piece is merged; empty for byte-level models.
        merges: pairs in order of rank; empty for SentencePiece-like models.
        space_prefix: whether a space goes before the text; ``None`` where it is not stated.
        note: what a reader should know.
    """

    model: str = "no_vocab"
    pre: str = ""
    tokens: tuple[str, ...] = ()
    types: tuple[gguf.TokenType, ...] = ()
    scores: tuple[float, ...] = ()
    merges: tuple[str, ...] = ()
    space_prefix: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class SpecialTokens:
    """Ids with a meaning.

    Attributes:
        ids: role (``bos``, ``eos``, ``unk``, ``pad``, ``eot``, ``eom``) to id.
        add_bos: whether a text begins with ``bos``; ``None`` where it is not stated.
        add_eos: whether a text ends with ``eos``; ``None`` where it is not stated.
        chat_template: Jinja source; empty without one.
    """

    ids: Mapping[str, int]
    add_bos: bool | None
    add_eos: bool | None
    chat_template: str


def read_tokenizer(directory: Path, vocabulary: int) -> GgufTokenizer:
    """Read the tokenizer of a directory; one that GGUF has no equal of is left out with a note.

    Args:
        directory: the Hugging Face directory.
        vocabulary: rows of the embedding; ids without a text are filled up.

    Raises:
        ModelError: ``tokenizer.json`` is damaged, or knows more tokens than the embedding.
    """
    path = directory / TOKENIZER
    if not path.is_file():
        return GgufTokenizer(note=f"the directory holds no {TOKENIZER}")
    content = _read_large_json(path)
    model = content.get("model")
    kind = model.get("type", "BPE") if isinstance(model, dict) else None
    if not isinstance(model, dict) or kind != "BPE":
        return GgufTokenizer(note=f"its tokenizer is of the kind {str(kind)[:40]}, not BPE")
    try:
        return _read_bpe(content, model, vocabulary)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"the tokenizer is broken ({type(error).__name__}: {str(error)[:80]})",
            where=str(path),
            advice="The file is truncated or damaged: download or export it again",
        ) from None
    except _Impossible as error:
        raise ModelError(str(error), where=str(path)) from None


def read_special_tokens(
    directory: Path, config: Mapping[str, Any], tokens: tuple[str, ...], vocabulary: int
) -> SpecialTokens:
    """Read which ids begin and end a text, and the chat template.

    Args:
        directory: the Hugging Face directory.
        config: content of ``config.json``.
        tokens: text of each id; empty without a tokenizer.
        vocabulary: ids at or above it are left out.

    Raises:
        ModelError: ``tokenizer_config.json`` or ``generation_config.json`` is no JSON object.
    """
    generation = _optional_json(directory / "generation_config.json")
    settings = _optional_json(directory / "tokenizer_config.json")
    ids: dict[str, int] = {}
    for role in ("bos", "eos", "unk", "pad"):
        found = [*_ids(generation, role), *_ids(config, role)]
        text = settings.get(f"{role}_token")
        text = text.get("content") if isinstance(text, dict) else text
        if isinstance(text, str) and text in tokens:
            found.insert(0, tokens.index(text))
        # llama.cpp knows three ids that end a text.
        names = ("eos", "eot", "eom") if role == "eos" else (role,)
        usable = [each for each in dict.fromkeys(found) if each < vocabulary]
        ids.update(zip(names, usable, strict=False))
    template = settings.get("chat_template")
    separate = directory / "chat_template.jinja"
    if separate.is_file():
        template = separate.read_text(encoding="utf-8", errors="replace")
    return SpecialTokens(
        ids,
        _flag(settings, "add_bos_token"),
        _flag(settings, "add_eos_token"),
        template if isinstance(template, str) else "",
    )


class _Impossible(Exception):
    pass


def _read_bpe(
    content: Mapping[str, Any], model: Mapping[str, Any], vocabulary: int
) -> GgufTokenizer:
    added = content.get("added_tokens") or []
    texts = {int(index): str(text) for text, index in model["vocab"].items()}
    texts.update({int(entry["id"]): str(entry["content"]) for entry in added})
    if texts and (max(texts) >= vocabulary or min(texts) < 0):
        raise _Impossible(
            f"its highest token id is {max(texts)}, and the embedding has {vocabulary} rows"
        )
    special = {int(entry["id"]): bool(entry.get("special")) for entry in added}
    unknown = model.get("unk_token")
    steps = list(_steps(content.get("pre_tokenizer")))
    byte_level = any(step.get("type") == "ByteLevel" for step in steps)
    pieces = not byte_level and model.get("byte_fallback") is True
    tokens: list[str] = []
    types: list[gguf.TokenType] = []
    for index in range(vocabulary):
        text = texts.get(index)
        if text is None:
            kind = gguf.TokenType.UNUSED
        elif pieces and text == unknown:
            kind = gguf.TokenType.UNKNOWN
        elif pieces and text in _BYTES:
            kind = gguf.TokenType.BYTE
        elif index in special:
            kind = gguf.TokenType.CONTROL if special[index] else gguf.TokenType.USER_DEFINED
        else:
            kind = gguf.TokenType.NORMAL
        tokens.append(f"[PAD{index}]" if text is None else text)
        types.append(kind)
    if len(set(tokens)) != len(tokens):
        raise _Impossible("two of its token ids have the same text")
    merges = tuple(_merges(model))
    if byte_level:
        pre, note = _pre_tokenizer(steps, model.get("ignore_merges") is True)
        return GgufTokenizer("gpt2", pre, tuple(tokens), tuple(types), (), merges, None, note)
    if pieces:
        scores = _scores(tokens, merges)
        prefix = _has_space_prefix(content)
        return GgufTokenizer("llama", "", tuple(tokens), tuple(types), scores, (), prefix)
    return GgufTokenizer(note="its BPE is neither byte-level nor SentencePiece-like")


def _pre_tokenizer(steps: list[Mapping[str, Any]], ignores_merges: bool) -> tuple[str, str]:
    """Return llama.cpp's name of a pre-tokenizer, and a note where the two differ."""
    name = _name_of(steps, ignores_merges)
    if not name:
        return "default", "its pre-tokenizer is none that llama.cpp has a name for"
    if steps[-1].get("add_prefix_space") is True:
        return name, "tokenizer.json puts a space before the text, and llama.cpp does not"
    return name, ""


def _name_of(steps: list[Mapping[str, Any]], ignores_merges: bool) -> str:
    kinds = [step.get("type") for step in steps]
    splits_itself = steps[-1].get("use_regex", True) is not False
    if kinds == ["ByteLevel"] and splits_itself:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and splits_itself and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not splits_itself:
        pattern = steps[0].get("pattern") or {}
        expression = pattern.get("Regex") if isinstance(pattern, dict) else None
        if expression == _LLAMA3:
            return "llama-bpe" if ignores_merges else "smaug-bpe"
        if expression == _QWEN2:
            return "qwen2"
    return ""


def _merges(model: Mapping[str, Any]) -> Iterator[str]:
    for merge in model["merges"]:
        if isinstance(merge, str):
            yield merge
        else:
            # A space inside of a part would read as the one between the parts.
            first, second = (part.replace(" ", chr(ord(" ") + 256)) for part in merge)
            yield f"{first} {second}"


def _scores(tokens: list[str], merges: tuple[str, ...]) -> tuple[float, ...]:
    """Return scores that make SentencePiece's algorithm merge in the order of the ranks."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault("".join(merge.split(" ", 1)), rank)
    return tuple(float(-ranks[text]) if text in ranks else _UNKNOWN_SCORE for text in tokens)


def _has_space_prefix(content: Mapping[str, Any]) -> bool:
    for step in (*_steps(content.get("normalizer")), *_steps(content.get("pre_tokenizer"))):
        if step.get("type") == "Prepend" and step.get("prepend") == _SPACE:
            return True
        if step.get("type") == "Metaspace":
            return str(step.get("prepend_scheme", "always")) != "never"
    return False


def _steps(part: object) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of a normalizer or pre-tokenizer, sequences unrolled."""
    if isinstance(part, dict):
        inner = part.get("pretokenizers") or part.get("normalizers")
        if part.get("type") == "Sequence" and isinstance(inner, list):
            for each in inner:
                yield from _steps(each)
        else:
            yield part


def _read_large_json(path: Path) -> Mapping[str, Any]:
    # read_json refuses files above 16 MiB; the tokenizers of large vocabularies have 20.
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"the file cannot be read ({error.strerror or error})", where=str(path)
        ) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"the tokenizer is broken: {str(error)[:80]}",
            where=str(path),
            advice="The file is truncated or damaged: download or export it again",
        ) from None
    if not isinstance(found, dict):
        raise ModelError("the tokenizer is broken: no JSON object", where=str(path))
    return found


def _optional_json(path: Path) -> Mapping[str, Any]:
    return read_json(path) if path.is_file() else {}


def _ids(table: Mapping[str, Any], role: str) -> list[int]:
    value = table.get(f"{role}_token_id")
    listed = value if isinstance(value, list) else [value]
    return [each for each in listed if type(each) is int and each >= 0]


def _flag(table: Mapping[str, Any], key: str) -> bool | None:
    value = table.get(key)
    return value if isinstance(value, bool) else None
