"""The operations of a worker on language models; logits never travel and are never kept.

Two workers compare the logits of one block of text through one exchange file: the first overwrites
it with its own, the second reads it. Everything else that leaves a worker is a figure per token.
"""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import MeasurementError, ModelError
from pytest_edgeai.optimize.frameworks.base import Framework
from pytest_edgeai.optimize.frameworks.language import (
    LanguageFramework,
    LoadedLanguageModel,
    maps_weights,
)
from pytest_edgeai.records import JSON, RuntimeOptions, to_json
from pytest_edgeai.worker.memory import memory_growth, peak_meter
from pytest_edgeai.worker.token_scores import (
    divergence,
    read_exchange,
    score_block,
    write_exchange,
)

PHASES = ("decode", "prefill", "first_token")
FIRST_TOKENS = 8


def as_language_framework(framework: Framework | LanguageFramework) -> LanguageFramework:
    """Return a framework that generates text.

    Raises:
        ModelError: this framework does not.
    """
    if not hasattr(framework, "load_language_model"):
        raise ModelError(f"{type(framework).__name__} does not run language models")
    return cast("LanguageFramework", framework)


def load_ids(path: str) -> NDArray[np.int32]:
    """Return the token ids of a ``.npy`` file, int32 of shape ``(blocks, tokens)``.

    Raises:
        ModelError: no such array.
    """
    facts = Path(path).stat()
    return _load_ids(path, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=2)
def _load_ids(path: str, changed_ns: int, size: int) -> NDArray[np.int32]:
    """Return the ids of a file of that age and size; opening it again for every block is felt."""
    ids = np.load(path, mmap_mode="r", allow_pickle=False)
    if ids.ndim != 2 or ids.dtype != np.int32:
        raise ModelError(f"token ids are int32 of shape (blocks, tokens), not {ids.dtype}")
    return np.asarray(ids)


def check_ids(model: LoadedLanguageModel, ids: NDArray[np.int32]) -> None:
    """Make sure that a model knows every token and can take a block.

    Raises:
        ModelError: an id outside the vocabulary, or a block that is too long.
    """
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= model.vocabulary:
        raise ModelError(
            f"token id {low if low < 0 else high} is not in the model's vocabulary",
            allowed=f"0 to {model.vocabulary - 1}",
        )
    if ids.shape[-1] > model.context_tokens:
        raise ModelError(
            f"a block has {ids.shape[-1]} tokens", allowed=f"up to {model.context_tokens}"
        )


def bind_phase(
    model: LoadedLanguageModel, phase: str, tokens: NDArray[np.int32]
) -> Callable[[], object]:
    """Return the call of one phase of generating over ``tokens``."""
    if phase == "prefill":
        return model.bind_prefill(tokens)
    if phase == "first_token":
        return model.bind_first_token(tokens)
    return model.bind_decode(tokens)


