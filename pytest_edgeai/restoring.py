"""Restore the most harmful layers to full precision until retention holds on selection data.

What NNCF calls accuracy control (``nncf.quantize_with_accuracy_control``), for every framework
that can leave layers alone. The outcome is a recipe that names those layers: it is made, cached and
gated like any other, and says by itself what it leaves at full precision.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from pytest_edgeai import measurements
from pytest_edgeai.errors import EdgeAIError, ModelError
from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.measure.bench import Samples
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import PairedQuality, Recipe, Threshold, Verdict
from pytest_edgeai.sensitivity_records import (
    LAYER_OPTIONS,
    LayerSensitivity,
    Restoration,
    RestoringEnd,
    RestoringStep,
    Sensitivity,
)
from pytest_edgeai.workbench import START_LIMIT_S, Workbench, place, title
from pytest_edgeai.worker.host import Worker, WorkerSpec

RANKING_SHARE = 1 / 3
"""Most of the time box that ranking the layers may take."""
LIMIT_SHARE = 0.5
"""Most of a worker's time limit that it may take; calibration comes on top."""


def layer_option(candidate: PlannedCandidate, bench: Workbench) -> str:
    """Return the option of a candidate's recipe that leaves layers alone.

    Raises:
        ModelError: it has none.
    """
    recipe = candidate.recipe
    framework = bench.session.catalogue.frameworks[recipe.framework]
    known = framework.options.get(recipe.scheme, ())
    for name in LAYER_OPTIONS:
        if name in known:
            return name
    raise ModelError(
        f'"{recipe.scheme}" of {recipe.framework} has no option for layers that stay at full '
        "precision",
        where=f"recipe {recipe.id}",
    )


def layer_sensitivity(
    bench: Workbench,
    candidate: PlannedCandidate,
    samples: Samples | None = None,
    *,
    time_box_s: float = 60.0,
) -> Sensitivity:
    """Rank the layers that a candidate quantizes by what quantizing each alone does to the outputs.

    The error of the model's outputs with one layer quantized and the rest at full precision, over
    as many samples as the original model takes a quarter of a second for (32 calls at most). One
    worker does all of it, and calibrates once. Kept as evidence, and measured once per session.

    Args:
        bench: makes and measures.
        candidate: a quantized candidate of onnxruntime, olive or openvino.
        samples: staged inputs of selection data; ``None``: the calibration data.
        time_box_s: longest time for it, beside the calibration; layers that it does not suffice for
            share a figure with their neighbors.

    Raises:
        ModelError: the recipe quantizes no layer that could be left alone, or there is no data.
        EdgeAIError: the framework is missing or failed.
    """
    data = "calibration" if samples is None else "selection"
    key = ("sensitivity", candidate.model.name, candidate.recipe.id, data)
    return bench.once(key, lambda: _sensitivity(bench, candidate, samples, time_box_s))


def _sensitivity(
    bench: Workbench, candidate: PlannedCandidate, samples: Samples | None, time_box_s: float
) -> Sensitivity:
    recipe = candidate.recipe
    _check(bench, candidate)
    model = bench.model(candidate.model.name)
    fed = samples or model.calibration_samples
    if fed is None:
        raise ModelError(
            "there are no samples to measure layers with",
            where=candidate.model.where,
            advice='Name some with the model\'s "calibration" key',
        )
    framework = bench.session.catalogue.frameworks[recipe.framework]
    spec = WorkerSpec(framework, bench.session.interpreter(recipe.framework))
    began = time.monotonic()
    with bench.heavy(title(candidate)), Worker.start(spec, time_limit_s=START_LIMIT_S) as worker:
        answer = worker.request(
            "layer_noise",
            time_limit_s=bench.session.settings.time_limit,
            on_progress=lambda what, done: bench.progress.step(title(candidate), what, done),
            source=str(model.facts.path),
            recipe=recipe,
            architecture=model.facts.architecture,
            inputs=model.facts.inputs,
            calibration=_staged(model.calibration_samples),
            samples=_staged(fed),
            time_box_s=min(time_box_s, LIMIT_SHARE * bench.session.settings.time_limit),
        )
    found = Sensitivity(
        recipe=recipe.id,
        layers=_ranked(answer["layers"]),
        all_layers_noise_ratio=_ratio(answer["all_layers"]),
        calls=answer["calls"],
        evaluations=answer["evaluations"],
        seconds=time.monotonic() - began,
        from_data="calibration" if samples is None else "selection",
    )
    bench.evidence.write_record(place(candidate, "sensitivity"), found)
    return found


