"""Apple MLX: loading a Hugging Face or mlx-lm directory, running it, and what it executes.

Metal on Apple silicon, the CPU build on Linux; the same code on both. MLX is lazy: whatever a call
is timed for is evaluated before the call returns.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError, UserError, did_you_mean
from pytest_edgeai.optimize.frameworks.base import (
    ExecutionFacts,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.optimize.frameworks.huggingface_tokenizer import tokenize_directory
from pytest_edgeai.optimize.frameworks.language import MEMORY_MAPPING
from pytest_edgeai.optimize.frameworks.mlx_load import build_network, null_network, read_source
from pytest_edgeai.optimize.frameworks.support import one_line
from pytest_edgeai.records import RuntimeOptions

PREFILL_STEP = 2048
"""Tokens of one forward pass while a cache is filled; ``prefill_step_size`` of mlx-lm."""

_NULL_CONTEXT = 64
_DEVICES = {"CPU": mx.cpu, "GPU": mx.gpu}


class Mlx:
    """See :class:`~pytest_edgeai.optimize.frameworks.language.LanguageFramework`."""

    def load_language_model(
        self, path: Path, runtime: RuntimeOptions, context_tokens: int
    ) -> MlxLanguageModel:
        """Load a Hugging Face directory, or one that :meth:`optimize` made.

        Weights keep the precision that they are stored in, and are in memory when this returns.
        ``runtime.device`` is ``CPU``, ``GPU`` (Metal) or ``AUTO``, MLX's own choice.
        ``runtime.threads`` is not read: MLX has no such setting.

        Raises:
            ModelError: the directory is no model that mlx-lm knows; the context is longer than the
                model's; memory mapping is asked for, which MLX does not have.
            UserError: the device does not exist, or a hint is unknown.
        """
        _use_device(_device(runtime.device))
        _check_hints(runtime, str(path))
        source = read_source(path)
        longest = source.context_length
        if context_tokens < 1 or (longest is not None and context_tokens > longest):
            raise ModelError(
                f"a context of {context_tokens} tokens is asked for",
                where=str(path),
                allowed=f"1 to {longest}" if longest is not None else "1 and more",
            )
        network = build_network(source)
        return MlxLanguageModel(network, context_tokens, _end_tokens(path), str(path))

    def load_null_language_model(self, runtime: RuntimeOptions) -> MlxLanguageModel:
        """Build a Llama of one block and 64 tokens, with random weights."""
        _use_device(_device(runtime.device))
        return MlxLanguageModel(null_network(), _NULL_CONTEXT, frozenset(), "the null model")

    def tokenize(self, path: Path, text: str) -> NDArray[np.int32]:
        """Return the ids of plain text by the directory's ``tokenizer.json``.

        Raises:
            ModelError: there is none, or it is broken.
        """
        return tokenize_directory(path, text)

    def optimize(self, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
        """See :func:`pytest_edgeai.optimize.frameworks.mlx_optimize.optimize`."""
        # Imported here, because mlx-lm's tools bring transformers, whose memory a measurement
        # would count.
        from pytest_edgeai.optimize.frameworks import mlx_optimize

        return mlx_optimize.optimize(request, progress)


class MlxLanguageModel:
    """See :class:`~pytest_edgeai.optimize.frameworks.language.LoadedLanguageModel`."""

    def __init__(
        self, network: Any, context_tokens: int, end_tokens: frozenset[int], where: str
    ) -> None:
        """Take a network whose weights are in memory, and try it on one token.

        Raises:
            ModelError: the network cannot compute, which a configuration that contradicts the
                weights leads to.
        """
        self._network = network
        self._context_tokens = context_tokens
        self._end_tokens = end_tokens
        self._where = where
        self._device = mx.default_device()
        try:
            cache = self._new_cache()
            logits = network(mx.zeros((1, 1), mx.int32), cache=cache)
            mx.eval(logits)
        except MemoryError:
            raise
        except Exception as error:
            raise ModelError(
                f"mlx cannot run the model: {type(error).__name__}: {one_line(error)}", where=where
            ) from error
        self._vocabulary = int(logits.shape[-1])
        self._kv_cache_bytes = _kv_cache_bytes(cache, context_tokens)

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
        """Keys and values of ``context_tokens`` tokens; ``None`` for other kinds of state.

        mlx-lm allocates them in steps of 256 tokens while a sequence grows.
        """
        return self._kv_cache_bytes

    def logits(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the logits after every token, computed in one pass without a cache."""
        ids = self._ids(tokens)
        found = self._network(ids).astype(mx.float32)
        mx.eval(found)
        # A copy of its own: MLX may hand out memory that it goes on using.
        return np.array(found[0], dtype=np.float32)

    def bind_prefill(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Return a call that fills an empty cache as mlx-lm does, and computes the last logits.

        mlx-lm fills the cache with all tokens but the last, without computing logits, and then
        feeds the last one by itself.
        """
        ids = self._ids(tokens)

        def prefill() -> object:
            logits = self._prefill(ids, self._new_cache())
            mx.eval(logits)
            return logits

        return prefill

    def bind_decode(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Return a call that decodes the last of ``tokens`` and takes it back from the cache.

        Raises:
            ModelError: the state of such a model cannot be taken back (recurrent networks, and
                sliding windows that the tokens fill).
        """
        from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

        ids = self._ids(tokens)
        cache = self._new_cache()
        self._fill(ids[:, :-1], cache)
        last = ids[:, -1:]
        mx.eval(self._network(last, cache=cache))
        if not can_trim_prompt_cache(cache):
            raise ModelError(
                f"decoding at one depth cannot be timed: mlx-lm cannot take a token back from the "
                f"state of this model at {ids.shape[1]} tokens",
                where=self._where,
            )
        trim_prompt_cache(cache, 1)

        def decode() -> object:
            logits = self._network(last, cache=cache)[0, -1]
            mx.eval(logits)
            trim_prompt_cache(cache, 1)
            return logits

        return decode

    def bind_first_token(self, tokens: NDArray[np.int32]) -> Callable[[], object]:
        """Return a call that fills an empty cache and returns the likeliest next token."""
        ids = self._ids(tokens)

        def first_token() -> int:
            return _likeliest(self._prefill(ids, self._new_cache()))

        return first_token

    def generate(self, tokens: NDArray[np.int32], count: int) -> NDArray[np.int32]:
        """Return up to ``count`` tokens by greedy decoding.

        Ends early at a token that ``generation_config.json``, or else ``config.json``, lists as
        ``eos_token_id``.

        Raises:
            ModelError: the tokens and ``count`` more do not fit into the context.
        """
        ids = self._ids(tokens, count)
        cache = self._new_cache()
        found: list[int] = []
        logits = self._prefill(ids, cache) if count > 0 else None
        while logits is not None:
            found.append(_likeliest(logits))
            if len(found) >= count or found[-1] in self._end_tokens:
                break
            logits = self._network(mx.array([found[-1:]], mx.int32), cache=cache)[0, -1]
        return np.array(found, dtype=np.int32)

    def execution(self) -> ExecutionFacts:
        """Count the layers with a matrix of weights by the precision that they compute from.

        A quantized layer of MLX multiplies by its packed weights and dequantizes them on the way;
        it counts as ``int4``, ``int8`` and so on, or by its mode (``mxfp4``).
        """
        counts = Counter(_precisions(self._network))
        return ExecutionFacts(dict(counts), (_device_name(self._device),))

    def close(self) -> None:
        """Release the model, and the buffers that MLX keeps for later arrays."""
        self._network = None
        mx.clear_cache()

    def _ids(self, tokens: NDArray[np.int32], more: int = 0) -> Any:
        """Return checked token ids, of shape ``(1, tokens)``."""
        _use_device(self._device)
        array = np.asarray(tokens)
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer) or not len(array):
            raise ModelError(
                f"tokens are {array.dtype} of shape {array.shape}",
                where=self._where,
                allowed="one or more ids, integers of shape (tokens,)",
            )
        if len(array) + max(more, 0) > self._context_tokens:
            asked = f"{len(array)} tokens" + (f" and {more} more" if more > 0 else "")
            raise ModelError(
                f"{asked} do not fit into the context",
                where=self._where,
                allowed=f"at most {self._context_tokens} tokens",
            )
        # MLX reads past the end of the embedding for an id that is too large, without a word.
        if array.min() < 0 or array.max() >= self._vocabulary:
            wrong = array.min() if array.min() < 0 else array.max()
            raise ModelError(
                f"the token id {wrong} is none of the model's",
                where=self._where,
                allowed=f"0 to {self._vocabulary - 1}",
            )
        return mx.array(array[None].astype(np.int32))

    def _new_cache(self) -> list[Any]:
        from mlx_lm.models.cache import make_prompt_cache

        cache: list[Any] = make_prompt_cache(self._network)
        return cache

    def _prefill(self, ids: Any, cache: list[Any]) -> Any:
        """Feed all ids; return the last logits, of shape ``(vocabulary,)``, not yet evaluated."""
        _use_device(self._device)
        self._fill(ids[:, :-1], cache)
        return self._network(ids[:, -1:], cache=cache)[0, -1]

    def _fill(self, ids: Any, cache: list[Any]) -> None:
        """Feed ids of shape ``(1, tokens)`` in steps; no logits are computed."""
        for first in range(0, ids.shape[1], PREFILL_STEP):
            self._network(ids[:, first : first + PREFILL_STEP], cache=cache)
            mx.eval([each.state for each in cache])


