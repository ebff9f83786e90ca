"""Olive's own search over the settings of static quantization, judged on calibration data alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import (
    Calibration,
    Feeds,
    OptimizeRequest,
    Progress,
)
from pytest_edgeai.optimize.frameworks.olive_workflow import (
    JSONTable,
    Outcome,
    import_olive,
    no_artifact,
)
from pytest_edgeai.optimize.frameworks.onnxruntime import OnnxRuntimeModel
from pytest_edgeai.optimize.frameworks.support import Options, Report
from pytest_edgeai.records import RuntimeOptions

EVALUATOR = "pytest_edgeai_fidelity"
DEFAULT_TRIALS = 6
DEFAULT_LEAST_FIDELITY = 0.9
MOST_SCORING_CALLS = 64
_SCORED_SHARE = 4  # one call in four judges; the ranges are found on the others
_OBJECTIVES = ("fidelity", "latency")
_SAMPLERS = ("random", "sequential", "tpe")
_PASS = "onnxstaticquantization"
# Olive's names of the metrics' only sub-types; it has no metric of distance, and its metrics of
# type "custom" cannot be serialized (0.13.0).
_SUB_TYPES = {
    "fidelity": "accuracy_score",
    "error": "accuracy_score",
    "agreement": "accuracy_score",
    "latency": "p50",
}
# Smaller differences of fidelity are no reason to prefer a slower model.
_FIDELITY_DIGITS = 2


@dataclass(frozen=True)
class SearchSettings:
    """Options of the scheme ``int8-search``.

    Attributes:
        trials: most settings that are tried.
        objective: ``fidelity``, to two digits, and the latency where it is equal; or ``latency``
            among trials of at least ``least_fidelity``.
        least_fidelity: see ``objective``; 1 is equality with the float model's outputs.
        sampler: how Olive picks the settings of the next trial.
        weight_types: weight types that are tried.
        calibrate_methods: methods of finding ranges that are tried.
    """

    trials: int
    objective: str
    least_fidelity: float
    sampler: str
    weight_types: tuple[str, ...]
    calibrate_methods: tuple[str, ...]

    @classmethod
    def read(
        cls, options: Options, weight_types: tuple[str, ...], methods: tuple[str, ...]
    ) -> SearchSettings:
        """Read the options.

        Raises:
            ModelError: one has a value that is not allowed.
        """
        return cls(
            trials=options.count("trials", DEFAULT_TRIALS),
            objective=options.choice("objective", "fidelity", _OBJECTIVES),
            least_fidelity=options.number("least_fidelity", DEFAULT_LEAST_FIDELITY, 0.0, 1.0),
            sampler=options.choice("sampler", "random", _SAMPLERS),
            weight_types=_some(options, "weight_types", weight_types),
            calibrate_methods=_some(options, "calibrate_methods", methods),
        )

    def space(self, methods: Mapping[str, str]) -> JSONTable:
        """Return the settings of Olive's pass that are searched, each with its values."""
        return {
            "per_channel": [True, False],
            "precision": list(self.weight_types),
            "calibrate_method": [methods[name] for name in self.calibrate_methods],
        }


def search(
    request: OptimizeRequest,
    settings: SearchSettings,
    calibration: Calibration,
    run: Callable[[Calibration, JSONTable], Outcome],
    report: Report,
    progress: Progress,
) -> Outcome:
    """Let Olive try settings, and say what each trial gave and which one it chose.

    Raises:
        ModelError: no trial made a model, or none was close enough to the float model.
    """
    import_olive()
    ranging, scoring = _split(calibration, report)
    judge = _Judge(request.source, scoring)

    def evaluate(model: Path) -> dict[str, float]:
        found = judge.score(model)
        judge.trials += 1
        done = min(judge.trials, settings.trials)
        if settings.objective == "fidelity":
            found["fidelity"] = round(found["fidelity"], _FIDELITY_DIGITS)
        progress(
            f"trial {done} of {settings.trials}: relative error {found['error']:.4f}",
            0.15 + 0.75 * done / settings.trials,
        )
        return found

    _register(evaluate)
    outcome = run(ranging, _configuration(settings))
    figures = _figures(outcome)
    for index, (identifier, line) in enumerate(figures.items(), 1):
        chosen = " (chosen)" if identifier == outcome.best and outcome.path else ""
        report.add(f"trial {index}: {line}{chosen}")
    if outcome.path is None:
        if figures and settings.objective == "latency":
            raise ModelError(
                f"none of {len(figures)} trials reached the fidelity (1 - relative error) of "
                f"{settings.least_fidelity:g}: {'; '.join(figures.values())}",
                where=str(request.source),
                advice='Lower "least_fidelity", or leave some nodes in float32 by '
                '"nodes_to_exclude"',
            )
        raise no_artifact(request, outcome)
    report.add(f"chose by {settings.objective}: {figures.get(outcome.best, outcome.best)}")
    return outcome


def _some(options: Options, name: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(options.names(name, allowed)))
    if not chosen or not set(chosen) <= set(allowed):
        raise ModelError(
            f'option "{name}" is {list(chosen)!r}', allowed=f"some of {', '.join(allowed)}"
        )
    return chosen


@dataclass(frozen=True)
class _Part:
    """The feeds from ``begin`` up to ``end``."""

    source: Calibration
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin

    def __iter__(self) -> Iterator[Feeds]:
        return islice(iter(self.source), self.begin, self.end)


