"""The shipped gates of production readiness, which exist where ``[production]`` asks for them."""

from __future__ import annotations

import math

from pytest_edgeai.descriptors import GateDescriptor
from pytest_edgeai.tasks import CLASSIFICATION_TASKS, GENERATION_TASKS, TASKS

_TENSOR_TASKS = tuple(task for task in TASKS if task not in GENERATION_TASKS)
_ATTACKED_TASKS = (*CLASSIFICATION_TASKS, "tabular-regression", "time-series-forecasting")
"""An attack on membership reads the loss of single samples."""


def _test(name: str) -> str:
    return f"pytest_edgeai.gates.test_{name}:test_{name}"


PRODUCTION_GATES: tuple[GateDescriptor, ...] = (
    GateDescriptor(
        "load",
        _test("load"),
        "pytest_edgeai.production.load:decide_load",
        "at_least",
        1.0,
        "ratio",
        "sustains the expected rate of queries within the latency bound",
        measures_speed=True,
        positive=True,
        settings={
            "load_queries_per_second": "expected rate; 90% of the baseline's own by default",
            "load_latency_limit_ms": "latency bound; 10 times the baseline's median by default",
            "load_percentile": "percentile of the bounds; 99 by default, less for slow models",
            "load_streams": "queries that may be answered at once, 1 by default",
            "load_first_token_limit_ms": "bound of the time to the first token",
            "load_token_interval_limit_ms": "bound of the mean time between a request's tokens",
            "load_output_tokens": "tokens of an answer of a language model, 16 by default",
            "load_seconds": "seconds of LoadGen's runs: 45, or 600 with --edge-profile=release",
        },
        setting_ranges={"load_percentile": (50.0, 100.0)},
        whole_settings=("load_streams", "load_output_tokens"),
        production=True,
    ),
    GateDescriptor(
        "endurance",
        _test("endurance"),
        "pytest_edgeai.production.endurance:decide_endurance",
        "at_most",
        50_000.0,
        "bytes",
        "holds its memory, speed, files and threads under constant load, and after a spike",
        measures_speed=True,
        positive=True,
        settings={
            "endurance_minutes": "length under --edge-profile=release, 60 by default",
            "endurance_recovery_s": "longest time until a spike of load is over, 10 by default",
        },
        production=True,
    ),
    GateDescriptor(
        "recovery",
        _test("recovery"),
        "pytest_edgeai.production.recovery:decide_recovery",
        "at_most",
        30.0,
        "s",
        "serves right answers again after a kill, a corrupt artifact, a full disk, a restart",
        positive=True,
        production=True,
    ),
    GateDescriptor(
        "robustness",
        _test("robustness"),
        "pytest_edgeai.production.robustness:decide_robustness",
        "more_than",
        0.90,
        "share",
        "keeps more than 90% of the baseline's metric under each corruption that fits the task",
        lowest=0.0,
        highest=1.0,
        settings={
            "robustness_severity": "1 to 5, 2 by default and less where the baseline only guesses",
            "robustness_channel_axis": "axis of the channels in arrays of images, samples being 0",
            "robustness_lowest_value": "what black is in arrays of images",
            "robustness_highest_value": "what white is",
        },
        setting_ranges={
            "robustness_severity": (0.0, 6.0),
            "robustness_lowest_value": (-math.inf, math.inf),
            "robustness_highest_value": (-math.inf, math.inf),
        },
        whole_settings=("robustness_severity", "robustness_channel_axis"),
        production=True,
    ),
    GateDescriptor(
        "extreme_inputs",
        _test("extreme_inputs"),
        "pytest_edgeai.production.extreme_inputs:decide_extreme_inputs",
        "at_most",
        0.0,
        "faults",
        "answers or cleanly refuses zeros, NaN, Inf, empty, oversize and wrong inputs",
        lowest=0.0,
        highest=0.0,
        settings={
            "extreme_inputs_time_limit_s": "how long one call may take, 10 s at least by default"
        },
        production=True,
    ),
    GateDescriptor(
        "consistency",
        _test("consistency"),
        "pytest_edgeai.production.consistency:decide_consistency",
        "at_most",
        0.001,
        "share",
        "answers the same across repeats, batch sizes, thread counts and a reload",
        lowest=0.0,
        settings={
            "consistency_rounding": "times its own error that a candidate may vary by with threads "
            "and batch, 2 by default",
        },
        production=True,
    ),
    GateDescriptor(
        "framework_agreement",
        _test("framework_agreement"),
        "pytest_edgeai.production.framework_agreement:decide_framework_agreement",
        "at_least",
        0.95,
        "share",
        "the unoptimized model answers the same in other frameworks",
        lowest=0.0,
        highest=1.0,
        settings={
            "framework_agreement_tolerance": "how far two frameworks' answers may lie apart, in "
            "units of the output's spread, 0.01 by default for float32"
        },
        production=True,
    ),
    GateDescriptor(
        "artifact_security",
        _test("artifact_security"),
        "pytest_edgeai.production.artifact_security:decide_artifact_security",
        "at_most",
        0.0,
        "findings",
        "its files hold nothing that runs, escapes or explodes",
        lowest=0.0,
        production=True,
    ),
    GateDescriptor(
        "dependency_audit",
        _test("dependency_audit"),
        "pytest_edgeai.production.dependency_audit:decide_dependency_audit",
        "at_most",
        0.0,
        "findings",
        "no distribution of its runtime has a known vulnerability",
        lowest=0.0,
        production=True,
    ),
    GateDescriptor(
        "no_network",
        _test("no_network"),
        "pytest_edgeai.production.no_network:decide_no_network",
        "at_most",
        0.0,
        "attempts",
        "answers in a process without network and tries no connection",
        lowest=0.0,
        highest=0.0,
        settings={
            "no_network_watch_s": "how long it is watched at least, 12 s by default, 120 s under "
            "--edge-profile=release",
        },
        production=True,
    ),
    GateDescriptor(
        "bundle_privacy",
        _test("bundle_privacy"),
        "pytest_edgeai.production.bundle_privacy:decide_bundle_privacy",
        "at_most",
        0.0,
        "findings",
        "its files hold no sample of the data and no path of this machine",
        lowest=0.0,
        production=True,
    ),
    GateDescriptor(
        "membership_inference",
        _test("membership_inference"),
        "pytest_edgeai.production.membership_inference:decide_membership_inference",
        "at_most",
        0.05,
        "AUC",
        "tells training samples apart no better than the baseline does, by the attack's AUC",
        lowest=0.0,
        highest=0.5,
        tasks=_ATTACKED_TASKS,
        production=True,
        needs_key="members",
    ),
    GateDescriptor(
        "compliance",
        _test("compliance"),
        "pytest_edgeai.production.compliance:decide_compliance",
        "at_most",
        0.0,
        "findings",
        "licences declared and allowed, model card complete, ML-BOM valid, size within limits",
        lowest=0.0,
        highest=0.0,
        production=True,
    ),
    GateDescriptor(
        "rollout",
        _test("rollout"),
        "pytest_edgeai.production.rollout:decide_rollout",
        "at_most",
        0.0,
        "faults",
        "replaces the baseline behind a splitter, and planted faults are rolled back",
        lowest=0.0,
        highest=0.0,
        settings={
            "rollout_error_ratio": "failed requests that are accepted of the new version, 0.01",
            "rollout_latency_factor": "slow is more than this times the old version's p95, 2",
        },
        setting_ranges={"rollout_error_ratio": (0.0, 1.0)},
        tasks=_TENSOR_TASKS,
        production=True,
    ),
    GateDescriptor(
        "shadow",
        _test("shadow"),
        "pytest_edgeai.production.shadow:decide_shadow",
        "at_least",
        0.95,
        "share",
        "answers recorded traffic as the baseline does",
        lowest=0.0,
        highest=1.0,
        settings={
            "shadow_tolerance": "how far two answers to one request may lie apart, in units of the "
            "output's spread, 0.1 by default"
        },
        production=True,
        needs_key="traffic",
    ),
)