def _likeliest(logits: Any) -> int:
    """Return the token with the highest of ``(vocabulary,)`` logits, the first of equal ones."""
    token: Any = mx.argmax(logits).item()
    return int(token)


def _device(name: str) -> Any:
    """Return MLX's device of a name.

    Raises:
        UserError: there is none.
    """
    available = ["CPU"] + ["GPU"] * bool(mx.is_available(mx.gpu))
    wanted = name.upper()
    if wanted == "AUTO":
        return mx.Device(_DEVICES[available[-1]])
    if wanted not in available:
        raise UserError(
            f'mlx finds no device "{name}"',
            allowed=", ".join(["AUTO", *available]),
            advice=did_you_mean(wanted, available),
        )
    return mx.Device(_DEVICES[wanted])


def _use_device(device: Any) -> None:
    mx.set_default_device(device)


def _device_name(device: Any) -> str:
    return next(name for name, kind in _DEVICES.items() if device == mx.Device(kind))


def _check_hints(runtime: RuntimeOptions, where: str) -> None:
    unknown = [name for name in runtime.hints if name != MEMORY_MAPPING]
    if unknown:
        raise UserError(
            f'mlx knows no hint "{unknown[0]}"',
            allowed=MEMORY_MAPPING,
            advice=did_you_mean(unknown[0], [MEMORY_MAPPING]),
        )
    if runtime.hints.get(MEMORY_MAPPING, "off") != "off":
        raise ModelError(
            "mlx reads weights into memory and cannot map them from their file", where=where
        )