def _split(calibration: Calibration, report: Report) -> tuple[_Part, _Part]:
    """Return the feeds for finding ranges, and those for judging.

    A trial is not judged on the data that its ranges were fitted to, where there is enough of it.
    """
    count = len(calibration)
    scored = min(count // _SCORED_SHARE, MOST_SCORING_CALLS)
    if scored == 0:
        report.add(f"too few calibration calls to hold some back: trials are judged on all {count}")
        return _Part(calibration, 0, count), _Part(calibration, 0, count)
    report.add(f"ranges from {count - scored} calibration calls, trials judged on {scored} others")
    return _Part(calibration, 0, count - scored), _Part(calibration, count - scored, count)


class _Judge:
    """Compares models with the float model on the same feeds, in ONNX Runtime."""

    def __init__(self, source: Path, feeds: Calibration) -> None:
        self.trials = 0
        self._feeds = list(feeds)
        self._expected, _ = self._run(source)

    def score(self, model: Path) -> dict[str, float]:
        """Return relative error, fidelity, agreement and latency.

        The relative error is ||found - expected|| / ||expected|| (Euclidean norms over all
        outputs), fidelity 1 less that; agreement the share of equal argmax over the last axis;
        latency the median in milliseconds.
        """
        found, latency_ms = self._run(model)
        pairs = [
            (ours, theirs)
            for call, reference in zip(found, self._expected, strict=True)
            for ours, theirs in zip(call, reference, strict=True)
        ]
        distance = sum(float(np.sum((ours - theirs) ** 2)) for ours, theirs in pairs)
        size = sum(float(np.sum(theirs**2)) for _, theirs in pairs)
        same = [
            (ours.argmax(-1) == theirs.argmax(-1)).ravel()
            for ours, theirs in pairs
            if theirs.ndim and theirs.shape[-1]
        ]
        error = (distance / size) ** 0.5 if size else float(distance > 0)
        # NaN has no place in an order: the worst there is stands for it.
        error = error if np.isfinite(error) else float(np.finfo(np.float32).max)
        return {
            "error": error,
            "fidelity": 1 - error,
            "agreement": float(np.concatenate(same).mean()) if same else 1.0,
            "latency": latency_ms,
        }

    def _run(self, path: Path) -> tuple[list[list[NDArray[np.float64]]], float]:
        model = OnnxRuntimeModel(str(path), RuntimeOptions(), str(path))
        outputs, seconds = [], []
        for feeds in self._feeds:
            begin = time.perf_counter()
            found = model.run(feeds)
            seconds.append(time.perf_counter() - begin)
            numeric = [value for value in found.values() if value.dtype.kind in "fiub"]
            outputs.append([value.astype(np.float64) for value in numeric])
        model.close()
        return outputs, 1000 * statistics.median(seconds)


def _register(evaluate: Callable[[Path], dict[str, float]]) -> None:
    """Make ``evaluate`` Olive's evaluator :data:`EVALUATOR`."""
    from olive.evaluator.metric_result import MetricResult, SubMetricResult
    from olive.evaluator.olive_evaluator import OliveEvaluator
    from olive.evaluator.registry import Registry

    class Evaluator(OliveEvaluator):  # type: ignore[misc]
        def evaluate(self, model: Any, metrics: Any, *_: object, **__: object) -> Any:
            found = evaluate(Path(model.model_path))
            return MetricResult.model_validate(
                {
                    f"{metric.name}-{_SUB_TYPES[metric.name]}": SubMetricResult(
                        value=found[metric.name],
                        priority=sub_type.priority,
                        higher_is_better=sub_type.higher_is_better,
                    )
                    for metric in metrics
                    for sub_type in metric.sub_types
                }
            )

    Registry.register(EVALUATOR)(Evaluator)


def _configuration(settings: SearchSettings) -> JSONTable:
    ranks = {"fidelity": 1, "latency": 2}
    goals: dict[str, JSONTable] = {}
    if settings.objective == "latency":
        ranks = {"latency": 1, "fidelity": 2}
        # Against the float model's own 1; Olive ignores goals of the type "threshold" (0.13.0).
        goals["fidelity"] = {"type": "max-degradation", "value": 1 - settings.least_fidelity}
    metrics = []
    for name, sub_type in _SUB_TYPES.items():
        # -1: computed, and no objective
        ranked: JSONTable = {
            "name": sub_type,
            "priority": ranks.get(name, -1),
            "higher_is_better": name in ("fidelity", "agreement"),
        }
        if name in goals:
            ranked["goal"] = goals[name]
        kind = "latency" if name == "latency" else "accuracy"
        metrics.append({"name": name, "type": kind, "sub_types": [ranked]})
    return {
        "search_strategy": {
            "execution_order": "joint",
            "sampler": settings.sampler,
            # Olive looks after each trial whether there were more than max_iter, and drops the
            # sampler's own max_samples on the way (0.13.0).
            "max_iter": settings.trials - 1,
        },
        "evaluators": {"judge": {"type": EVALUATOR, "metrics": metrics}},
        "evaluator": "judge",
    }


def _figures(outcome: Outcome) -> dict[str, str]:
    """Return the settings and figures of each trial, by the identifier of its model."""
    lines = {}
    for identifier, node in outcome.nodes.items():
        if node.from_pass != _PASS:
            continue
        chosen = node.pass_run_config or {}
        how = ", ".join(
            f"{ours} {chosen.get(theirs)}".lower()
            for ours, theirs in (
                ("per_channel", "per_channel"),
                ("weight_type", "precision"),
                ("calibrate_method", "calibrate_method"),
            )
        )
        values = node.metrics.value.to_json() if node.metrics and node.metrics.value else {}
        found = {
            name: values[f"{name}-{sub_type}"]["value"]
            for name, sub_type in _SUB_TYPES.items()
            if f"{name}-{sub_type}" in values
        }
        if found:
            lines[identifier] = (
                f"{how}: relative error {found['error']:.4f}, agreement {found['agreement']:.4f}, "
                f"median {found['latency']:.3f} ms"
            )
        else:
            lines[identifier] = f"{how}: failed"
    return lines
