"""How harmful quantizing each layer is: what frameworks offer, and how they share the work.

A layer's harm is the error that quantizing it alone adds to the model's outputs, the rest staying
at full precision. That isolates it, where comparing a quantized model's activations with the
original's layer by layer charges each layer with what the layers before it did. NNCF's accuracy
control ranks by the same error of the outputs, from the other end (one layer restored, the rest
quantized: ``nncf.quantize_with_accuracy_control``), and AIMET's per-layer analysis as is done here,
by enabling one layer's quantizers at a time.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.base import Calibration, Feeds, OptimizeRequest, Progress

Outputs = Sequence[Mapping[str, NDArray[Any]]]
"""Output name to array, for each call."""
NoiseOf = Callable[[Sequence[str]], float]
"""Noise ratio of the outputs with these layers quantized, and no others."""

LEAST_CALLS = 2
MOST_CALLS = 32
CALLS_FOR_S = 0.25
"""Calls are made for so long, within the two limits, with each model."""


@dataclass(frozen=True)
class LayerNoise:
    """What quantizing some layers, and no others, does to the outputs.

    Attributes:
        layers: names of the layers; several where the time did not suffice to tell them apart.
        noise_ratio: power of the outputs' error divided by that of the outputs.
    """

    layers: tuple[str, ...]
    noise_ratio: float


@dataclass(frozen=True)
class NoiseReport:
    """Every quantized layer, each in one entry, and all of them at once.

    Attributes:
        layers: in the order of the graph.
        all_layers: noise ratio with every layer quantized.
        calls: calls that were made with each model.
        evaluations: models that were made and run.
    """

    layers: tuple[LayerNoise, ...]
    all_layers: float
    calls: int
    evaluations: int


class LayerMeasuringFramework(Protocol):
    """What a framework that can quantize layers one by one offers beside ``Framework``."""

    def layer_noise(
        self, request: OptimizeRequest, samples: Calibration, time_box_s: float, progress: Progress
    ) -> NoiseReport:
        """Measure what quantizing each layer does to the outputs; nothing is written to keep.

        Args:
            request: the recipe, as for ``optimize``; its output folder takes intermediate files.
            samples: what the models are fed.
            time_box_s: longest time for it; the first layer of all is measured in any case.
            progress: told what is done.

        Raises:
            ModelError: the scheme quantizes no layers, or none that could be measured.
        """
        ...


def rank_layers(
    layers: Sequence[str],
    noise_of: NoiseOf,
    time_box_s: float,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[tuple[LayerNoise, ...], int]:
    """Measure each layer, or, where the time does not suffice, the most harmful ones.

    The first layer shows how long one takes. If all fit into the time box, each is measured by
    itself. Otherwise neighbors are measured together, about as many groups as layers in a group,
    and the group with the most noise is halved again and again until the time is over: noise adds
    up, so a group of little noise hides no harmful layer.

    Args:
        layers: names, in the order of the graph; at least one.
        noise_of: measures some of them.
        time_box_s: longest time.
        progress: told the share that is done.
        clock: for tests.

    Returns:
        every layer in one entry, in the order of the graph, and how many were measured.
    """
    begin = clock()
    count = 0

    def measure(names: Sequence[str]) -> LayerNoise:
        nonlocal count
        count += 1
        spent = (clock() - begin) / time_box_s if time_box_s > 0 else 1.0
        known = count / len(layers)
        progress(f"quantizing layer by layer, {count} measured", min(1.0, max(spent, known)))
        return LayerNoise(tuple(names), noise_of(names))

    def fits(more: int) -> bool:
        taken = clock() - begin
        return taken + more * taken / max(1, count) <= time_box_s

    first = measure(layers[:1])
    rest = list(layers[1:])
    # The first evaluation is the slowest (files are read, kernels compiled): a fair upper estimate.
    if fits(len(rest)):
        found = [first]
        for name in rest:
            if not fits(1):
                break
            found.append(measure([name]))
        left = rest[len(found) - 1 :]
        if not left:
            return tuple(found), count
        # Contended meanwhile: what is left shares one figure.
        return (*found, measure(left)), count
    size = max(1, math.isqrt(len(rest)))
    groups = [measure(rest[start : start + size]) for start in range(0, len(rest), size)]
    order = itertools.count()
    heap = [(-group.noise_ratio, next(order), group) for group in groups if len(group.layers) > 1]
    heapq.heapify(heap)
    kept = [first, *(group for group in groups if len(group.layers) == 1)]
    while heap and fits(2):
        _, _, group = heapq.heappop(heap)
        middle = len(group.layers) // 2
        for half in (measure(group.layers[:middle]), measure(group.layers[middle:])):
            if len(half.layers) == 1:
                kept.append(half)
            else:
                heapq.heappush(heap, (-half.noise_ratio, next(order), half))
    kept += [group for _, _, group in heap]
    place = {name: index for index, name in enumerate(layers)}
    return tuple(sorted(kept, key=lambda each: place[each.layers[0]])), count


def run_calls(run: Callable[[Feeds], Mapping[str, NDArray[Any]]], samples: Calibration) -> Outputs:
    """Run the original model on as many calls as take `CALLS_FOR_S`, and return its outputs.

    Raises:
        ModelError: no output holds floating-point numbers, which noise is measured in.
    """
    outputs: list[Mapping[str, NDArray[Any]]] = []
    begin = time.monotonic()
    for feeds in samples:
        answer = run(feeds)
        outputs.append(
            {name: array.copy() for name, array in answer.items() if array.dtype.kind == "f"}
        )
        enough = time.monotonic() - begin > CALLS_FOR_S
        if len(outputs) >= MOST_CALLS or (enough and len(outputs) >= LEAST_CALLS):
            break
    if not outputs or not outputs[0]:
        raise ModelError(
            "no output holds floating-point numbers, so that what quantizing a layer does to them "
            "cannot be measured",
            advice="Export the model with its scores as an output",
        )
    return outputs


def noise_ratio(
    reference: Outputs,
    run: Callable[[Feeds], Mapping[str, NDArray[Any]]],
    samples: Calibration,
) -> float:
    """Return the power of the outputs' error divided by that of the outputs, mean of all outputs.

    It is the inverse of the signal-to-quantization-noise ratio; infinite where an output is not
    finite although the original's is.
    """
    signal: dict[str, float] = dict.fromkeys(reference[0], 0.0)
    noise = dict(signal)
    for expected, feeds in zip(reference, samples, strict=False):
        answer = run(feeds)
        for name, array in expected.items():
            whole = array.astype(np.float64)
            with np.errstate(invalid="ignore", over="ignore"):
                error = np.asarray(answer[name], np.float64) - whole
                error = np.where(np.isfinite(whole), error, 0.0)
                signal[name] += float(np.square(np.where(np.isfinite(whole), whole, 0.0)).sum())
                noise[name] += float(np.square(error).sum())
    ratios = [
        (noise[name] / signal[name] if signal[name] else math.inf) if noise[name] else 0.0
        for name in signal
    ]
    mean = float(np.mean(ratios))
    return math.inf if math.isnan(mean) else mean