def _check(bench: Workbench, candidate: PlannedCandidate) -> str:
    """Return the option for layers of a candidate whose layers can be measured.

    Raises:
        ModelError: they cannot.
    """
    if bench.model(candidate.model.name).language is not None:
        raise ModelError(
            "layers of models that generate text are not measured one by one",
            where=candidate.model.where,
        )
    return layer_option(candidate, bench)


def _staged(samples: Samples | None) -> dict[str, Any] | None:
    if samples is None:
        return None
    return {"arrays": samples.arrays, "batch": samples.batching.batch}


def _ratio(value: float | None) -> float:
    """Return a ratio that went through JSON, which has no infinity."""
    return math.inf if value is None else value


def _ranked(measured: Sequence[Mapping[str, Any]]) -> tuple[LayerSensitivity, ...]:
    """Return layers by their noise, the most harmful first; equals in the order of the graph."""
    layers = [
        LayerSensitivity(
            name, _ratio(each["noise_ratio"]) / len(each["layers"]), len(each["layers"])
        )
        for each in measured
        for name in each["layers"]
    ]
    return tuple(sorted(layers, key=lambda layer: -layer.noise_ratio))


def with_restored(recipe: Recipe, option: str, layers: Sequence[str]) -> Recipe:
    """Return a recipe that leaves further layers at full precision.

    Its label tells how many, and a digest of which, so that its id names one artifact alone.

    Args:
        recipe: the recipe.
        option: its option for them, see `layer_option`.
        layers: their names; none: the recipe itself.
    """
    if not layers:
        return recipe
    names = list(dict.fromkeys([*recipe.options.get(option, ()), *layers]))
    digest = hashlib.sha256("\0".join(sorted(names)).encode()).hexdigest()[:6]
    label = "-".join(part for part in (recipe.label, f"kept{len(names)}", digest) if part)
    listed = ", ".join(layers[:3]) + (", ..." if len(layers) > 3 else "")
    return replace(
        recipe,
        options={**recipe.options, option: names},
        label=label,
        reason=f"{len(layers)} of its most harmful layers are kept at full precision ({listed})",
    )


def restore_layers(
    bench: Workbench,
    candidate: PlannedCandidate,
    *,
    retained_more_than: float,
    most: int | None = None,
    time_box_s: float = 600.0,
    ranking: Sensitivity | None = None,
) -> Restoration:
    """Restore layers, the most harmful first, until the candidate retains its quality.

    The numbers of layers tried are 0, 1, 2, 4 ... and then those that bisection asks for: 8
    artifacts where 8 layers are needed, 16 at most for a model of 100. Each goes through the cache.

    Retention holds where the rule of the gate ``accuracy_retained`` passes it on these data; where
    they are too few for that to ever happen, where the estimate lies above.

    Args:
        bench: a workbench whose evaluation data are selection data: what is chosen by data cannot
            be judged by them.
        candidate: a quantized candidate of onnxruntime, olive or openvino.
        retained_more_than: share of the baseline's quality, as ``accuracy_retained`` takes it.
        most: at most so many layers; ``None``: all but one.
        time_box_s: no artifact is begun that would not be done by then, going by the longest one
            before it; ranking the layers takes a third of it at most.
        ranking: the layers in order, where they were ranked before.

    Raises:
        ModelError: the recipe has no option for layers to leave alone, or quantizes none.
        EdgeAIError: the candidate as it is could not be made or run.
    """
    option = _check(bench, candidate)
    began = time.monotonic()
    search = _Search(bench, candidate, option, retained_more_than, began + time_box_s)
    search.attempt(0)
    ended: RestoringEnd = "retention holds"
    if not search.holding:
        if ranking is None:
            samples = bench.model(candidate.model.name).samples
            ranking = layer_sensitivity(
                bench, candidate, samples, time_box_s=RANKING_SHARE * time_box_s
            )
        search.layers = tuple(layer.layer for layer in ranking.layers)
        limit = len(search.layers) - 1 if most is None else min(most, len(search.layers) - 1)
        ended = least_number(search.attempt, limit, search.is_time)
        if ended == "most layers" and limit == len(search.layers) - 1:
            ended = "every layer"
    chosen = search.best()
    return Restoration(
        recipe=with_restored(candidate.recipe, option, search.layers[:chosen]),
        restored=search.layers[:chosen],
        holds=bool(search.holding),
        ended=ended,
        judged_by=search.judged_by,
        history=tuple(search.history),
        sensitivity=ranking,
        seconds=time.monotonic() - began,
    )


