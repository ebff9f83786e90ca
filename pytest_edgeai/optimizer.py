"""Optimize whatever model a test gives, with one framework: the ``edge_onnxruntime`` family."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_edgeai.assess.model import read_model
from pytest_edgeai.errors import ModelError, unknown_word
from pytest_edgeai.language_preparation import unread_plan
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples
from pytest_edgeai.measure.dataset import batching, load_dataset, stage_arrays
from pytest_edgeai.measure.language import LoadedLanguageRunnable
from pytest_edgeai.measure.tokens import DEFAULT_CONTEXT_TOKENS
from pytest_edgeai.plan.recipes import NEEDS_CALIBRATION, default_recipes
from pytest_edgeai.records import JSON, Recipe
from pytest_edgeai.runnable import CandidateModel
from pytest_edgeai.specification import DataSource
from pytest_edgeai.workbench import CONVERT, Workbench


class Optimizer:
    """Optimizes models with one framework; results come from the same cache as the gates'."""

    def __init__(self, bench: Workbench, framework: str) -> None:
        """Use ``framework``; skips the test where it is not installed."""
        self._bench = bench
        self._framework = bench.session.catalogue.frameworks[framework]
        missing = bench.session.installations.missing(framework)
        if missing and framework in bench.session.settings.framework:
            pytest.fail(missing, pytrace=False)
        if missing:
            pytest.skip(missing)

    def __call__(
        self,
        model: str | Path,
        scheme: str | None = None,
        *,
        calibration: str | Path | None = None,
        options: Mapping[str, JSON] | None = None,
    ) -> CandidateModel:
        """Optimize a model and load the result.

        Args:
            model: the model's file; relative paths start at the manifest's directory.
            scheme: what to do; by default what suits the model's architecture.
            calibration: a ``.npz`` file, for the schemes that need one.
            options: options of the scheme.

        Raises:
            ModelError: the model, the data or the recipe cannot be used.
            WorkerFailure: the framework failed.
        """
        directory = self._bench.session.manifest.directory
        path = directory / model
        facts = read_model(path, with_hash=True)
        source = (
            DataSource(directory / calibration, None, str(calibration)) if calibration else None
        )
        if source is not None and source.path is not None and not source.path.is_file():
            raise ModelError(
                f'"{calibration}" does not exist', allowed=f"a .npz file from {directory}"
            )
        if scheme is None:
            defaults = default_recipes(
                self._framework.name, facts.architecture, calibrated=source is not None
            )
            if not defaults:
                raise ModelError(
                    f"{self._framework.name} has no recipe for this model", where=str(path)
                )
            recipe = defaults[0]
            recipe = Recipe(recipe.framework, recipe.scheme, {**recipe.options, **(options or {})})
        elif scheme in self._framework.schemes:
            recipe = Recipe(self._framework.name, scheme, options or {})
        else:
            raise unknown_word(
                f"{self._framework.name} scheme", scheme, self._framework.schemes, error=ModelError
            )
        if recipe.scheme in NEEDS_CALIBRATION and source is None:
            raise ModelError(
                f'scheme "{recipe.scheme}" needs calibration data', allowed="calibration=FILE.npz"
            )
        samples = digest = None
        if source is not None and recipe.scheme != CONVERT:
            data = load_dataset(source, facts.inputs, directory=directory, needs_labels=False)
            digest = data.digest()
            place = (
                self._bench.scratch / "optimizer" / hashlib.sha256(digest.encode()).hexdigest()[:16]
            )
            samples = Samples(
                stage_arrays(data.arrays, place),
                data.samples,
                batching(data, facts.inputs, open_batch=1),
            )
        artifact = self._bench.make(facts, recipe, samples, digest or "", path.name)
        runnable = Runnable(
            self._framework,
            self._bench.session.interpreter(self._framework.name),
            artifact.path,
            self._bench.runtime(self._framework.name),
        )
        limit_s = self._bench.session.settings.time_limit
        if facts.language is not None:
            plan = unread_plan(facts, DEFAULT_CONTEXT_TOKENS)
            loaded = self._bench.keep(
                LoadedLanguageRunnable(runnable, None, plan, time_limit_s=limit_s)
            )
        else:
            loaded = self._bench.keep(LoadedRunnable(runnable, samples, time_limit_s=limit_s))
        return CandidateModel(
            f"{path.name} {recipe.id}",
            self._bench,
            lambda: loaded,
            facts,
            recipe=recipe,
            artifact=artifact,
        )
