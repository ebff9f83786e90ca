"""ONNX Runtime GenAI: running the language models that Olive makes."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.optimize.frameworks.base import ExecutionFacts
from pytest_edgeai.optimize.frameworks.language import MEMORY_MAPPING
from pytest_edgeai.optimize.frameworks.support import one_line
from pytest_edgeai.records import RuntimeOptions

CONFIG = "genai_config.json"
"""The file that makes a directory a model of ONNX Runtime GenAI."""

INSTALL = "pip install onnxruntime-genai==0.14.0"
"""The newest version that Olive 0.13 works with."""

_ERRORS_ONLY = 3  # ORT_LOGGING_LEVEL_ERROR
_NO_TOKEN = -1
_LEVEL = frozenset({"graph_optimization_level"})
_KV_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1}

# logits = table[input_ids], with a table of 2 x 2, of opset 13.
_NULL_DECODER = bytes.fromhex(
    "080812003a8a010a220a057461626c650a09696e7075745f69647312066c6f67697473220647617468657212"
    "046e756c6c2a1f08020802100142057461626c654a100000803f00000000000000000000803f5a1d0a09696e"
    "7075745f69647312100a0e0807120a0a031201620a03120173621e0a066c6f6769747312140a120801120e0a"
    "031201620a031201730a02080242040a00100d"
)
_NULL_TOKENS = 64
_NULL_CONFIG = {
    "model": {
        "type": "llama",
        "context_length": _NULL_TOKENS,
        "vocab_size": 2,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "decoder": {
            "filename": "model.onnx",
            "hidden_size": 1,
            "head_size": 1,
            "num_attention_heads": 1,
            "num_hidden_layers": 0,
            "num_key_value_heads": 1,
            "inputs": {"input_ids": "input_ids"},
            "outputs": {"logits": "logits"},
        },
    },
    "search": {"max_length": _NULL_TOKENS},
}


class GenaiModel:
    """See :class:`~pytest_edgeai.optimize.frameworks.language.LoadedLanguageModel`."""

    def __init__(
        self, folder: Path, runtime: RuntimeOptions, context_tokens: int, where: str
    ) -> None:
        """Load the model of a directory with ``genai_config.json``.

        Raises:
            ModelError: the runtime does not accept it, or its context is shorter.
            UserError: the device or a hint does not exist.
        """
        og = _import_genai()
        settings = _read_config(folder, where)
        decoder = settings["decoder"]
        longest = int(settings["context_length"])
        if context_tokens > longest:
            raise ModelError(
                f"the model's context is {longest} tokens long, and {context_tokens} are asked for",
                where=where,
                allowed=f"up to {longest} tokens",
            )
        self._og = og
        self._folder = folder
        self._decoder = folder / decoder["filename"]
        self._runtime = runtime
        self._context_tokens = context_tokens
        self._vocabulary = int(settings["vocab_size"])
        self._ends = _end_tokens(settings)
        self._layout = (
            int(decoder["num_hidden_layers"]),
            int(decoder["num_key_value_heads"]),
            int(decoder["head_size"]),
        )
        try:
            config = og.Config(str(folder))
            config.clear_providers()
            config.overlay(json.dumps(_overlay(settings, runtime)))
            self._model: Any = og.Model(config)
        except (RuntimeError, ValueError) as error:
            raise _load_error(error, where) from error

    @property
    def vocabulary(self) -> int:
        """Columns of the logits."""
        return self._vocabulary

    @property
    def context_tokens(self) -> int:
        """Longest sequence that it was loaded for."""
        return self._context_tokens

    @property
    def kv_cache_bytes(self) -> int | None:
        """Size of the one buffer that past and present keys and values share."""
        layers, heads, size = self._layout
        if not layers:
            return 0
        inputs = {spec.name: spec.dtype for spec in read_structure(self._decoder).inputs}
        kinds = {dtype for name, dtype in inputs.items() if name.startswith("past_key_values.")}
        element = _KV_DTYPE_BYTES.get(kinds.pop()) if len(kinds) == 1 else None
        return (
            None if element is None else 2 * layers * heads * size * element * self._context_tokens
        )

    def logits(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the raw output of one prefill.

        ``get_logits`` would give the last token's row alone; the decoder computes all of them.
        """
        generator = self._generator()
        generator.append_tokens(_checked(tokens))
        found = np.array(generator.get_output("logits"), dtype=np.float32)
        if found.shape[-2] != len(tokens):
            raise ModelError(
                f"the decoder gives the logits of {found.shape[-2]} of {len(tokens)} tokens: it "
                "reads its context in windows",
                where=str(self._decoder),
                advice="Score shorter texts, or build the model without a sliding window",
            )
        return found.reshape(len(tokens), -1)

    def bind_prefill(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Return a call that rewinds a generator of its own to nothing and appends ``tokens``."""
        fed, generator = _checked(tokens), self._generator()

        def prefill() -> object:
            generator.rewind_to(0)
            generator.append_tokens(fed)
            return generator.get_logits()

        return prefill

    def bind_decode(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Return a call that appends the last token, reads its logits and rewinds by one.

        Rewinding moves no data, because past and present share one buffer.
        """
        fed, generator = _checked(tokens), self._generator()
        depth, last = len(fed) - 1, fed[-1:].copy()
        if depth:
            generator.append_tokens(fed[:-1].copy())

        def decode() -> object:
            generator.append_tokens(last)
            found = generator.get_logits()
            generator.rewind_to(depth)
            return found

        return decode

    def bind_first_token(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Return a call that prefills and picks the likeliest token."""
        prefill = self.bind_prefill(tokens)
        return lambda: int(np.argmax(prefill()))  # type: ignore[call-overload]

    def generate(self, tokens: NDArray[np.int32], count: int) -> NDArray[np.int32]:
        """Decode greedily; stops at the context's end too."""
        generator = self._generator()
        fed = _checked(tokens)
        made: list[int] = []
        while len(made) < count:
            generator.append_tokens(fed)
            chosen = int(np.argmax(generator.get_logits()))
            made.append(chosen)
            if chosen in self._ends or len(tokens) + len(made) >= self._context_tokens:
                break
            fed = np.array([chosen], np.int32)
        return np.array(made, np.int32)

    def execution(self) -> ExecutionFacts:
        """Count the operators of the decoder as ONNX Runtime optimizes it for the same options."""
        from pytest_edgeai.optimize.frameworks.onnxruntime import OnnxRuntimeModel

        hints = {name: value for name, value in self._runtime.hints.items() if name in _LEVEL}
        options = RuntimeOptions(self._runtime.threads, self._runtime.device, hints)
        decoder = OnnxRuntimeModel(str(self._decoder), options, str(self._decoder))
        try:
            return decoder.execution()
        finally:
            decoder.close()

    def close(self) -> None:
        """Release the model."""
        self._model = None

    def _generator(self) -> Any:
        parameters = self._og.GeneratorParams(self._model)
        parameters.set_search_options(
            max_length=self._context_tokens, do_sample=False, past_present_share_buffer=True
        )
        return self._og.Generator(self._model, parameters)


def load(path: Path, runtime: RuntimeOptions, context_tokens: int) -> GenaiModel:
    """Load a directory with ``genai_config.json``, or the decoder in it.

    ``runtime.hints`` are session options of ``genai_config.json``.

    Raises:
        ModelError: this version of ONNX Runtime GenAI does not accept it.
        UserError: the device or a hint does not exist.
    """
    folder = path if path.is_dir() else path.parent
    return GenaiModel(folder, runtime, context_tokens, str(path))


def load_null(runtime: RuntimeOptions) -> GenaiModel:
    """Load a decoder of one embedding, without layers."""
    with tempfile.TemporaryDirectory(prefix="null-language-model-") as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(_NULL_DECODER)
        (folder / CONFIG).write_text(json.dumps(_NULL_CONFIG), encoding="utf-8")
        return GenaiModel(folder, runtime, _NULL_TOKENS, "the null model")


def _import_genai() -> Any:
    try:
        return importlib.import_module("onnxruntime_genai")
    except ImportError as error:
        raise ModelError(
            f"running a language model needs onnxruntime-genai ({one_line(error)})", advice=INSTALL
        ) from error


def _read_config(folder: Path, where: str) -> Mapping[str, Any]:
    """Return the ``model`` table of ``genai_config.json``, with the keys that are read here.

    Raises:
        ModelError: the file is missing, damaged, or of a model that is no plain decoder.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise ModelError(
            f"there is no {CONFIG}",
            where=where,
            allowed="a directory that ONNX Runtime GenAI's model builder made",
        )
    try:
        model = json.loads(file.read_text(encoding="utf-8"))["model"]
        decoder = model["decoder"]
        wanted = {"filename", "num_hidden_layers", "num_key_value_heads", "head_size"}
        missing = sorted({"context_length", "vocab_size"} - set(model)) + sorted(
            wanted - set(decoder)
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the configuration is damaged: {one_line(error)}", where=str(file)
        ) from error
    if missing:
        raise ModelError(
            f"the configuration lacks {', '.join(missing)}",
            where=str(file),
            allowed="the configuration of a decoder in one file",
        )
    return dict(model)


def _end_tokens(settings: Mapping[str, Any]) -> frozenset[int]:
    ends = settings.get("eos_token_id", [])
    return frozenset(ends if isinstance(ends, list) else [ends])


def _overlay(settings: Mapping[str, Any], runtime: RuntimeOptions) -> dict[str, Any]:
    """Return the changes to ``genai_config.json``.

    The runtime masks the padding token out of a prompt, skips it when it looks for the last logits,
    and overwrites the logits of all end tokens but one. The tokens here are data and never padding,
    so that it is told of no padding token and of one end token.
    """
    if runtime.device.upper() != "CPU":
        raise UserError(
            f'the artifact is built for the CPU and has no device "{runtime.device}"', allowed="CPU"
        )
    session: dict[str, Any] = {"log_severity_level": _ERRORS_ONLY, "inter_op_num_threads": 1}
    if runtime.threads:
        session["intra_op_num_threads"] = runtime.threads
    session.update({name: value for name, value in runtime.hints.items() if name != MEMORY_MAPPING})
    ends = sorted(_end_tokens(settings))
    changed: dict[str, Any] = {"pad_token_id": _NO_TOKEN, "decoder": {"session_options": session}}
    if ends:
        changed["eos_token_id"] = ends[0]
    return {"model": changed}


def _checked(tokens: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.array(tokens, dtype=np.int32, order="C")


def _load_error(error: Exception, where: str) -> ModelError | MemoryError:
    message = one_line(error)
    if "bad allocation" in message or "bad_alloc" in message or "Could not allocate" in message:
        return MemoryError(message)
    return ModelError(f"onnxruntime-genai refuses the model: {message}", where=where)
