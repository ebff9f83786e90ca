"""The operations of a worker that LoadGen drives; models are those that the worker has loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import MeasurementError, ModelError
from pytest_edgeai.optimize.frameworks.base import LoadedModel
from pytest_edgeai.optimize.frameworks.language import LoadedLanguageModel
from pytest_edgeai.records import JSON
from pytest_edgeai.worker import arrays as samples_of
from pytest_edgeai.worker.language import check_ids, load_ids
from pytest_edgeai.worker.load import (
    Call,
    Run,
    finish,
    generator,
    generator_version,
    make_settings,
)

STAGED_BYTES = 256 * 2**20
"""Most bytes of samples that are kept in memory for a run, as LoadGen's sample library is."""


class Requests:
    """A language model as LoadGen calls it: a prompt is read, then tokens are decoded.

    A request fills an empty cache with the prompt and decodes ``output_tokens`` tokens, each at the
    depth of the prompt, which is how
    :meth:`~pytest_edgeai.optimize.frameworks.language.LoadedLanguageModel.bind_decode` decodes in
    every framework. ``token_ns`` has the times of every request: up to its first token, then
    between tokens; a request that raised has NaN where it did not come.
    """

    def __init__(
        self, model: LoadedLanguageModel, prompts: NDArray[np.int32], output_tokens: int
    ) -> None:
        """Serve ``model``; ``prompts`` is int32 of shape ``(samples, tokens)``."""
        self._model = model
        self._prompts = prompts
        self.output_tokens = output_tokens
        self.token_ns: list[NDArray[np.float64]] = []

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self._prompts)

    def __call__(self, index: int, announce: Callable[[], None]) -> None:
        """Answer prompt ``index``; ``announce`` is called after its first token."""
        times = np.full(self.output_tokens, np.nan)
        self.token_ns.append(times)
        begin = perf_counter_ns()
        decode = self._model.bind_decode(self._prompts[index])
        for position in range(self.output_tokens):
            decode()
            end = perf_counter_ns()
            times[position] = end - begin
            begin = end
            if not position:
                announce()


class LoadOperations:
    """What a worker does for the load gate."""

    def __init__(
        self,
        model: Callable[[str], LoadedModel],
        language_model: Callable[[str], LoadedLanguageModel],
    ) -> None:
        """Serve the models that the two callables return by their handles."""
        self._model = model
        self._language_model = language_model
        self._feeds: list[dict[str, NDArray[Any]]] = []
        self._requests: Requests | None = None
        self.operations: dict[str, Callable[..., JSON]] = {
            "load_generator": self.version,
            "stage_queries": self.stage_queries,
            "stage_requests": self.stage_requests,
            "drive": self.drive,
        }

    def version(self) -> JSON:
        """Return ``{"version"}`` of LoadGen, empty where it is not installed."""
        return {"version": generator_version()}

    def stage_queries(
        self, handle: str, arrays: Mapping[str, str], samples: int, batch: int | None
    ) -> JSON:
        """Read samples into memory, as many as :data:`STAGED_BYTES` hold, one call's at a time.

        Returns:
            ``{"staged"}``, the number of different queries.
        """
        model = self._model(handle)
        opened = samples_of.open_arrays(arrays)
        samples_of.check_inputs(opened, model.inputs, batch)
        self._requests = None
        self._feeds = []
        held = 0
        for first in range(0, samples, batch or 1):
            feeds = samples_of.take(opened, first, batch)
            held += sum(array.nbytes for array in feeds.values())
            if self._feeds and held > STAGED_BYTES:
                break
            self._feeds.append(feeds)
        return {"staged": len(self._feeds)}

    def stage_requests(self, handle: str, ids: str, prompt_tokens: int, output_tokens: int) -> JSON:
        """Take the first ``prompt_tokens`` tokens of every block as prompts.

        Returns:
            ``{"staged"}``, the number of different prompts.

        Raises:
            ModelError: prompt and answer do not fit into the context.
        """
        model = self._language_model(handle)
        prompts = np.array(load_ids(ids)[:, :prompt_tokens])
        check_ids(model, prompts)
        if prompt_tokens + 1 > model.context_tokens:
            raise ModelError(
                f"a prompt of {prompt_tokens} tokens leaves no room for an answer",
                allowed=f"up to {model.context_tokens - 1}",
            )
        self._feeds = []
        self._requests = Requests(model, prompts, output_tokens)
        return {"staged": len(prompts)}

    def drive(
        self, handles: list[str], scenario: str, settings: Mapping[str, JSON], output: str
    ) -> JSON:
        """Run one scenario of LoadGen against what is staged.

        Args:
            handles: the models, one per stream that answers at once.
            scenario: see :func:`~pytest_edgeai.worker.load.make_settings`.
            settings: likewise.
            output: folder for LoadGen's logs and the arrays; made where it is missing.

        Returns:
            See :func:`~pytest_edgeai.worker.load.finish`; with the array ``token_ns`` of shape
            ``(queries, output_tokens)`` for a language model.

        Raises:
            MeasurementError: LoadGen is not installed here, or nothing is staged.
        """
        loadgen = generator()
        if loadgen is None:
            raise MeasurementError("LoadGen is not installed in this interpreter")
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        calls, staged, tokens = self._staged(handles)
        wanted = dict(settings)
        if self._requests is not None:
            wanted["use_token_latencies"] = True
            self._requests.token_ns.clear()
        run = Run(loadgen, calls, staged, tokens)
        seconds = run.drive(
            make_settings(loadgen, scenario, wanted), folder, trace=scenario == "Server"
        )
        extra = {}
        if self._requests is not None:
            extra["token_ns"] = np.asarray(self._requests.token_ns, dtype=np.float64)
        return finish(folder, run.recorders, seconds, extra)

    def _staged(self, handles: list[str]) -> tuple[list[Call], int, int]:
        if self._requests is not None:
            return [self._requests], len(self._requests), self._requests.output_tokens
        if not self._feeds:
            raise MeasurementError("no queries are staged")
        return (
            [_call(self._model(handle), self._feeds) for handle in handles],
            len(self._feeds),
            0,
        )


def _call(model: LoadedModel, feeds: list[dict[str, NDArray[Any]]]) -> Call:
    run = model.run
    return lambda index: run(feeds[index])