class LanguageModels:
    """The language models that a worker has loaded, and the operations on them."""

    def __init__(
        self,
        framework: Framework | LanguageFramework,
        calls: dict[str, Callable[[], object]],
        performed: Callable[[], int],
    ) -> None:
        """Serve ``framework``.

        Args:
            framework: the worker's.
            calls: what the worker times, by handle; :meth:`bind_phase` adds to it.
            performed: how many operations the worker has performed.
        """
        self._framework = framework
        self._calls = calls
        self._performed = performed
        self._models: dict[str, LoadedLanguageModel] = {}
        self.operations: dict[str, Callable[..., JSON]] = {
            "load_language_model": self.load,
            "bind_phase": self.bind_phase,
            "score": self.score,
            "tokenize": self.tokenize,
            "generate": self.generate,
            "language_execution": self.execution,
            "measure_language_memory": self.measure_memory,
        }

    @property
    def models(self) -> Mapping[str, LoadedLanguageModel]:
        """What is loaded, by handle."""
        return self._models

    def close(self) -> None:
        """Release every model."""
        while self._models:
            self._models.popitem()[1].close()

    def load(
        self, handle: str, path: str, runtime: Mapping[str, JSON], context_tokens: int
    ) -> JSON:
        """Load a model under the name ``handle``.

        Returns:
            ``{"vocabulary", "context_tokens", "kv_cache_bytes", "seconds"}``.
        """
        begin = time.perf_counter()
        framework = as_language_framework(self._framework)
        model = framework.load_language_model(Path(path), RuntimeOptions(**runtime), context_tokens)
        self._models[handle] = model
        return {
            "vocabulary": model.vocabulary,
            "context_tokens": model.context_tokens,
            "kv_cache_bytes": model.kv_cache_bytes,
            "seconds": time.perf_counter() - begin,
        }

    def bind_phase(self, handle: str, phase: str, ids: str, block: int, tokens: int) -> JSON:
        """Bind the first ``tokens`` tokens of a block for ``time_calls`` of ``handle``.

        Args:
            handle: the model.
            phase: one of :data:`PHASES`; what was bound before is forgotten.
            ids: path of the token ids.
            block: index of the block.
            tokens: how many of its tokens; at least two for ``decode``.
        """
        model = self._model(handle)
        if phase not in PHASES:
            raise MeasurementError(f"there is no phase {phase!r}")
        chosen = load_ids(ids)[block, :tokens]
        check_ids(model, chosen)
        self._calls.pop(handle, None)
        self._calls[handle] = bind_phase(model, phase, np.array(chosen))
        gc.collect()
        return {}

    def score(self, handle: str, ids: str, block: int, exchange: str, role: str) -> JSON:
        """Score one block of text.

        Args:
            handle: the model.
            ids: path of the token ids.
            block: index of the block.
            exchange: path of the exchange file.
            role: ``reference`` overwrites the exchange file with this model's log-probabilities;
                ``comparison`` compares its own with what the file holds; ``alone`` leaves it.

        Returns:
            ``{"nll", "likeliest", "nan", "infinite"}`` and, for a comparison, ``"divergence"``:
            one figure per token but the first, or a number.

        Raises:
            ModelError: a token that the model does not know, or a reference of another vocabulary.
        """
        model = self._model(handle)
        tokens = np.array(load_ids(ids)[block])
        check_ids(model, tokens)
        logits = model.logits(tokens)
        scores = score_block(logits, tokens)
        answer: dict[str, JSON] = {
            "nll": _plain(scores.nll),
            "likeliest": scores.likeliest.tolist(),
            "nan": scores.nan,
            "infinite": scores.infinite,
        }
        shape = (len(tokens) - 1, model.vocabulary)
        if role == "reference":
            write_exchange(Path(exchange), logits[:-1], scores.normalizers)
        elif role == "comparison":
            reference = read_exchange(Path(exchange), shape)
            known = np.zeros(shape[0], np.float32), scores.normalizers
            answer["divergence"] = _plain(divergence(reference, logits[:-1], known))
        return answer

    def tokenize(self, path: str, text: str) -> JSON:
        """Return ``{"ids"}``, the tokens of the UTF-8 text file ``text``."""
        framework = as_language_framework(self._framework)
        content = Path(text).read_text(encoding="utf-8")
        return {"ids": framework.tokenize(Path(path), content).tolist()}

    def generate(self, handle: str, tokens: list[int], count: int) -> JSON:
        """Return ``{"tokens"}``, up to ``count`` tokens decoded greedily after ``tokens``."""
        model = self._model(handle)
        prompt = np.asarray(tokens, dtype=np.int32)
        check_ids(model, prompt)
        if len(prompt) + count > model.context_tokens:
            raise ModelError(
                f"{len(prompt)} tokens and {count} more",
                allowed=f"up to {model.context_tokens} together",
            )
        self._calls.pop(handle, None)
        return {"tokens": model.generate(prompt, count).tolist()}

    def execution(self, handle: str) -> JSON:
        """Return what the runtime executes, an ``ExecutionFacts``, of the model ``handle``."""
        return to_json(self._model(handle).execution())

    def measure_memory(
        self,
        path: str,
        runtime: Mapping[str, JSON],
        context_tokens: int,
        ids: str,
        tokens: int,
        calls: int,
    ) -> JSON:
        """Measure what a model takes in this process, which must not have done anything else.

        The model reads a whole block and decodes ``calls`` tokens after ``tokens`` of it.

        Returns:
            What :func:`~pytest_edgeai.worker.memory.memory_growth` states, and ``kv_cache_bytes``.

        Raises:
            MeasurementError: this worker did other work before, or the platform does not permit it.
        """
        if self._performed() > 1:
            raise MeasurementError("memory is measured in a process that has done nothing before")
        framework = as_language_framework(self._framework)
        options = RuntimeOptions(**runtime)
        block = np.array(load_ids(ids)[0])
        meter = peak_meter()
        null = framework.load_null_language_model(options)
        few = np.zeros(FIRST_TOKENS, dtype=np.int32)
        null.bind_prefill(few)()
        null.bind_decode(few)()
        meter.read()  # what reading itself takes is not the model's
        gc.collect()
        meter.reset()
        before = meter.read()
        model = framework.load_language_model(Path(path), options, context_tokens)
        check_ids(model, block)
        model.bind_prefill(block)()
        decode = model.bind_decode(block[:tokens])
        for _ in range(calls):
            decode()
        after = meter.read()
        kv_cache_bytes = model.kv_cache_bytes
        model.close()
        null.close()
        growth = memory_growth(meter, before, after, Path(path), is_mapped=maps_weights(options))
        return {**growth, "kv_cache_bytes": kv_cache_bytes}

    def model(self, handle: str) -> LoadedLanguageModel:
        """Return the model ``handle``.

        Raises:
            MeasurementError: none is loaded under that name.
        """
        return self._model(handle)

    def _model(self, handle: str) -> LoadedLanguageModel:
        model = self._models.get(handle)
        if model is None:
            raise MeasurementError(f"no language model is loaded as {handle!r}")
        return model


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    """Return nats for JSON, which has no NaN and no infinity: ``None`` stands for both.

    To the billionth, far below the error of float32: the digits beyond would only take their time.
    """
    plain = np.round(values, 9).tolist()
    if np.isfinite(values).all():
        return cast("list[float | None]", plain)
    return [value if np.isfinite(value) else None for value in plain]
