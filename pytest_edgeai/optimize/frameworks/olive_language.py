"""Olive's route from a Hugging Face directory to ONNX Runtime GenAI: float32, INT4 and INT8."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import OptimizeRequest, OptimizeResult, Progress
from pytest_edgeai.optimize.frameworks.checkpoint import Checkpoint
from pytest_edgeai.optimize.frameworks.genai import CONFIG, INSTALL
from pytest_edgeai.optimize.frameworks.olive_workflow import (
    JSONTable,
    Outcome,
    collect,
    no_artifact,
    run_workflow,
)
from pytest_edgeai.optimize.frameworks.support import Options, Report, listed, one_line

LANGUAGE_SCHEMES = ("int4-genai", "int8-genai")
_BITS = {"int4-genai": 4, "int8-genai": 8}
_BLOCK_SIZES = (16, 32, 64, 128, 256)
_ALGORITHMS = ("default", "rtn", "k_quant_last", "k_quant_mixed")
_COMPUTE_IN_INT8 = 4  # MatMulNBits, accuracy_level 4: activations in 8 bits, ContribOperators.md
_PACKAGE = "onnxruntime_genai.models"
_BUILDER = f"{_PACKAGE}.builder"
_IN_A_LAYER = re.compile(r"\.\d+\.")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
# What Olive keeps beside a model for itself.
_NOT_THE_MODEL = frozenset(
    {"footprint.json", "model_config.json", "output_footprint.json", "run_history.txt"}
)


def make_language_model(
    request: OptimizeRequest, options: Options, progress: Progress
) -> OptimizeResult:
    """Make ``model.onnx`` with ``genai_config.json`` and the tokenizer beside it.

    Schemes: ``convert`` (float32), ``int4-genai`` (the model builder's INT4) and ``int8-genai``
    (Olive's block-wise rounding of the float32 decoder, because the builder has no INT8).

    Raises:
        ModelError: Olive cannot take this model or recipe, or made something else than the recipe
            claims; says why.
    """
    scheme = request.recipe.scheme
    builder: JSONTable = {"type": "ModelBuilder", "precision": "fp32", **_TRUST_NOTHING}
    passes = {"build": builder}
    if scheme == "int4-genai":
        builder["precision"] = "int4"
        builder["int4_block_size"] = _block_size(options, 32)
        builder["int4_accuracy_level"] = _COMPUTE_IN_INT8
        builder["int4_algo_config"] = options.choice("algorithm", "default", _ALGORITHMS)
    elif scheme == "int8-genai":
        passes["quantize"] = {
            "type": "OnnxBlockWiseRtnQuantization",
            "bits": 8,
            "block_size": _block_size(options, 32),
            "accuracy_level": _COMPUTE_IN_INT8,
            "save_as_external_data": True,
        }
    options.finish()
    _check_source(request)
    with (
        Report(()) as report,
        tempfile.TemporaryDirectory(prefix="olive-", dir=request.output) as folder,
    ):
        progress("building the decoder", 0.05)
        source = request.source.resolve()
        has_tokenizer = any((source / name).is_file() for name in _TOKENIZERS)
        if not has_tokenizer:
            report.add("the model comes without a tokenizer, and so does the artifact")
            source = _with_stand_in(source, Path(folder, "source"))
        model: JSONTable = {
            "type": "HfModel",
            "model_path": str(source),
            "load_kwargs": {"trust_remote_code": False},
        }
        outcome = run_workflow(model, passes, Path(folder), report)
        made = outcome.path
        if made is None and any(_PACKAGE in word for word in outcome.words):
            version = metadata.version("onnxruntime-genai")
            report.add(
                f"olive cannot drive onnxruntime-genai {version}: {outcome.words[-1]}; the model "
                "builder was called directly"
            )
            made, outcome = _build_directly(source, passes, Path(folder, "direct"), report)
        if made is None:
            raise no_artifact(request, outcome)
        progress("checking", 0.9)
        _name_logits(made)
        _check_precision(request, made)
        for file in sorted(made.parent.iterdir()):
            is_stand_in = not has_tokenizer and file.name.startswith(
                ("tokenizer", "special_tokens")
            )
            if file.is_file() and file.name not in _NOT_THE_MODEL and not is_stand_in:
                shutil.move(file, request.output / file.name)
        artifact = request.output / made.name
        progress("done", 1.0)
    return OptimizeResult(artifact, tuple(report.lines))


# The builder would otherwise run code that comes with a model, and look for a token.
_TRUST_NOTHING: JSONTable = {"extra_options": {"hf_remote": False, "hf_token": "false"}}


def _build_directly(
    source: Path, passes: Mapping[str, JSONTable], folder: Path, report: Report
) -> tuple[Path | None, Outcome]:
    """Call onnxruntime-genai's builder as Olive's pass does, and leave the other pass to Olive.

    Returns:
        the decoder, and what was said where there is none.
    """
    build = passes["build"]
    settings = {
        **build["extra_options"],
        **{name: value for name, value in build.items() if name.startswith("int4_")},
    }
    built = folder / "built"
    words = [sys.executable, "-m", _BUILDER, "-m", str(source), "-o", str(built)]
    words += ["-p", build["precision"], "-e", "cpu", "-c", str(folder / "cache")]
    words += ["--extra_options", *(f"{name}={value}".lower() for name, value in settings.items())]
    # By its command line: what its function wants changes from version to version.
    ended = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if line.strip()]
        return None, Outcome(None, (lines[-1] if lines else f"exit code {ended.returncode}",))
    made = built / "model.onnx"
    if "quantize" not in passes:
        return made, Outcome(made, ())
    again = folder / "again"
    again.mkdir()
    model = {"type": "ONNXModel", "model_path": str(made)}
    outcome = run_workflow(model, {"quantize": passes["quantize"]}, again, report)
    if outcome.path is None:
        return None, outcome
    for file in built.glob("model.onnx*"):
        file.unlink()
    return collect(outcome.path, built), outcome


def _with_stand_in(source: Path, folder: Path) -> Path:
    """Return a directory of links to the model's files and a tokenizer that knows one word.

    The builder copies the tokenizer, and fails where there is none.
    """
    folder.mkdir()
    for file in source.iterdir():
        if file.is_file():
            try:
                (folder / file.name).symlink_to(file)
            except OSError:  # Windows permits links to few
                shutil.copyfile(file, folder / file.name)
    word = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
    table: JSONTable = {"version": "1.0", "added_tokens": [], "model": word}
    (folder / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").unlink(missing_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps(kind), encoding="utf-8")
    return folder


def _block_size(options: Options, default: int) -> int:
    size = options.count("block_size", default)
    if size not in _BLOCK_SIZES:
        raise ModelError(
            f'option "block_size" is {size}', allowed=", ".join(str(each) for each in _BLOCK_SIZES)
        )
    return size


def _check_source(request: OptimizeRequest) -> None:
    """Refuse what the builder would fail on, or do wrong without a word.

    Raises:
        ModelError: the source is no Hugging Face directory, a matrix of its layers has as many
            rows as the vocabulary (``Model.has_lm_head`` of builder 0.14.0 looks at nothing else),
            or onnxruntime-genai is not installed.
    """
    source = request.source
    if not source.is_dir():
        raise ModelError(
            f'"{request.recipe.scheme}" takes a Hugging Face directory, and this is a file',
            where=str(source),
            allowed="a directory with config.json and *.safetensors",
        )
    checkpoint = Checkpoint(source)  # says what is wrong far better than the builder
    vocabulary = _read_json(source / "config.json").get("vocab_size")
    for name, tensor in checkpoint.tensors.items():
        if _IN_A_LAYER.search(name) and len(tensor.shape) == 2 and tensor.shape[0] == vocabulary:
            raise ModelError(
                f'"{name[:64]}" has as many rows as the vocabulary, {vocabulary}: the builder of '
                "onnxruntime-genai tells the output layer by that number, and would take one for "
                "the other without an error",
                where=str(source),
                advice="Pad the vocabulary by some tokens, or use another framework",
            )
    try:
        metadata.version("onnxruntime-genai")
    except metadata.PackageNotFoundError:
        raise ModelError(
            "olive makes language models with onnxruntime-genai", advice=INSTALL
        ) from None


def _name_logits(path: Path) -> None:
    """Give the logits the name that ``genai_config.json`` expects.

    The quantization pass renames the output of every node it replaces, that of the graph included.
    """
    import onnx

    wanted = _read_json(path.parent / CONFIG)["model"]["decoder"]["outputs"]["logits"]
    model = onnx.load(path, load_external_data=False)
    outputs = [value for value in model.graph.output if not value.name.startswith("present")]
    if len(outputs) != 1 or outputs[0].name == wanted:
        return
    present = outputs[0].name
    outputs[0].name = wanted
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == present:
                    names[index] = wanted
    onnx.save(model, path)


def _check_precision(request: OptimizeRequest, path: Path) -> None:
    bits = _BITS.get(request.recipe.scheme)
    structure = read_structure(path)
    found = structure.weight_elements
    packed = sum(found.get(f"{kind}{bits}", 0) for kind in ("int", "uint"))
    whole = found.get("float32", 0)
    # Embeddings and norms may stay as they are; the products hold most weights of any decoder.
    proven = packed > 0 and bool(structure.quantized_operators) if bits else whole > 0
    if not proven or (not bits and structure.quantized_operators):
        raise ModelError(
            f"olive reported success and made no {request.recipe.scheme}: the weights are "
            f"{listed(found)}",
            where=str(request.source),
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(f"the file cannot be read: {one_line(error)}", where=str(path)) from error
