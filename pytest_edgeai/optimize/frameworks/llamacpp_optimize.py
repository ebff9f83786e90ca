"""GGUF artifacts: conversion from Hugging Face, and quantizing by llama.cpp itself."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_edgeai.assess.ggml_types import GGML_TYPES
from pytest_edgeai.assess.gguf_container import read_container
from pytest_edgeai.errors import ModelError, did_you_mean
from pytest_edgeai.optimize.frameworks.base import OptimizeRequest, OptimizeResult, Progress
from pytest_edgeai.optimize.frameworks.gguf_convert import Conversion, convert_directory
from pytest_edgeai.optimize.frameworks.huggingface_tokenizer import tokenize_directory
from pytest_edgeai.optimize.frameworks.llamacpp_api import (
    LOG,
    available_cpus,
    llama_cpp,
    read_runnable,
    set_parameter,
    tokenize_file,
)
from pytest_edgeai.optimize.frameworks.support import Options

_ARTIFACT = "model.gguf"
_BLOCKS = {each.name: each.block_elements for each in GGML_TYPES.values()}
_SMALLEST_BLOCK = 32  # of the types that llama.cpp falls back to
_STEP = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")
# Scripts, digits, contractions, white space and an emoji: where pre-tokenizers part ways.
_SAMPLE = (
    "It's 2024; they'll pay $1,234.56!\n\n\tdef f(x):\n        return x**2  # naïve\r\n"
    "Größe ÜBER straße, кот и пёс, 東京タワー, नमस्ते,   \U0001f999 e\u0301 ... 'quoted'   \n  end"
)


@dataclass(frozen=True)
class Scheme:
    """One of llama.cpp's ways to quantize.

    Attributes:
        file_type: name of its ``llama_ftype``.
        types: the tensor types that it chooses where every row can take them
            (``llama_tensor_get_type`` in llama.cpp, src/llama-quant.cpp).
    """

    file_type: str
    types: frozenset[str]


SCHEMES: Mapping[str, Scheme] = {
    "q4_k_m": Scheme("LLAMA_FTYPE_MOSTLY_Q4_K_M", frozenset({"q4_k", "q5_k", "q6_k"})),
    "q8_0": Scheme("LLAMA_FTYPE_MOSTLY_Q8_0", frozenset({"q8_0"})),
    "q4_0": Scheme("LLAMA_FTYPE_MOSTLY_Q4_0", frozenset({"q4_0", "q6_k"})),
    "q2_k": Scheme("LLAMA_FTYPE_MOSTLY_Q2_K", frozenset({"q2_k", "q3_k", "q4_k", "q6_k"})),
}
"""Scheme name to what llama.cpp does."""


def optimize(request: OptimizeRequest, progress: Progress) -> OptimizeResult:
    """Make one artifact, ``model.gguf``.

    Schemes: ``convert`` (a GGUF file is copied, a Hugging Face directory keeps the precision of
    its weights), ``q4_k_m``, ``q8_0``, ``q4_0`` and ``q2_k``. Options of the quantizing ones:
    ``allow_requantize`` (take weights that are quantized already) and ``pure`` (every tensor in
    the scheme's main type).

    Raises:
        ModelError: the source is damaged, has no exact conversion or is quantized already, or the
            recipe is unknown.
    """
    scheme = request.recipe.scheme
    if scheme != "convert" and scheme not in SCHEMES:
        known = ("convert", *SCHEMES)
        raise ModelError(
            f'llama.cpp has no scheme "{scheme}"',
            allowed=", ".join(known),
            advice=did_you_mean(scheme, known),
        )
    options = Options(request.recipe)
    if scheme == "convert":
        options.finish()
        return _convert(request.source, request.output, progress)
    allow_requantize = options.flag("allow_requantize", False)
    pure = options.flag("pure", False)
    options.finish()
    artifact = request.output / _ARTIFACT
    log: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory(prefix="full-", dir=request.output) as folder:
        source = request.source
        if source.is_dir():
            made = _convert(source, Path(folder), _part(progress, 0.0, 0.3))
            source, log = made.path, made.log
        elif (precision := read_runnable(source).quantization) and not allow_requantize:
            raise ModelError(
                f"the weights are quantized already ({precision}), and quantizing them again "
                "adds to their error",
                where=str(source),
                advice="Name the model at full precision, or set the recipe's option "
                '"allow_requantize" to true',
            )
        _quantize(source, artifact, scheme, allow_requantize, pure, _part(progress, 0.3, 1.0))
    progress("done", 1.0)
    return OptimizeResult(artifact, (*log, *describe(artifact, scheme)))


def describe(artifact: Path, scheme: str) -> tuple[str, ...]:
    """Return what a quantized file holds: types, and every tensor that has another than it should.

    Args:
        artifact: the written file.
        scheme: one of :data:`SCHEMES`.
    """
    weights = [tensor for tensor in read_container(artifact).tensors if len(tensor.dims) > 1]
    elements: Counter[str] = Counter()
    counts: Counter[str] = Counter(tensor.type.name for tensor in weights)
    fallen: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for tensor in weights:
        elements[tensor.type.name] += tensor.elements
        if tensor.type.name not in SCHEMES[scheme].types:
            fallen[tensor.type.name, tensor.dims[0]].append(tensor.name)
    total = sum(elements.values())
    shares = ", ".join(
        f"{100 * count / total:.1f}% {name} ({counts[name]} of {len(weights)} tensors)"
        for name, count in elements.most_common()
    )
    lines = [f"{scheme}: {shares}"]
    blocks = sorted({_SMALLEST_BLOCK, *(_BLOCKS[name] for name in SCHEMES[scheme].types)})
    for (kind, row), names in fallen.items():
        block = next((each for each in blocks if row % each), 0)
        what = f"fell back to {kind}, because rows of {row} elements are no multiple of {block}"
        if not block:
            what = f"stay {kind} by llama.cpp's choice"
        count = f"{len(names)} tensors" if len(names) > 1 else "1 tensor"
        lines.append(f"{scheme}: {count} {what}: {', '.join(names)}")
    return tuple(lines)


def _convert(source: Path, output: Path, progress: Progress) -> OptimizeResult:
    if source.is_dir():
        artifact = output / _ARTIFACT
        made = convert_directory(source, artifact, progress)
        return OptimizeResult(artifact, (*made.log, *_compare_tokenizers(source, artifact, made)))
    structure = read_runnable(source)
    names = [_ARTIFACT] if len(structure.files) == 1 else [file.name for file in structure.files]
    for index, (file, name) in enumerate(zip(structure.files, names, strict=True)):
        progress("copying", index / len(names))
        shutil.copyfile(file, output / name)
    progress("done", 1.0)
    held = structure.quantization or ", ".join(structure.weight_elements)
    return OptimizeResult(output / names[0], (f"copied as it is: {held}",))


def _compare_tokenizers(source: Path, artifact: Path, made: Conversion) -> tuple[str, ...]:
    """Say whether llama.cpp splits a sample text like ``tokenizer.json`` does."""
    if not made.tokenizer.tokens:
        return ()
    found = tokenize_file(artifact, _SAMPLE)
    try:
        wanted = tokenize_directory(source, _SAMPLE)
    except ModelError as error:
        return (f"the tokenizer was not compared with tokenizer.json: {error.what}",)
    if found.tolist() == wanted.tolist():
        return (f"llama.cpp and tokenizer.json split a sample text into the same {len(found)} ids",)
    return (
        "llama.cpp and tokenizer.json split a sample text differently: feed both the same token "
        "ids, not text",
    )


def _quantize(
    source: Path,
    artifact: Path,
    scheme: str,
    allow_requantize: bool,
    pure: bool,
    progress: Progress,
) -> None:
    parameters = llama_cpp.llama_model_quantize_default_params()
    set_parameter(parameters, "ftype", getattr(llama_cpp, SCHEMES[scheme].file_type))
    set_parameter(parameters, "nthread", available_cpus())  # changes the time alone
    set_parameter(parameters, "allow_requantize", allow_requantize)
    set_parameter(parameters, "pure", pure)
    LOG.clear()
    with _steps(progress, f"quantizing to {scheme}"):
        status = llama_cpp.llama_model_quantize(
            os.fsencode(source), os.fsencode(artifact), ctypes.byref(parameters)
        )
    if status:
        raise ModelError(
            f"llama.cpp cannot quantize the model: {LOG.why() or f'status {status}'}",
            where=str(source),
        )


@contextmanager
def _steps(progress: Progress, what: str) -> Iterator[None]:
    """Report progress from the lines that llama.cpp logs for each tensor."""

    def listen(line: str) -> None:
        if step := _STEP.search(line):
            progress(what, int(step[1]) / max(int(step[2]), 1))

    LOG.listeners.append(listen)
    try:
        progress(what, 0.0)
        yield
    finally:
        LOG.listeners.remove(listen)


def _part(progress: Progress, begin: float, end: float) -> Progress:
    def report(what: str, fraction: float) -> None:
        progress(what, begin + (end - begin) * fraction)

    return report
