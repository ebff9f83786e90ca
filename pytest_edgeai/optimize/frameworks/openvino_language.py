"""OpenVINO language models: loading and running stateful graphs, their cache in the runtime.

What runs is a graph with the inputs of optimum-intel's stateful export, which
:mod:`~pytest_edgeai.optimize.frameworks.openvino_language_graph` builds too. Neither optimum-intel
nor openvino-genai is needed to run it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from pytest_edgeai.assess.huggingface import CONFIG
from pytest_edgeai.assess.huggingface_config import VOCABULARY, Config
from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import ExecutionFacts
from pytest_edgeai.optimize.frameworks.language import split_mapping
from pytest_edgeai.optimize.frameworks.openvino import (
    compile_model,
    execution_facts,
    load_error,
)
from pytest_edgeai.optimize.frameworks.openvino_language_decoder import (
    ROWS,
    cached_elements,
    compute_chosen_rows,
    input_names,
    last_extent,
)
from pytest_edgeai.optimize.frameworks.openvino_language_graph import (
    BEAMS,
    IDS,
    MASK,
    NULL_CONTEXT_TOKENS,
    POSITIONS,
    build_null_graph,
)
from pytest_edgeai.optimize.frameworks.openvino_language_source import (
    ARTIFACT,
    end_tokens,
    longest_sequence,
)
from pytest_edgeai.records import RuntimeOptions

CALLS_PER_REWIND = 32
"""Calls of a bound decode until the cache is set back to where it was; see ``bind_decode``."""

_KV_CACHE_PRECISION = "KV_CACHE_PRECISION"


def load(
    core: openvino.Core, path: Path, runtime: RuntimeOptions, context_tokens: int
) -> OpenVINOLanguageModel:
    """Compile an ``.xml`` file with ``config.json`` beside it, or a directory of both.

    ``runtime.hints`` are properties of the device plugin, and
    :data:`~pytest_edgeai.optimize.frameworks.language.MEMORY_MAPPING`.

    Raises:
        ModelError: OpenVINO does not accept the file, it is no language model with a cache, or its
            context is shorter than ``context_tokens``.
        UserError: the device does not exist, or does not know a hint.
    """
    file = path / ARTIFACT if path.is_dir() else path
    if not file.is_file():
        raise ModelError(
            f"there is no {file.name}",
            where=str(file.parent),
            allowed=f"{ARTIFACT} with {CONFIG}, as the schemes of openvino make them",
        )
    is_mapped, runtime = split_mapping(runtime)
    config = Config(file.parent / CONFIG)
    longest = longest_sequence(config)
    if not 0 < context_tokens <= longest:
        raise ModelError(
            f"a context of {context_tokens} tokens is asked for",
            where=str(path),
            allowed=f"1 to {longest} tokens, the context that the model was made for",
        )
    ends = end_tokens(file.parent)
    model = _read(core, file, is_mapped)
    loaded = OpenVINOLanguageModel(core, model, runtime, context_tokens, ends, str(path))
    stated = config.number(VOCABULARY)
    if stated is not None and stated != loaded.vocabulary:
        raise ModelError(
            f"{CONFIG} says {stated} tokens, and the model has {loaded.vocabulary} logits",
            where=str(file),
            advice="The two files are of different models: copy both",
        )
    return loaded


def load_null(core: openvino.Core, runtime: RuntimeOptions) -> OpenVINOLanguageModel:
    """Compile a Llama of one block and 64 tokens."""
    _, runtime = split_mapping(runtime)
    return OpenVINOLanguageModel(
        core, build_null_graph(), runtime, NULL_CONTEXT_TOKENS, frozenset(), "the null model"
    )


class OpenVINOLanguageModel:
    """See :class:`~pytest_edgeai.optimize.frameworks.language.LoadedLanguageModel`.

    Every bound call has an inference request of its own, and with it a cache of its own.
    """

    def __init__(
        self,
        core: openvino.Core,
        model: openvino.Model,
        runtime: RuntimeOptions,
        context_tokens: int,
        ends: frozenset[int],
        where: str,
    ) -> None:
        """Compile ``model``, which is changed: the output layer computes the rows asked for alone.

        Raises:
            ModelError: it is no language model with a cache.
        """
        self._inputs = input_names(model, where)
        compute_chosen_rows(model, where)
        elements = cached_elements(model)
        if runtime.device == "CPU":
            # By default the plugin stores keys and values in 8 bits, in a float32 model too.
            hints = {_KV_CACHE_PRECISION: "f32", **runtime.hints}
            runtime = replace(runtime, hints=hints)
        self._compiled: Any = compile_model(core, model, runtime, where)
        self._vocabulary = last_extent(self._compiled.output(0), where)
        self._context_tokens = context_tokens
        self._ends = ends
        self._where = where
        element_bytes = _kv_element_bytes(self._compiled)
        self._kv_cache_bytes = (
            elements * element_bytes * context_tokens if elements and element_bytes else None
        )

    @property
    def compiled(self) -> Any:
        """The compiled model, until it is released."""
        return self._compiled

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
        """Keys and values of ``context_tokens`` tokens in the precision that the plugin keeps.

        It allocates them while a sequence grows. Scales of an 8-bit cache are not counted; ``None``
        where the plugin or the graph does not say.
        """
        return self._kv_cache_bytes

    def logits(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the logits after every token, computed in one pass.

        Raises:
            ModelError: no token, more than the context, or an id outside the vocabulary.
        """
        ids = self._checked(tokens)
        request = self._request()
        self._feed(request, ids, rows=np.arange(len(ids)))
        return np.array(self._run(request)[0])

    def bind_prefill(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Return a call that fills an empty cache with ``tokens`` and computes the last logits."""
        ids = self._checked(tokens)
        request = self._request()
        self._feed(request, ids)

        def prefill() -> NDArray[np.float32]:
            request.reset_state()
            return np.array(self._run(request)[0, -1])

        return prefill

    def bind_decode(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Fill the cache with all ``tokens`` but the last; return a call that decodes one token.

        OpenVINO cannot take a token back from a cache; setting the cache copies all of it, which
        costs as much as a quarter of a call. So a call leaves its token there, the mask hides it
        from the calls that follow, and every :data:`CALLS_PER_REWIND` calls the cache is set back.
        Each call decodes at the same position, sees the same tokens and computes the same logits,
        beside at most ``CALLS_PER_REWIND - 1`` hidden ones that the attention passes over.
        """
        ids = self._checked(tokens)
        before, last = ids[:-1], ids[-1:]
        depth = len(before)
        request = self._request()
        if depth:
            self._feed(request, before)
            self._run(request)
        begin = [(state, _owned(state.state.data)) for state in request.query_state()]
        can_hide = {MASK, POSITIONS} <= self._inputs
        masks = [
            _tensor(np.concatenate([np.ones(depth), np.zeros(left), np.ones(1)])[None], np.int64)
            for left in range(CALLS_PER_REWIND if can_hide else 1)
        ]
        self._feed(request, last, cached=depth)
        taken = 0

        def decode() -> NDArray[np.float32]:
            nonlocal taken
            if taken == len(masks):
                _rewind(request, begin, depth)
                taken = 0
            if can_hide:
                request.set_tensor(MASK, masks[taken])
            taken += 1
            return np.array(self._run(request)[0, -1])

        return decode

    def bind_first_token(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Return a call that fills an empty cache with ``tokens`` and picks the likeliest token."""
        ids = self._checked(tokens)
        request = self._request()
        self._feed(request, ids)

        def first_token() -> int:
            request.reset_state()
            return int(np.argmax(self._run(request)[0, -1]))

        return first_token

    def generate(self, tokens: NDArray[np.int32], count: int) -> NDArray[np.int32]:
        """Return up to ``count`` tokens by greedy decoding.

        Ends early at a token that ``generation_config.json``, or else ``config.json``, lists as
        ``eos_token_id``.

        Raises:
            ModelError: as :meth:`logits`; the tokens and ``count`` more do not fit.
        """
        pending = self._checked(tokens, count)
        request = self._request()
        made: list[int] = []
        cached = 0
        while len(made) < count:
            self._feed(request, pending, cached=cached)
            made.append(int(np.argmax(self._run(request)[0, -1])))
            if made[-1] in self._ends:
                break
            cached += len(pending)
            pending = np.array(made[-1:], np.int64)
        return np.array(made, np.int32)

    def execution(self) -> ExecutionFacts:
        """See :func:`pytest_edgeai.optimize.frameworks.openvino.execution_facts`."""
        return execution_facts(self._compiled)

    def close(self) -> None:
        """Release the compiled model; calls that were bound keep it until they are dropped."""
        self._compiled = None

    def _request(self) -> Any:
        return self._compiled.create_infer_request()

    def _feed(
        self,
        request: Any,
        ids: NDArray[np.int64],
        *,
        cached: int = 0,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Set the inputs for ``ids`` after ``cached`` tokens; the last logits, if no ``rows``."""
        count = len(ids)
        inputs = {
            IDS: _tensor(ids[None], np.int64),
            MASK: _tensor(np.ones((1, cached + count)), np.int64),
            POSITIONS: _tensor(np.arange(cached, cached + count)[None], np.int64),
            BEAMS: _tensor(np.zeros(1), np.int32),
        }
        for name in self._inputs:
            request.set_tensor(name, inputs[name])
        chosen = np.array([count - 1]) if rows is None else rows
        request.set_tensor(ROWS, _tensor(chosen, np.int64))

    def _run(self, request: Any) -> Any:
        """Return the logits in the runtime's own memory, of shape ``(1, rows, vocabulary)``."""
        try:
            request.infer(share_outputs=True)
        except RuntimeError as error:
            raise load_error(error, self._where) from error
        return request.get_output_tensor(0).data

    def _checked(self, tokens: NDArray[np.int32], more: int = 0) -> NDArray[np.int64]:
        ids = np.asarray(tokens)
        if ids.ndim != 1 or not len(ids) or not np.issubdtype(ids.dtype, np.integer):
            raise ModelError(
                f"tokens are {ids.dtype} of shape {ids.shape}",
                where=self._where,
                allowed="one or more ids, integers of shape (tokens,)",
            )
        if len(ids) + more > self._context_tokens:
            raise ModelError(
                f"{len(ids)} tokens" + (f" and {more} more" if more else "") + " do not fit",
                where=self._where,
                allowed=f"at most {self._context_tokens} tokens, the context it was loaded for",
            )
        wrong = ids[(ids < 0) | (ids >= self._vocabulary)]
        if len(wrong):
            raise ModelError(
                f"the token id {wrong[0]} is none of the model's",
                where=self._where,
                allowed=f"0 to {self._vocabulary - 1}",
                advice="The tokens were made with another model's tokenizer",
            )
        return ids.astype(np.int64)


def _rewind(request: Any, begin: list[tuple[Any, Any]], depth: int) -> None:
    """Set the cache of a request back; an empty one cannot be set."""
    if not depth:
        request.reset_state()
        return
    for state, tensor in begin:
        state.state = tensor


def _tensor(values: NDArray[Any], dtype: type) -> Any:
    return _owned(values.astype(dtype))


def _owned(values: NDArray[Any]) -> Any:
    """Return a tensor with memory of its own: OpenVINO was seen to write into a caller's input."""
    return openvino.Tensor(np.array(values, order="C"), shared_memory=False)


def _read(core: openvino.Core, file: Path, is_mapped: bool) -> openvino.Model:
    try:
        return core.read_model(file, config={"ENABLE_MMAP": is_mapped})
    except RuntimeError as error:
        read_structure(file)  # says what is wrong with a file far better than the runtime
        raise load_error(error, file.as_posix()) from error


def _kv_element_bytes(compiled: Any) -> int | None:
    """Return the size of one key or value; ``None`` for devices that do not say."""
    try:
        return int(compiled.get_property(_KV_CACHE_PRECISION).size)
    except RuntimeError:
        return None
