"""Profiles go through JSON and come back as they were."""

from __future__ import annotations

import json
import math

from profile_parts import PEAKS, candidate_profile, changed

from pytest_edgeai.profile_json import peaks_from_json, profile_from_json
from pytest_edgeai.records import to_json


def test_a_profile_comes_back() -> None:
    profile = candidate_profile(candidate=changed(waiting_ns=None, counters={"eval_ns": 3.0}))
    text = json.dumps(to_json(profile), allow_nan=False)
    assert profile_from_json(json.loads(text)) == profile


def test_peaks_come_back_in_order() -> None:
    found = peaks_from_json(json.loads(json.dumps(to_json(PEAKS), sort_keys=True)))
    assert found == PEAKS
    assert list(found.bytes_per_s_by_size) == sorted(PEAKS.bytes_per_s_by_size)


def test_what_is_not_counted_comes_back_as_that() -> None:
    profile = candidate_profile(baseline=changed(minor_faults=math.nan))
    back = profile_from_json(to_json(profile))
    assert math.isnan(back.baseline.minor_faults)
    assert back.candidate == profile.candidate