def _end_tokens(path: Path) -> frozenset[int]:
    """Return the end-of-text ids: those of ``generation_config.json``, or else ``config.json``."""
    for name in ("generation_config.json", "config.json"):
        try:
            settings = json.loads((path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        found = settings.get("eos_token_id") if isinstance(settings, dict) else None
        listed = found if isinstance(found, list) else [found]
        ids = frozenset(each for each in listed if type(each) is int)
        if ids:
            return ids
    return frozenset()


def _kv_cache_bytes(cache: Sequence[Any], context_tokens: int) -> int | None:
    """Return the size of the keys and values of a context, from a cache that holds one token."""
    from mlx_lm.models.cache import KVCache, RotatingKVCache

    total = 0
    for each in cache:
        if type(each) not in (KVCache, RotatingKVCache):
            return None
        tokens = min(context_tokens, getattr(each, "max_size", context_tokens))
        total += sum(array.nbytes // array.shape[2] * tokens for array in (each.keys, each.values))
    return total


def _precisions(network: Any) -> list[str]:
    found = []
    for _, module in network.named_modules():
        weight = module.get("weight")
        if not isinstance(weight, mx.array) or weight.ndim < 2:
            continue
        if "scales" in module:
            mode = getattr(module, "mode", "affine")
            found.append(f"int{module.bits}" if mode == "affine" else mode)
        else:
            found.append(str(weight.dtype).rpartition(".")[2])
    return found
