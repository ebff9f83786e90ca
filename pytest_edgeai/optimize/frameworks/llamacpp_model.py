"""One model in llama.cpp: scoring, decoding, and what llama.cpp says that it executes."""

from __future__ import annotations

import ctypes
import functools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError, UserError, did_you_mean
from pytest_edgeai.optimize.frameworks.base import ExecutionFacts
from pytest_edgeai.optimize.frameworks.language import MEMORY_MAPPING, split_mapping
from pytest_edgeai.optimize.frameworks.llamacpp_api import (
    LOG,
    available_cpus,
    llama_cpp,
    load_file,
    set_parameter,
)
from pytest_edgeai.records import RuntimeOptions

_TYPES = re.compile(r"- type\s+(\S+):\s+(\d+) tensors")
_BUFFERS = re.compile(r"load_tensors:\s+(\S+) model buffer size")
_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
# Buffers of the CPU backend under names of their own (ggml/src/ggml-cpu).
_CPU_BUFFERS = ("CPU", "AMX")
_CACHE_ELEMENT_BYTES = 2  # float16, llama.cpp's default for keys and values


@dataclass(frozen=True)
class Counters:
    """llama.cpp's own account of its time, since :meth:`LlamaCppModel.reset_counters`.

    Attributes:
        prefill_ns: time in passes over several tokens.
        prefill_tokens: tokens of those passes.
        decode_ns: time in passes over one token.
        decode_tokens: number of those passes.
    """

    prefill_ns: float
    prefill_tokens: int
    decode_ns: float
    decode_tokens: int


