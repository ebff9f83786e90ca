"""The protocol of frameworks that generate text, inside their own worker process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import UserError
from pytest_edgeai.optimize.frameworks.base import (
    ExecutionFacts,
    OperatorProfile,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.records import RuntimeOptions

MEMORY_MAPPING = "memory_mapping"
"""Hint of ``RuntimeOptions``: ``on`` maps the weights from their file; by default they are read."""


def maps_weights(runtime: RuntimeOptions) -> bool:
    """Return whether ``runtime.hints`` ask for the weights to be mapped."""
    return runtime.hints.get(MEMORY_MAPPING, "off") == "on"


def split_mapping(runtime: RuntimeOptions) -> tuple[bool, RuntimeOptions]:
    """Return whether weights are to be mapped, and the options without that hint.

    Raises:
        UserError: the hint says neither ``on`` nor ``off``.
    """
    hints = dict(runtime.hints)
    value = hints.pop(MEMORY_MAPPING, "off")
    if value not in ("on", "off"):
        raise UserError(f'{MEMORY_MAPPING} is "{value}"', allowed="on, off")
    return value == "on", replace(runtime, hints=hints)


class LoadedLanguageModel(Protocol):
    """A language model that is ready to run, with a key-value cache of its own.

    Token ids are int32 arrays of shape ``(tokens,)``, each at least 0 and below ``vocabulary``.
    Every method begins with an empty cache, whatever ran before.
    """

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the model tells apart: columns of its logits."""
        ...

    @property
    def context_tokens(self) -> int:
        """Longest sequence that it was loaded for."""
        ...

    @property
    def kv_cache_bytes(self) -> int | None:
        """Size of the keys and values of ``context_tokens`` tokens; ``None`` if unknown."""
        ...

    def logits(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the logits after every token, of shape ``(tokens, vocabulary)``.

        One forward pass over all tokens, as when a text is scored; the caller may change the array.
        """
        ...

    def bind_prefill(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Return a call that fills an empty cache with ``tokens`` and computes the last logits."""
        ...

    def bind_decode(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Fill the cache with all ``tokens`` but the last; return a call that decodes one token.

        Each call feeds the last of ``tokens``, computes its logits and takes it back from the
        cache, so that every call runs at the same depth, ``len(tokens) - 1``.
        """
        ...

    def bind_first_token(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Return a call that fills an empty cache with ``tokens`` and picks the likeliest token."""
        ...

    def generate(self, tokens: NDArray[np.int32], count: int) -> NDArray[np.int32]:
        """Return the next ``count`` tokens by greedy decoding; ends early at an end-of-text token.

        The end-of-text token itself is part of the result.
        """
        ...

    def execution(self) -> ExecutionFacts:
        """Ask the runtime what it really executes."""
        ...

    def close(self) -> None:
        """Release the model."""
        ...


class LanguageFramework(Protocol):
    """One framework that generates text; its constructor imports it and is called once."""

    def load_language_model(
        self, path: Path, runtime: RuntimeOptions, context_tokens: int
    ) -> LoadedLanguageModel:
        """Load a model that this framework can run, for sequences of ``context_tokens`` tokens.

        Weights are read into memory, unless ``runtime.hints`` ask for :data:`MEMORY_MAPPING`.

        Raises:
            ModelError: the file is not a model that this runtime accepts.
        """
        ...

    def load_null_language_model(self, runtime: RuntimeOptions) -> LoadedLanguageModel:
        """Load the smallest language model there is: it takes the runtime's own memory."""
        ...

    def tokenize(self, path: Path, text: str) -> NDArray[np.int32]:
        """Return the token ids of plain text, without special tokens added around it.

        Args:
            path: the model that :meth:`load_language_model` takes, or the baseline that it was made
                of.
            text: what to tokenize; a chat template is not applied.

        Raises:
            ModelError: the model comes without a tokenizer, or with a broken one.
        """
        ...

    def optimize(self, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
        """Make one artifact; see :class:`~pytest_edgeai.optimize.frameworks.base.Framework`."""
        ...


class ProfilingLanguageFramework(Protocol):
    """What a language framework offers whose runtime has a profiler; optional.

    See :class:`~pytest_edgeai.optimize.frameworks.base.ProfilingFramework`.
    """

    def profile_language_model(
        self,
        path: Path,
        runtime: RuntimeOptions,
        context_tokens: int,
        tokens: NDArray[np.int32],
        calls: int,
    ) -> OperatorProfile:
        """Load a model with the profiler on and decode one token ``calls`` times, then release it.

        Every call decodes at the depth of :meth:`LoadedLanguageModel.bind_decode` of ``tokens``.
        """
        ...
