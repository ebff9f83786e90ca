"""Models as a test sees them: files, facts, and a way to run them in their worker."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.bench import LoadedRunnable, Samples
from pytest_edgeai.measure.dataset import Dataset, batching, stage_arrays
from pytest_edgeai.measure.language import LoadedLanguageRunnable
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import Artifact, LatencySummary, ModelFacts, Recipe
from pytest_edgeai.workbench import Workbench


class RunnableModel:
    """One model in its worker process.

    Attributes:
        name: how reports call it.
        framework: name of the framework that runs it.
        path: the file that is loaded.
        inputs: what a caller must feed.
        outputs: what comes back.
    """

    def __init__(
        self,
        name: str,
        bench: Workbench,
        load: Callable[[], LoadedRunnable],
        facts: ModelFacts,
    ) -> None:
        """Wrap a model.

        Args:
            name: how reports call it.
            bench: whose machine and scratch files are used.
            load: returns the loaded model, started again where its worker ended meanwhile.
            facts: the model it is or was made from.
        """
        runnable = load().runnable
        self.name = name
        self.framework = runnable.framework.name
        self.path = runnable.path
        self.inputs = facts.inputs
        self.outputs = facts.outputs
        self._bench = bench
        self._load = load

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run samples and return output name to array.

        Args:
            feeds: input name to array; axis 0 counts the samples, the rest is as the input's.

        Raises:
            ModelError: an input is missing, unknown or does not fit.
            WorkerFailure: the worker crashed or took too long.
        """
        if isinstance(self._load(), LoadedLanguageRunnable):
            raise ModelError(
                "a language model is not fed arrays", where=self.name, advice="Use generate()"
            )
        arrays = {name: np.asarray(array) for name, array in feeds.items()}
        names = [spec.name for spec in self.inputs]
        if set(arrays) != set(names):
            raise ModelError(f"fed {sorted(arrays)}", where=self.name, allowed=", ".join(names))
        for spec in self.inputs:
            if arrays[spec.name].dtype.name != spec.dtype and spec.dtype != "str":
                raise ModelError(
                    f'input "{spec.name}" is {arrays[spec.name].dtype.name}',
                    where=self.name,
                    allowed=spec.dtype,
                )
        count = len(next(iter(arrays.values())))
        dataset = Dataset(arrays, None, None, count, self.name)
        plan = batching(dataset, self.inputs, open_batch=1)
        place = self._bench.scratch / f"feed-{uuid.uuid4().hex}"
        samples = Samples(stage_arrays(arrays, place), count, plan)
        try:
            with self._bench.heavy(self.name):
                outputs, _ = self._load().evaluate(
                    place / "outputs", lambda what, done: None, samples
                )
            return {name: np.array(array) for name, array in outputs.items()}
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def generate(self, tokens: Sequence[int], count: int) -> list[int]:
        """Return the next tokens of a language model, decoded greedily.

        Args:
            tokens: the prompt's token ids, at least one.
            count: most tokens to decode; an end-of-text token ends them early.

        Raises:
            ModelError: this is no language model, or it does not know a token or take as many.
            WorkerFailure: the worker crashed or took too long.
        """
        with self._bench.heavy(self.name):
            loaded = self._load()
            if not isinstance(loaded, LoadedLanguageRunnable):
                raise ModelError("it generates no text", where=self.name, advice="Use run()")
            return loaded.generate([int(token) for token in tokens], count)

    def latency(self, calls: int = 50) -> LatencySummary:
        """Time a plain loop over the first evaluation samples, after warm-up.

        One model's latency on a shared machine says little; compare models with ``edge_compare``.
        """
        with self._bench.heavy(self.name):
            return self._load().latency(calls)


class BaselineModel(RunnableModel):
    """The model that is deployed today."""


class CandidateModel(RunnableModel):
    """An optimized model.

    Attributes:
        recipe: how it was made.
        artifact: its files, digest, precision and tools.
        planned: the candidate in the plan; ``None`` for a model that a test optimized on its own.
    """

    def __init__(
        self,
        name: str,
        bench: Workbench,
        load: Callable[[], LoadedRunnable],
        facts: ModelFacts,
        *,
        recipe: Recipe,
        artifact: Artifact,
        planned: PlannedCandidate | None = None,
    ) -> None:
        """Wrap a model; see :class:`RunnableModel`."""
        super().__init__(name, bench, load, facts)
        self.recipe = recipe
        self.artifact = artifact
        self.planned = planned


def baseline_model(bench: Workbench, candidate: PlannedCandidate) -> BaselineModel:
    """Return the baseline as it is run beside ``candidate``."""
    return BaselineModel(
        candidate.model.name,
        bench,
        lambda: bench.loaded_baseline(candidate),
        bench.model(candidate.model.name).facts,
    )


def candidate_model(bench: Workbench, candidate: PlannedCandidate) -> CandidateModel:
    """Return the candidate, optimized and loaded."""
    return CandidateModel(
        f"{candidate.model.name} {candidate.recipe.id}",
        bench,
        lambda: bench.loaded_candidate(candidate),
        bench.model(candidate.model.name).facts,
        recipe=candidate.recipe,
        artifact=bench.artifact(candidate),
        planned=candidate,
    )
