"""How much data and how many rounds the gates take, before anything is measured.

Everything here follows from the rules of the other judges and the user's limits. The only
assumption about measurements is how far calls scatter (:data:`CALL_NOISE_RATIO`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import special

from pytest_edgeai.judge import embedding, quality, speed
from pytest_edgeai.judge.embedding import TAIL, judge_embedding
from pytest_edgeai.judge.latency import judge_latency_consistency, minimum_rounds
from pytest_edgeai.judge.needs import RoundNeed, SampleNeed
from pytest_edgeai.judge.parts import samples_to_judge
from pytest_edgeai.judge.perplexity import AGREEMENT_GATE, DIVERGENCE_GATE, MINIMUM_BLOCKS
from pytest_edgeai.judge.procedure import Procedure
from pytest_edgeai.judge.quality import MINIMUM_LOSS_SAMPLES
from pytest_edgeai.judge.retention import accuracy_samples_needed, samples_to_ever_decide
from pytest_edgeai.judge.slices import GATE as SLICE_GATE
from pytest_edgeai.judge.statistics import (
    FloatArray,
    binomial_more_than,
    crossing_counts,
    quantile_samples_needed,
)
from pytest_edgeai.judge.tail import ERROR_RATE as STRAGGLER_ERROR_RATE
from pytest_edgeai.judge.turns import MINIMUM_TURNS, error_rate_of_look
from pytest_edgeai.judge.whole import MINIMUM_SAMPLES
from pytest_edgeai.records import PART_TURNS

POWER = quality.POWER
NEAR_RATIO = 0.05
"""How far from its threshold a speed-up is planned for."""

CALL_NOISE_RATIO = 0.03
"""Standard deviation of the logarithm of a call's time: the noise of the simulations of
docs/statistics.md. A busy machine takes up to twice the rounds."""

EXPECTED_RETENTION = 0.99
"""What a quantized model is expected to retain at least; near a threshold of more than 0.98, half
of what the threshold leaves."""

REGRESSION_GATE = "no_less_accurate"
"""Planned for a candidate that loses nothing against what was promoted before."""

RETENTION_GATES = (quality.GATE, REGRESSION_GATE)
DIVIDED_KINDS = ("proportion", "loss", "corpus", "embedding")
SPEED_GATES = (speed.GATE, "prefill", "time_to_first_token", "no_slower")

_MOST_SIGNS = 4096
_MOST_TURNS = 4096
_GRID_REACH = 8.0
_GRID_POINTS = 2001


def retentions_planned_for(threshold: float) -> tuple[float, ...]:
    """Return the true retentions above a threshold that samples are planned for, highest first."""
    values = {1.0, EXPECTED_RETENTION, _halfway(threshold)}
    return tuple(sorted((value for value in values if value > threshold), reverse=True))


def sample_need(
    gate: str,
    kind: str,
    threshold: float | None,
    *,
    baseline_accuracy: float | None = None,
    parts: str = "samples",
    is_grouped: bool = False,
) -> SampleNeed | None:
    """Return how much evaluation data a gate takes; ``None`` where it takes none.

    Args:
        gate: name of the gate.
        kind: of the metric: ``proportion``, ``loss``, ``perplexity``, ``corpus`` or ``embedding``;
            others are not known here.
        threshold: the gate's limit; ``None`` for none.
        baseline_accuracy: share of samples that the baseline gets right, where it is known.
        parts: what classes and slices are judged by, in the plural; empty where nothing is known of
            them.
        is_grouped: of an ``embedding``, whether labels say which samples belong together.
    """
    if threshold is None:
        return None
    if gate in (AGREEMENT_GATE, DIVERGENCE_GATE):
        return _blocks(gate)
    if gate == SLICE_GATE and kind in DIVIDED_KINDS and parts and 0 < threshold < 1:
        fewest = MINIMUM_LOSS_SAMPLES if kind == "loss" else samples_to_judge(threshold)
        note = "to be judged by itself; smaller classes and slices are judged together"
        return SampleNeed(
            gate, f"{parts} per class and slice", fewest, fewest, note=note, is_required=False
        )
    if gate not in RETENTION_GATES or threshold <= 0:
        return None
    if kind == "proportion":
        return _proportion_need(gate, threshold, baseline_accuracy)
    if kind == "perplexity":
        return _blocks(gate)
    if kind == "embedding":
        alpha = _defaults(judge_embedding)["alpha"]
        least = max(embedding.MINIMUM_SAMPLES, quantile_samples_needed(1 - TAIL, 1 - alpha))
        if is_grouped:
            return _recall_need(gate, threshold, least)
    elif kind in ("loss", "corpus"):
        least = MINIMUM_LOSS_SAMPLES if kind == "loss" else MINIMUM_SAMPLES
    else:
        return None
    note = "at least; how many more depends on how they vary, unknown beforehand"
    return SampleNeed(gate, "evaluation samples", least, least, note=note)


def _recall_need(gate: str, threshold: float, cosines: int) -> SampleNeed:
    """Return what recall@k takes, a proportion, and no fewer than the cosines do."""
    need = _proportion_need(gate, threshold, None)
    return replace(
        need,
        unit="samples of a group",
        least=max(need.least or 0, cosines),
        asked=None if need.asked is None else max(need.asked, cosines),
        note=need.note.replace("accuracy", "recall@k"),
    )


def _blocks(gate: str) -> SampleNeed:
    return SampleNeed(
        gate,
        "blocks of text",
        MINIMUM_BLOCKS,
        MINIMUM_BLOCKS,
        note="at least; how many more depends on how the blocks vary, unknown beforehand",
    )


def _proportion_need(gate: str, threshold: float, baseline_accuracy: float | None) -> SampleNeed:
    least = samples_to_ever_decide(threshold)
    known: dict[str, float] = {}
    note = "at a baseline accuracy of 95%"
    if baseline_accuracy is not None:
        # No more samples can turn right than the baseline gets wrong.
        known = {
            "baseline_accuracy": baseline_accuracy,
            "gain_rate": min(0.005, 1 - baseline_accuracy),
        }
        note = f"at the baseline accuracy of {baseline_accuracy:.1%} measured before"
    expected: dict[str, int | None] = {}
    for retention in retentions_planned_for(threshold):
        try:
            needed: int | None = accuracy_samples_needed(threshold, retention, power=POWER, **known)
        except ValueError:
            needed = None
        expected[f"{retention:g}"] = needed
    if not expected:
        note = "it asks for more than the baseline's own accuracy"
        return SampleNeed(gate, "evaluation samples", least, least, note=note)
    planned = 1.0 if gate == REGRESSION_GATE else max(EXPECTED_RETENTION, _halfway(threshold))
    asked = expected[f"{planned:g}"]
    return SampleNeed(gate, "evaluation samples", least, asked, expected, note)


def _halfway(threshold: float) -> float:
    return round((1 + threshold) / 2, 6)


def speed_need(gate: str, threshold: float | None, procedure: Procedure) -> RoundNeed:
    """Return the rounds that a gate on a speed-up takes.

    At least those at which the evidence of signs that all agree suffices; planned are those with
    which a candidate :data:`NEAR_RATIO` from the threshold is decided with a probability of
    :data:`POWER`. The medians of pairs of processes are taken to agree so far from it.

    Args:
        gate: its name.
        threshold: baseline time / candidate time; ``None`` where it has none.
        procedure: how it is decided.
    """
    fewest = procedure.min_rounds
    if threshold is None:
        return RoundNeed(gate, fewest, fewest, 1.0, "it has no threshold and is only reported")
    alpha = _defaults(speed.judge_speed)["alpha"]
    if procedure.deciding == "starts":
        least = max(fewest, signs_when_all_agree(alpha) * procedure.block)
        note = f"one sign for each pair of processes, of {procedure.block} rounds"
        return RoundNeed(gate, least, least, threshold, note, rounds_per_start=procedure.block)
    blocks = {
        "agree": (procedure.block, 1),
        "wall": (procedure.block,),
        "cpu": (1,),
        "cpu-unless-contradicted": (1,),
    }[procedure.deciding]
    counts = [signs_when_all_agree(alpha) * size for size in blocks]
    near = [_near(alpha, size) for size in blocks]
    asked = None if None in near else max(fewest, *(each for each in near if each is not None))
    note = (
        f"where all of them agree; planned for {NEAR_RATIO:.0%} from the threshold with calls that "
        f"scatter by {CALL_NOISE_RATIO:.0%}"
    )
    return RoundNeed(gate, max(fewest, *counts), asked, threshold, note)


def _near(alpha: float, block: int) -> int | None:
    signs = signs_to_decide(agreeing_share(NEAR_RATIO, CALL_NOISE_RATIO, block), alpha)
    return None if signs is None else signs * block


def signs_when_all_agree(alpha: float) -> int:
    """Return the fewest signs with which the evidence reaches 1/alpha."""
    needed = crossing_counts(alpha, _MOST_SIGNS)
    return int(np.argmax(needed <= np.arange(1, _MOST_SIGNS + 1))) + 1


def agreeing_share(distance: float, noise_ratio: float, block: int) -> float:
    """Return the share of comparisons that point the right way.

    Compared are minima of ``block`` calls of each model, whose times are lognormal:
    ``P(min A > min B) = integral of n phi(y) (1 - Phi(y))^(n-1) (1 - Phi(y - d))^n``, with d the
    difference of the medians in standard deviations.

    Args:
        distance: how far the ratio lies from the threshold, as a share of it.
        noise_ratio: standard deviation of the logarithm of a call's time.
        block: calls of each minimum.
    """
    shift = math.log1p(distance) / noise_ratio
    y = np.linspace(-_GRID_REACH, _GRID_REACH, _GRID_POINTS)
    density: FloatArray = np.exp(-y * y / 2) / math.sqrt(2 * math.pi)
    smaller = block * density * special.ndtr(-y) ** (block - 1)
    return min(1.0, float(np.trapezoid(smaller * special.ndtr(shift - y) ** block, y)))


def signs_to_decide(share: float, alpha: float, power: float = POWER) -> int | None:
    """Return the signs after which a sequence has decided with a probability of ``power``.

    Args:
        share: probability of each sign to point the right way.
        alpha: bound on the probability of a wrong decision.
        power: wanted probability.

    Returns:
        ``None`` where 4,096 signs would not suffice.
    """
    n = np.arange(1, _MOST_SIGNS + 1)
    reached = binomial_more_than(crossing_counts(alpha, _MOST_SIGNS) - 1, n, share) >= power
    return int(np.argmax(reached)) + 1 if reached.any() else None


def tail_need(
    gate: str, threshold: float | None, *, percentile: float | None, quantiles: Collection[float]
) -> RoundNeed:
    """Return the rounds of the gate on latency consistency, absolute limits included.

    Args:
        gate: its name.
        threshold: limit of the ratio of the tails; ``None`` where only absolute limits are judged.
        percentile: the percentile that is compared; ``None`` for the default.
        quantiles: quantiles with an absolute limit, for example 0.99.
    """
    rules = _defaults(judge_latency_consistency)
    parts = {}
    if threshold is not None:
        compared = rules["percentile"] if percentile is None else percentile
        parts[f"the ratio of the p{compared:g}"] = minimum_rounds(compared)
    for quantile in sorted(quantiles):
        name = f"the limit of p{100 * quantile:g} with no call over it"
        parts[name] = quantile_samples_needed(quantile, rules["confidence"])
    least = max(parts.values(), default=0)
    note = ", ".join(f"{count:,} rounds at least for {name}" for name, count in parts.items())
    return RoundNeed(gate, least, least, 1.0, note)


def turns_need(gate: str) -> RoundNeed:
    """Return the turns of a gate that watches a longer run; they are looked at in parts."""
    return RoundNeed(gate, MINIMUM_TURNS, PART_TURNS, 1.0, "looked at in parts", "turns")


def straggler_need(gate: str, threshold: float, calls_of_a_turn: int) -> RoundNeed:
    """Return the candidate's calls that the gate on stragglers takes, where none is one.

    Turns are looked at when their number has doubled, each time with a share of the error rate.

    Args:
        gate: its name.
        threshold: largest share of stragglers.
        calls_of_a_turn: judged calls of the candidate in each turn, at least 1.
    """
    turns = PART_TURNS
    least = _calls_without_straggler(threshold, turns)
    needed = least
    while turns * calls_of_a_turn < needed and turns < _MOST_TURNS:
        turns *= 2
        needed = _calls_without_straggler(threshold, turns)
    note = f"which prove a share of at most {threshold:.3g} where none is a straggler"
    asked = turns * calls_of_a_turn
    return RoundNeed(gate, least, asked if asked >= needed else None, 1.0, note, "calls")


def _calls_without_straggler(threshold: float, turns: int) -> int:
    if threshold >= 1:
        return 1
    confidence = 1 - error_rate_of_look(turns, STRAGGLER_ERROR_RATE)
    return quantile_samples_needed(1 - threshold, confidence)


def _defaults(judge: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the keyword defaults of a judge, which are its rules."""
    return getattr(judge, "__kwdefaults__", None) or {}