def least_number(
    attempt: Callable[[int], bool], limit: int, is_time: Callable[[], bool]
) -> RestoringEnd:
    """Look for the least number from 1 on for which ``attempt`` succeeds, as 0 did not.

    First 1, 2, 4 ... up to ``limit``, then bisection: at most 2 ceil(log2(n)) + 1 attempts for an n
    that succeeds, and log2(limit) + 2 where none does.

    Args:
        attempt: tells whether a number succeeds; more succeed where fewer do.
        limit: the largest number.
        is_time: whether there is time for another attempt.

    Returns:
        ``most layers`` where not even ``limit`` succeeds.
    """
    failing, number, holding = 0, 1, 0
    while not holding:
        number = min(number, limit)
        if number <= failing:
            return "most layers"
        if not is_time():
            return "time box"
        if attempt(number):
            holding = number
        else:
            failing, number = number, 2 * number
    while holding - failing > 1 and is_time():
        middle = (failing + holding) // 2
        if attempt(middle):
            holding = middle
        else:
            failing = middle
    return "retention holds"


@dataclass
class _Search:
    """Looks for the least number of layers."""

    bench: Workbench
    candidate: PlannedCandidate
    option: str
    retained_more_than: float
    deadline: float
    layers: tuple[str, ...] = ()
    history: list[RestoringStep] = field(default_factory=list)
    judged_by: Literal["interval", "estimate"] = "interval"
    holding: list[int] = field(default_factory=list)

    def best(self) -> int:
        """Return the least number that holds, or else the one that retains most."""
        if self.holding:
            return min(self.holding)
        made = [step for step in self.history if step.retained is not None]
        return max(made, key=lambda step: step.retained or 0.0).restored if made else 0

    def attempt(self, number: int) -> bool:
        """Make and score the candidate with the first ``number`` layers restored."""
        began = time.monotonic()
        recipe = with_restored(self.candidate.recipe, self.option, self.layers[:number])
        candidate = replace(self.candidate, recipe=recipe, node=recipe.id)
        try:
            size = self.bench.artifact(candidate).size_bytes
            quality, _ = measurements.quality(self.bench, candidate)
            if number == 0:
                self.judged_by = "interval" if self._can_pass(quality) else "estimate"
            verdict = self._judge(quality)
        except EdgeAIError as error:
            if number == 0:
                raise
            seconds = time.monotonic() - began
            self.history.append(
                RestoringStep(number, None, None, None, False, 0, seconds, str(error))
            )
            return False
        low, high = verdict.interval or (None, None)
        if self.judged_by == "interval":
            holds = verdict.outcome == "pass"
        else:
            observed = verdict.observed
            holds = observed is not None and observed > self.retained_more_than
        if holds:
            self.holding.append(number)
        self.history.append(
            RestoringStep(
                number, verdict.observed, low, high, holds, size, time.monotonic() - began
            )
        )
        return holds

    def _judge(self, quality: PairedQuality) -> Verdict:
        threshold = Threshold(self.retained_more_than, "more_than", "restoring")
        return judge_accuracy(quality, threshold)

    def _can_pass(self, quality: PairedQuality) -> bool:
        """Return whether a candidate that does just what the baseline does would pass."""
        resamples = dict(quality.resamples)
        if "baseline" in resamples:
            resamples["candidate"] = resamples["baseline"]
        itself = replace(
            quality,
            candidate_scores=quality.baseline_scores,
            resamples=resamples,
            cosines={name: np.ones_like(each) for name, each in quality.cosines.items()},
        )
        return self._judge(itself).outcome == "pass"

    def is_time(self) -> bool:
        """Return whether another artifact would be done in time, going by the longest one."""
        longest = max((step.seconds for step in self.history), default=0.0)
        return time.monotonic() + longest <= self.deadline