class LlamaCppModel:
    """See :class:`~pytest_edgeai.optimize.frameworks.language.LoadedLanguageModel`.

    One sequence at a time; every pass over several tokens is one physical batch, so that results
    are the same bits whenever they are repeated.
    """

    def __init__(
        self, path: Path, runtime: RuntimeOptions, context_tokens: int, observe: Any = None
    ) -> None:
        """Load the file and make a context; ``observe`` is its ``cb_eval``, which a profiler is."""
        _check_device(runtime.device)
        self._where = str(path)
        self._model: Any = load_file(path, mapped=_is_mapped(runtime))
        self._context: Any = None
        self._loading_log = LOG.lines()
        try:
            self._vocabulary_of_model = llama_cpp.llama_model_get_vocab(self._model)
            self._vocabulary: int = llama_cpp.llama_vocab_n_tokens(self._vocabulary_of_model)
            self._observe = observe  # the context keeps no reference to it
            self._context = self._make_context(runtime, context_tokens)
            self._memory: Any = llama_cpp.llama_get_memory(self._context)
            if not self._memory or llama_cpp.llama_model_has_encoder(self._model):
                family = self._metadata("general.architecture")
                raise ModelError(
                    f'a "{family}" model does not continue text token by token',
                    where=self._where,
                    allowed="models of decoders",
                )
        except BaseException:
            self.close()
            raise
        self._context_tokens = context_tokens
        # Who filled the cache last; a bound decoding step fills it again after someone else.
        self._filled_by: object = None

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the model tells apart."""
        return self._vocabulary

    @property
    def context_tokens(self) -> int:
        """Longest sequence that it was loaded for."""
        return self._context_tokens

    @property
    def kv_cache_bytes(self) -> int | None:
        """Size of the keys and values of ``context_tokens`` tokens, float16 each.

        llama.cpp has no function that tells it, so it follows from the layers, the heads of keys
        and values and their widths; ``None`` where blocks differ or keep another kind of state.
        The cache itself is rounded up to a multiple of 256 tokens.
        """
        family = self._metadata("general.architecture")
        heads = llama_cpp.llama_model_n_head(self._model)
        even = llama_cpp.llama_model_n_embd(self._model) // max(heads, 1)
        widths = [
            self._metadata(f"{family}.attention.{name}", str(even))
            for name in ("key_length", "value_length")
        ]
        kv_heads = self._metadata(f"{family}.attention.head_count_kv", str(heads))
        if not all(text.isdigit() for text in (*widths, kv_heads)):
            return None
        if (
            llama_cpp.llama_model_is_recurrent(self._model)
            or llama_cpp.llama_model_is_hybrid(self._model)
            or self._metadata(f"{family}.attention.kv_lora_rank")
        ):
            return None
        layers: int = llama_cpp.llama_model_n_layer(self._model)
        values = sum(map(int, widths)) * int(kv_heads) * layers
        return values * self._context_tokens * _CACHE_ELEMENT_BYTES

    def logits(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the logits after every token, of shape ``(tokens, vocabulary)``.

        Raises:
            ModelError: no token, more than the context, or an id outside the vocabulary.
        """
        ids = self._checked(tokens)
        batch = llama_cpp.llama_batch_get_one(_pointer(ids), len(ids))
        every = np.ones(len(ids), np.int8)
        batch.logits = every.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        self._clear()
        self._decode(batch)
        shape = (len(ids), self._vocabulary)
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._context), shape).copy()

    def bind_prefill(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Return a call that fills an empty cache with ``tokens`` and computes the last logits."""
        ids = self._checked(tokens)
        return functools.partial(self._fill, ids, _batch_of(ids))

    def bind_decode(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Fill the cache with all ``tokens`` but the last; return a call that decodes one token."""
        ids = self._checked(tokens)
        before, last = ids[:-1], ids[-1:]
        depth = len(before)
        batch, owner = _batch_of(last), object()
        remove, memory = llama_cpp.llama_memory_seq_rm, self._memory

        def decode() -> None:
            if self._filled_by is not owner:
                self._fill(before, _batch_of(before))
                self._filled_by = owner
            self._decode(batch)
            if not remove(memory, 0, depth, -1):
                raise ModelError(
                    "the model's state cannot be set back by one token, so decoding has no depth",
                    where=self._where,
                    allowed="models with a cache of keys and values",
                )

        if depth:
            self._fill(before, _batch_of(before))
        else:
            self._clear()
        self._filled_by = owner
        return decode

    def bind_first_token(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Return a call that fills an empty cache with ``tokens`` and picks the likeliest token."""
        ids = self._checked(tokens)
        batch = _batch_of(ids)

        def first_token() -> int:
            self._fill(ids, batch)
            return self._likeliest()

        return first_token

    def generate(self, tokens: NDArray[np.int32], count: int) -> NDArray[np.int32]:
        """Return the next ``count`` tokens by greedy decoding; ends early at an end-of-text token.

        Raises:
            ModelError: as :meth:`logits`; if the sequence outgrows the context.
        """
        ids = self._checked(tokens)
        if len(ids) + count - 1 > self._context_tokens:
            raise self._too_long(len(ids) + count - 1)
        made: list[int] = []
        pending = ids
        self._clear()
        while len(made) < count:
            self._decode(_batch_of(pending))
            made.append(self._likeliest())
            if llama_cpp.llama_vocab_is_eog(self._vocabulary_of_model, made[-1]):
                break
            pending = np.array(made[-1:], np.int32)
        return np.array(made, np.int32)

    def execution(self) -> ExecutionFacts:
        """Count the tensors that llama.cpp says it loaded, by type, and where it put them."""
        types: Counter[str] = Counter()
        devices: dict[str, None] = {}
        for line in self._loading_log:
            if found := _TYPES.search(line):
                name = found[1].lower()
                types[_DTYPES.get(name, name)] += int(found[2])
            if found := _BUFFERS.search(line):
                device = "CPU" if found[1].startswith(_CPU_BUFFERS) else found[1]
                devices[device] = None
        return ExecutionFacts(dict(types), tuple(devices))

    def reset_counters(self) -> None:
        """Set llama.cpp's own clocks to zero."""
        llama_cpp.llama_perf_context_reset(self._context)

    def counters(self) -> Counters:
        """Read llama.cpp's own clocks (``llama_perf_context``)."""
        found = llama_cpp.llama_perf_context(self._context)
        return Counters(
            found.t_p_eval_ms * 1e6, found.n_p_eval, found.t_eval_ms * 1e6, found.n_eval
        )

    def close(self) -> None:
        """Release the context and the model."""
        if self._context is not None:
            llama_cpp.llama_free(self._context)
            self._context = None
        if self._model is not None:
            llama_cpp.llama_model_free(self._model)
            self._model = None

    def _make_context(self, runtime: RuntimeOptions, context_tokens: int) -> Any:
        longest = llama_cpp.llama_model_n_ctx_train(self._model)
        if not 0 < context_tokens <= longest:
            raise ModelError(
                f"a context of {context_tokens} tokens was asked for",
                where=self._where,
                allowed=f"1 to {longest} tokens, the context that the model was made for",
            )
        parameters = llama_cpp.llama_context_default_params()
        threads = runtime.threads or available_cpus()
        for name, value in {
            "n_ctx": context_tokens,
            "n_batch": context_tokens,
            "n_ubatch": context_tokens,
            "n_seq_max": 1,
            "n_threads": threads,
            "n_threads_batch": threads,
            "no_perf": False,
        }.items():
            set_parameter(parameters, name, value)
        if self._observe is not None:
            set_parameter(parameters, "cb_eval", self._observe)
        LOG.clear()
        context = llama_cpp.llama_init_from_model(self._model, parameters)
        if not context:
            raise ModelError(
                f"llama.cpp makes no context: {LOG.why() or 'it gives no reason'}",
                where=self._where,
            )
        return context

    def _metadata(self, key: str, default: str = "") -> str:
        raw = ctypes.create_string_buffer(256)
        found = llama_cpp.llama_model_meta_val_str(self._model, key.encode(), raw, len(raw))
        return raw.value.decode("utf-8", "replace") if found >= 0 else default

    def _checked(self, tokens: NDArray[np.int32]) -> NDArray[np.int32]:
        ids = np.asarray(tokens)
        if ids.ndim != 1 or not len(ids):
            raise ModelError("there are no tokens to compute", where=self._where)
        if len(ids) > self._context_tokens:
            raise self._too_long(len(ids))
        wrong = ids[(ids < 0) | (ids >= self._vocabulary)]
        if len(wrong):
            raise ModelError(
                f"the token id {wrong[0]} is not in the vocabulary",
                where=self._where,
                allowed=f"0 to {self._vocabulary - 1}",
                advice="The tokens were made with another model's tokenizer",
            )
        return ids.astype(np.int32)

    def _too_long(self, length: int) -> ModelError:
        return ModelError(
            f"a sequence of {length} tokens does not fit",
            where=self._where,
            allowed=f"at most {self._context_tokens} tokens, the context it was loaded for",
        )

    def _clear(self) -> None:
        self._filled_by = None
        # What the cells hold is masked; zeroing it would be timed.
        llama_cpp.llama_memory_clear(self._memory, False)

    def _fill(self, ids: NDArray[np.int32], batch: Any) -> None:
        """Compute a batch from an empty cache; ``ids`` keeps the batch's memory alive."""
        self._clear()
        if len(ids):
            self._decode(batch)

    def _decode(self, batch: Any) -> None:
        status = llama_cpp.llama_decode(self._context, batch)
        if status:
            raise ModelError(
                f"llama.cpp cannot compute the tokens (status {status}): "
                f"{LOG.why() or 'it gives no reason'}",
                where=self._where,
            )
        llama_cpp.llama_synchronize(self._context)

    def _likeliest(self) -> int:
        pointer = llama_cpp.llama_get_logits_ith(self._context, -1)
        return int(np.argmax(np.ctypeslib.as_array(pointer, (self._vocabulary,))))


def _pointer(ids: NDArray[np.int32]) -> Any:
    return ids.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token))


def _batch_of(ids: NDArray[np.int32]) -> Any:
    """Return a batch that continues the sequence and asks for the last logits alone."""
    batch = llama_cpp.llama_batch_get_one(_pointer(ids), len(ids))
    batch.keeps_alive = ids
    return batch


def _check_device(device: str) -> None:
    if device.upper() != "CPU":
        raise UserError(
            f'llama.cpp has no device "{device}" here',
            allowed="CPU",
            advice=did_you_mean(device.upper(), ["CPU"]),
        )


def _is_mapped(runtime: RuntimeOptions) -> bool:
    for name in runtime.hints:
        if name != MEMORY_MAPPING:
            raise UserError(
                f'llama.cpp has no hint "{name}"',
                allowed=MEMORY_MAPPING,
                advice=did_you_mean(name, [MEMORY_MAPPING]),
            )
    return split_mapping(runtime)[0]
