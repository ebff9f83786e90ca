"""The roll-out descriptor of a bundle: stages, triggers, and what the simulation of it showed."""

from __future__ import annotations

import json

from pytest_edgeai.promote.server import EDGE_SERVERS
from pytest_edgeai.records import JSON, to_json
from pytest_edgeai.report.content import CandidateReport
from pytest_edgeai.rollout_records import RolloutPolicy

ROLLOUT = "rollout.json"
ROLLOUT_SCHEMA = "pytest-edgeai/rollout/1"
_GATE = "rollout"


def render_rollout(candidate: CandidateReport, rollback: list[str]) -> dict[str, str]:
    """Return the descriptor by its name in the bundle; none for targets without servers.

    Args:
        candidate: what is promoted; its verdict of the gate ``rollout`` gives policy and outcome.
        rollback: the command that makes the version before current again.
    """
    if candidate.target not in EDGE_SERVERS:
        return {}
    verdict = next((each for each in candidate.verdicts if each.gate == _GATE), None)
    stated = verdict.details.get("policy") if verdict else None
    policy: dict[str, JSON] = stated or to_json(RolloutPolicy())
    content = {
        "schema": ROLLOUT_SCHEMA,
        "strategies": {
            "gradual_ramp": {
                "baseline_requests": policy["baseline_requests"],
                "stages": [
                    {"share_ratio": share, "requests": policy["stage_requests"]}
                    for share in policy["shares"]
                ],
            },
            "blue_green": {
                "baseline_requests": policy["baseline_requests"],
                "stages": [{"share_ratio": 1.0, "requests": policy["stage_requests"]}],
                "keep_old_version": True,
            },
        },
        "rollback": {
            "automatic": True,
            "window_requests": policy["window_requests"],
            "triggers": [
                {"of": "failed requests", "above_ratio": policy["error_ratio"]},
                {
                    "of": "slow requests",
                    "above_ratio": policy["slow_ratio"],
                    "slow_factor": policy["latency_factor"],
                    "slow_than": "the old version's p95 in the same roll-out",
                },
            ],
            "false_alarm": policy["false_alarm"],
            "command": rollback,
        },
        "simulated": None
        if verdict is None or verdict.outcome == "not_applicable"
        else {"outcome": verdict.outcome, "runs": to_json(verdict.details.get("runs"))},
    }
    return {ROLLOUT: json.dumps(content, indent=1, allow_nan=False) + "\n"}
