"""When a roll-out goes on, when it goes back, and whether its simulation holds."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from pytest_edgeai.judge.statistics import binomial_more_than
from pytest_edgeai.judge.verdict import make_verdict
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.rollout_records import (
    RolloutAction,
    RolloutPolicy,
    RolloutRun,
    RolloutTraffic,
)

GATE = "rollout"
UNIT = "faults"
_REFERENCE = 0.95


def next_action(traffic: RolloutTraffic, policy: RolloutPolicy) -> tuple[RolloutAction, str]:
    """Return what a roll-out does after its last request, and why.

    At every look two counts of the new version are tested against what is accepted, each in the
    last window and in the whole stage, by the binomial distribution: failed requests, and requests
    slower than ``latency_factor`` times the old version's p95 of this roll-out. The chance of a
    false alarm is shared out over all looks of the roll-out (Bonferroni), so that a version within
    both shares is rolled back with at most ``false_alarm``.

    Args:
        traffic: the requests so far.
        policy: the plan.
    """
    stage = int(traffic.stage[-1]) if len(traffic.stage) else 0
    if stage == 0:
        enough = len(traffic.stage) >= policy.baseline_requests
        return ("advance", "the old version is known") if enough else ("stay", "")
    mine = np.flatnonzero((traffic.stage == stage) & traffic.is_new)
    if not len(mine) or len(mine) % policy.window_requests or not traffic.is_new[-1]:
        return "stay", ""
    limit_s = policy.latency_factor * old_latency(traffic)
    alpha = policy.false_alarm / looks(policy)
    for chosen in (mine[-policy.window_requests :], mine):
        counts = (
            ("failed", int(traffic.failed[chosen].sum()), policy.error_ratio),
            (
                f"took more than {limit_s * 1e3:.3g} ms ({policy.latency_factor:g}x the old "
                "version's p95)",
                int((traffic.seconds[chosen] > limit_s).sum()),
                policy.slow_ratio,
            ),
        )
        for words, count, accepted in counts:
            if count and binomial_more_than(count - 1, len(chosen), accepted) <= alpha:
                return "roll_back", f"{count} of the last {len(chosen)} requests {words}"
    if len(mine) < policy.stage_requests:
        return "stay", ""
    if stage == len(policy.shares):
        return "complete", "every stage held"
    return "advance", f"{len(mine)} requests held"


def looks(policy: RolloutPolicy) -> int:
    """Return how many tests a whole roll-out makes."""
    per_stage = -(-policy.stage_requests // policy.window_requests)
    return 4 * per_stage * len(policy.shares)


def old_latency(traffic: RolloutTraffic) -> float:
    """Return the old version's p95 in seconds, over what it answered; infinite where nothing."""
    answered = traffic.seconds[~traffic.is_new & ~traffic.failed]
    return float(np.quantile(answered, _REFERENCE)) if len(answered) else float("inf")


def judge_rollout(
    runs: tuple[RolloutRun, ...], threshold: Threshold, policy: RolloutPolicy
) -> Verdict:
    """Judge simulated roll-outs: the candidate's completes, each planted fault is taken back.

    Args:
        runs: the simulations.
        threshold: faults that are accepted, 0.
        policy: what they ran by.
    """
    faults = [fault for run in runs for fault in _faults(run)]
    unfinished = [run for run in runs if run.end == "unfinished"]
    requests = sum(len(run.traffic.stage) for run in runs)
    backs = [run.back_s for run in runs if run.back_s is not None]
    details = {
        "runs": [
            {
                "name": run.name,
                "fault": run.fault,
                "end": run.end,
                "reason": run.reason,
                "requests": len(run.traffic.stage),
                "to_the_new_version": int(run.traffic.is_new.sum()),
                "failed_there": int((run.traffic.failed & run.traffic.is_new).sum()),
                "lost": int(run.traffic.lost.sum()),
                "seconds_to_roll_back": run.back_s,
            }
            for run in runs
        ],
        "faults": faults,
        "policy": asdict(policy),
        "error_rate": policy.false_alarm,
    }
    if faults:
        outcome, reason = "fail", "; ".join(faults)
    elif unfinished:
        names = ", ".join(run.name for run in unfinished)
        outcome, reason = "inconclusive", f"the time was over before the end of: {names}"
    else:
        outcome = "pass"
        slowest = f", in at most {max(backs):.2g} s" if backs else ""
        reason = (
            f"the candidate reached all traffic, and {len(runs) - 1} planted faults were rolled "
            f"back{slowest}, without a lost request in {requests}"
        )
    return make_verdict(
        GATE,
        "fail" if outcome == "fail" else "pass" if outcome == "pass" else "inconclusive",
        threshold,
        unit=UNIT,
        reason=reason,
        advice="raise --edge-budget" if unfinished and not faults else "",
        observed=float(len(faults)),
        samples=requests,
        details=details,
    )


def _faults(run: RolloutRun) -> list[str]:
    found = []
    if run.fault and run.end == "completed":
        found.append(f"{run.name}: went on to the end although {run.fault}")
    if not run.fault and run.end == "rolled_back":
        found.append(f"{run.name}: the candidate was rolled back, because {run.reason}")
    lost = int(run.traffic.lost.sum())
    if lost:
        found.append(f"{run.name}: {lost} requests got no answer from either version")
    after = (run.traffic.stage < 0) & (run.traffic.failed | run.traffic.is_new)
    if after.any():
        found.append(f"{run.name}: {int(after.sum())} requests after the rollback were not served")
    return found
