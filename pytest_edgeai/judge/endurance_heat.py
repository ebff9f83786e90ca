"""Whether heat slowed a device down under constant load, by its own sensors."""

from __future__ import annotations

import math

import numpy as np

from pytest_edgeai.judge.drift import shift_interval
from pytest_edgeai.judge.endurance_parts import Part, look_rate
from pytest_edgeai.judge.limits import LATENCY_DRIFT_RATIO
from pytest_edgeai.judge.turns import MINIMUM_TURNS, own_times
from pytest_edgeai.judge.verdict import ratio_text
from pytest_edgeai.production_records import EnduranceSamples
from pytest_edgeai.records import JSON

FREQUENCY_RATIO = 0.9
"""Cores that were slowed down run at less than this share of what they ran at before."""


def judge_heat(samples: EnduranceSamples) -> Part:
    """Judge the candidate's own time where the host's sensors say that heat slowed it down.

    Beside a baseline that heat slows down as well nothing of it would show.
    """
    sensors, turns = samples.sensors, samples.turns.turns
    name = "thermal throttling"
    hot = (
        sensors.temperature_c is not None
        and sensors.passive_c is not None
        and sensors.frequency_mhz is not None
    )
    figures: dict[str, JSON] = {
        "throttles": None
        if sensors.throttles is None
        else int(sensors.throttles[-1] - sensors.throttles[0]),
        "temperature_c": None
        if sensors.temperature_c is None
        else [float(sensors.temperature_c[0]), float(sensors.temperature_c.max())],
        "frequency_mhz": None
        if sensors.frequency_mhz is None
        else [float(sensors.frequency_mhz[0]), float(sensors.frequency_mhz[-1])],
    }
    if sensors.throttles is None and not hot:
        text = f"{name} (no sensor that tells in /sys/class/thermal, thermal_throttle and cpufreq)"
        return Part(name, None, text, figures=figures)
    throttled = sensors.throttles is not None and sensors.throttles[-1] > sensors.throttles[0]
    if hot and sensors.temperature_c is not None and sensors.frequency_mhz is not None:
        third = max(1, len(sensors.temperature_c) // 3)
        slower = np.median(sensors.frequency_mhz[-third:]) < FREQUENCY_RATIO * np.median(
            sensors.frequency_mhz[:third]
        )
        reached = float(sensors.temperature_c[-third:].max()) >= float(sensors.passive_c or 0.0)
        throttled = throttled or bool(slower and reached)
    if not throttled:
        return Part(name, "pass", "heat did not slow the processor down", figures=figures)
    if turns < MINIMUM_TURNS:
        return Part(name, "inconclusive", "heat slowed the processor down", figures=figures)
    own = own_times(samples.turns.candidate, long=math.inf, least_delay_ns=0.0)
    logs = np.log(np.median(own.relative, axis=1))
    third = turns // 3
    alpha = look_rate(samples)
    shift, low, _ = shift_interval(logs[:third], logs[-third:], alpha)
    figures["slower_ratio"] = math.exp(shift)
    text = f"heat slowed the processor down; the candidate took {ratio_text(math.exp(shift))}"
    if math.exp(low) > LATENCY_DRIFT_RATIO:
        advice = "cool the device, or choose a candidate that computes less"
        return Part(name, "fail", f"{text} as long in the end", advice, figures)
    return Part(name, "pass", f"{text} as long in the end, which is no more", figures=figures)
