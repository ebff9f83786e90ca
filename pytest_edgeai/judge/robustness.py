"""The gate ``robustness``: what is retained under each corruption, the worst one decides.

That *every* corruption leaves enough is an intersection-union hypothesis, so each is tested at the
full level (Berger 1982); that *some* one takes too much is found among several, so those tests are
corrected by Holm (1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from pytest_edgeai.judge.embedding import TAIL_LIMIT
from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.judge.score import score
from pytest_edgeai.judge.statistics import mean_margin
from pytest_edgeai.judge.verdict import (
    list_text,
    make_verdict,
    percent_text,
    require_relation,
)
from pytest_edgeai.judge.whole import is_jackknife
from pytest_edgeai.production_records import CorruptedQuality
from pytest_edgeai.records import JSON, Outcome, Threshold, Verdict

GATE = "robustness"
GUESSING_LEVEL = 0.05
"""Level of the test that the baseline does better than guessing."""
_SHOWN = 3
_FEWEST = 2


def beats_guessing(found: CorruptedQuality) -> bool:
    """Return whether the baseline itself still does better than guessing under a corruption.

    Where it does not, a candidate that guesses as well would retain everything. By Student's t-test
    over the samples, or, for a figure of the whole set, by the lower bound of its resamples, those
    of a delete-a-group jackknife or of the bootstrap, as in :mod:`.whole`.
    """
    advantage = found.advantage
    if len(advantage) < _FEWEST or not np.isfinite(advantage).all():
        return False
    if found.quality.kind == "corpus":
        if is_jackknife(found.quality):
            groups = len(advantage)
            error = math.sqrt((groups - 1) * float(advantage.var()))
            reach = float(special.stdtrit(groups - 1, 1 - GUESSING_LEVEL)) * error
            return float(advantage.mean()) > reach
        return bool(np.quantile(advantage, GUESSING_LEVEL) > 0)
    if found.quality.kind != "perplexity" and not found.quality.baseline_scores.any():
        return False
    return mean_margin(advantage, alpha=GUESSING_LEVEL).decision == "pass"


def judge_robustness(
    found: Sequence[CorruptedQuality],
    threshold: Threshold,
    *,
    missing: Mapping[str, str] | None = None,
    alpha: float = 0.05,
    tail_limit: float = TAIL_LIMIT,
) -> Verdict:
    """Decide whether the candidate retains more than ``threshold`` under every corruption.

    Each corruption is judged as `judge_accuracy` judges the samples as they are. It passes if all
    do, each at level ``alpha``; it fails if one falls short at ``alpha`` after Holm's correction. A
    corruption under which the baseline itself does no better than guessing judges nobody: it
    prevents a pass, and so does one that lacks a tool.

    Args:
        found: both models under each corruption.
        threshold: relation ``more_than``, unit ratio.
        missing: name to what a corruption that fits lacks.
        alpha: bound on the probability of each wrong decision.
        tail_limit: see `judge_accuracy`.

    Returns:
        A verdict; ``observed`` is what is retained under the worst corruption that was judged.

    Raises:
        ValueError: for a threshold of another relation.
    """
    require_relation(GATE, threshold, "more_than")
    missing = missing or {}
    if threshold.value is None:
        return make_verdict(
            GATE, "not_applicable", threshold, unit="share", reason="no threshold is set"
        )
    fit = [each for each in found if beats_guessing(each)]
    lost = [each for each in found if not beats_guessing(each)]
    judged = {
        each.name: judge_accuracy(each.quality, threshold, alpha=alpha, tail_limit=tail_limit)
        for each in fit
    }
    failed = _failures(fit, judged, threshold, alpha, tail_limit)
    broken = [name for name, verdict in judged.items() if verdict.outcome == "error"]
    settled = {*failed, *broken}
    open_names = sorted(
        (name for name, v in judged.items() if v.outcome != "pass" and name not in settled),
        key=lambda name: _retained(judged[name]),
    )
    strengths = {each.name: each.strength for each in found}
    worst = min(judged, key=lambda name: _retained(judged[name]), default=None)
    details: dict[str, JSON] = {
        "corruptions": {each.name: _plain(each, judged.get(each.name)) for each in found},
        "not_measured": dict(missing),
    }

    def texts(names: Sequence[str]) -> str:
        """Return the first one in full, and of the others what is retained."""
        first, *others = names
        shown = [f"{strengths[name]} ({percent_text(judged[name].observed)})" for name in others]
        also = f"; likewise under {list_text(shown, _SHOWN)}" if shown else ""
        return f"{strengths[first]}: {judged[first].reason}{also}"

    outcome: Outcome
    advice = ""
    named = worst
    if failed:
        outcome, named = "fail", failed[0]
        details["error_rate"] = alpha
        reason = texts(failed)
        advice = (
            "calibrate with corrupted samples as well, so that the ranges hold them, "
            "or choose a gentler recipe"
        )
    elif broken:
        outcome, named, reason = "error", broken[0], texts(broken)
    elif lost or open_names:
        outcome = "inconclusive"
        reasons = [_lost_text(each) for each in lost]
        if open_names:
            named = open_names[0]
            reasons.append(texts(open_names))
            details["samples_needed"] = judged[named].details.get("samples_needed")
            advice = judged[named].advice
        if lost:
            advice = (
                "set robustness_severity lower in [gates], or name other corruptions in "
                "[production] corruptions"
            )
        reason = "; ".join(reasons)
    elif missing:
        outcome = "inconclusive"
        reason = f"not certified: {'; '.join(missing.values())}"
        advice = "or name the corruptions to be judged in [production] corruptions"
    elif worst is None:
        outcome, reason = "error", "not judged: there is no corruption"
    else:
        outcome = "pass"
        details["error_rate"] = alpha
        of = f"the worst of {len(judged)} corruptions is " if len(judged) > 1 else ""
        reason = f"{of}{strengths[worst]}: {judged[worst].reason}"
    shown = judged.get(named) if named else None
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="share",
        reason=reason,
        advice=advice,
        observed=shown.observed if shown else None,
        interval=shown.interval if shown else None,
        confidence=shown.confidence if shown else None,
        samples=max((len(each.quality.baseline_scores) for each in found), default=0),
        details=details,
    )


def _failures(
    fit: Sequence[CorruptedQuality],
    judged: Mapping[str, Verdict],
    threshold: Threshold,
    alpha: float,
    tail_limit: float,
) -> list[str]:
    """Return the corruptions that fail after Holm's correction, the worst one first."""
    suspects = {each.name: each for each in fit if judged[each.name].outcome == "fail"}
    failed: list[str] = []
    while suspects:
        level = alpha / (len(fit) - len(failed))
        proven = [
            name
            for name, each in suspects.items()
            if judge_accuracy(each.quality, threshold, alpha=level, tail_limit=tail_limit).outcome
            == "fail"
        ]
        if not proven:
            break
        failed += proven
        suspects = {name: each for name, each in suspects.items() if name not in proven}
    return sorted(failed, key=lambda name: _retained(judged[name]))


def _retained(verdict: Verdict) -> float:
    return math.inf if verdict.observed is None else verdict.observed


def _lost_text(found: CorruptedQuality) -> str:
    quality = found.quality
    figure = score(quality, "baseline")
    without = "" if found.clean is None else f", and {found.clean:.4g} without it"
    return (
        f"{found.strength}: not judged, the baseline itself does no better than guessing under it "
        f"({quality.metric} {figure:.4g}{without})"
    )


def _plain(found: CorruptedQuality, verdict: Verdict | None) -> dict[str, JSON]:
    quality = found.quality
    plain: dict[str, JSON] = {
        "severity": found.severity,
        "strength": found.strength,
        "metric": quality.metric,
        "baseline_uncorrupted": found.clean,
        "baseline_metric": score(quality, "baseline"),
        "candidate_metric": score(quality, "candidate"),
        "outcome": "not judged" if verdict is None else verdict.outcome,
    }
    if verdict is not None:
        plain |= {"retained": verdict.observed, "interval": verdict.interval}
    return plain
