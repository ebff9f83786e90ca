"""The gate ``no_network``: one attempt is one too many, and an unproven guard proves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_edgeai.judge.no_network import attempt_text, judge_no_network, uncertified
from pytest_edgeai.privacy_records import NetworkAttempt, NetworkWatch
from pytest_edgeai.records import Threshold

ZERO = Threshold(0.0, "at_most")
CLEAN = NetworkWatch(
    guards=("namespace", "kernel"),
    missing={},
    proved=True,
    attempts=(),
    local_sockets=("/run/x",),
    samples=100,
    calls=23,
    watched_s=12.0,
)
SENT = NetworkAttempt("inference", "connect", "192.0.2.7:443", "TCP", "", 2)
ASKED = NetworkAttempt("import", "lookup", "telemetry.example", "DNS", "curl")


def test_nothing_tried_passes_and_names_the_guards() -> None:
    verdict = judge_no_network(CLEAN, ZERO)
    assert (verdict.outcome, verdict.observed, verdict.samples) == ("pass", 0.0, 100)
    assert "a network namespace and a system call filter" in verdict.reason
    assert verdict.details["local_sockets"] == ["/run/x"]


def test_every_attempt_is_named() -> None:
    verdict = judge_no_network(replace(CLEAN, attempts=(ASKED, SENT)), ZERO)
    assert (verdict.outcome, verdict.observed) == ("fail", 3.0)
    assert "looked up telemetry.example (DNS, by curl) at import" in verdict.reason
    assert "connected to 192.0.2.7:443 (TCP, 2 times) at inference" in verdict.reason
    assert verdict.advice


def test_what_does_not_run_without_network_says_why() -> None:
    verdict = judge_no_network(replace(CLEAN, attempts=(SENT,), error="no license"), ZERO)
    assert verdict.outcome == "fail"
    assert verdict.reason.endswith("without it, it does not run: no license")


@pytest.mark.parametrize(
    "changes",
    [
        {"guards": ("python",), "missing": {"kernel": "no seccomp"}},
        {"guards": ()},
        {"proved": False},
    ],
)
def test_a_guard_that_proves_nothing_certifies_nothing(changes: dict[str, object]) -> None:
    watch = replace(CLEAN, **changes)  # type: ignore[arg-type]
    assert uncertified(watch)
    with pytest.raises(ValueError, match=r"guard|watched"):
        judge_no_network(watch, ZERO)


def test_an_attempt_counts_whatever_saw_it() -> None:
    watch = replace(CLEAN, guards=("python",), proved=False, attempts=(SENT,))
    assert not uncertified(watch)
    assert judge_no_network(watch, ZERO).outcome == "fail"


def test_another_relation_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="relation"):
        judge_no_network(CLEAN, Threshold(0.0, "at_least"))


def test_an_attempt_in_words() -> None:
    assert attempt_text(NetworkAttempt("load", "listen", "0.0.0.0:1")) == (
        "listened on 0.0.0.0:1 at load"
    )
