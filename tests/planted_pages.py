"""Pages of sessions in which everything was measured, and of sessions with many candidates."""

from __future__ import annotations

import dataclasses

import numpy as np

from pytest_edgeai.advice_records import Advice, FixAttempt
from pytest_edgeai.energy_records import CarbonFactor, EnergyMethod, EnergyReport
from pytest_edgeai.profile_records import (
    Bottleneck,
    CandidateProfile,
    HostPeaks,
    OperatorTime,
    Profile,
)
from pytest_edgeai.records import Recipe, RuntimeOptions, Verdict
from pytest_edgeai.report.content import CandidateReport, Report
from pytest_edgeai.report.page_content import CandidateFiles, Latencies, Link, PageContent
from pytest_edgeai.search_records import Figure, SearchReport, Trial


def rich(report: Report) -> PageContent:
    """Return a page with everything that a candidate can have."""
    model = report.models[0]
    profile = Profile(
        "onnxruntime", RuntimeOptions(), 50, 4e6, 4e6, 4.4e6,
        tuple(OperatorTime(f"conv_{n}<i>", "Conv", 50, 10**6 * (20 - n), "int8")
              for n in range(14)),
        "ONNX Runtime's profiler", {"0": 0.98, "1": 0.02}, 3.0, 0.0, 1.0, 2.5,
    )  # fmt: skip
    limit = Bottleneck("memory-bound", "it reads 8.1 GB/s of 10 GB/s", 4e10, 8e8, 50.0, 0.6, 0.8)
    peaks = HostPeaks(1, 6e10, 2.4e11, 1e10, ("a product of matrices",), {65536: 4e10})
    slices = Verdict(
        "slice_retained", "fail", 0.42, None, None, 0.5, "more_than", "ratio", 540, "a class",
        details={
            "divisions": {
                "classes": {
                    f"<b>{n}": {"samples": 54, "baseline": 0.99, "candidate": 0.9,
                                "retained": 0.42 + n / 30, "decision": "pass" if n else "fail"}
                    for n in range(15)
                }
            }
        },
    )  # fmt: skip
    blocked = dataclasses.replace(
        model.candidates[1],
        verdicts=(*model.candidates[1].verdicts, slices),
        profile=CandidateProfile(profile, profile, peaks, limit, limit),
        advice=(
            Advice("dynamic-convolutions", "it is slow", "87% of the time is in ConvInteger",
                   "quantize statically", ("[models.digits]", 'schemes = ["int8-static"]')),
            Advice("threads", "it is slow", "one thread", "use two threads"),
        ),
        fixes=(
            FixAttempt("threads", ("threads = 2",), "x", {"speedup": (1.3, 1.2, 1.4)},
                       {"speedup": (1.6, 1.5, 1.7)}, {"speedup": "pass"}, 12.0, True),
            FixAttempt("batch", ("batch = 8",), "x", {}, {}, {}, 1.0, False, "does not load"),
        ),
        energy=EnergyReport(
            0.031, 0.012, 0.39, (0.37, 0.41), 0.95, 40,
            EnergyMethod(("CPU time",), False, {}, "CPU time times 3 W", "no counter is readable"),
            carbon=CarbonFactor("DEU", "Germany", 381.0, "codecarbon 3"),
            baseline_grams_per_million=3.3, candidate_grams_per_million=1.3,
        ),
    )  # fmt: skip
    trials = tuple(
        Trial(n, Recipe("openvino", "int8-static", {"subset": n}), RuntimeOptions(), "measured",
              {"speedup": Figure(1 + n / 10), "accuracy_retained": Figure(0.99)}, 2.0, "<slow>")
        for n in range(3)
    )  # fmt: skip
    search = SearchReport(
        "digits", "sqlite:///study.db", {"scheme": ["int8", "int4"]}, trials, ("a",), 31.0,
        "time box", {"a": ("conv_1",)},
    )  # fmt: skip
    rng = np.random.default_rng(0)
    calls = (4e6 * np.exp(rng.gamma(1, 0.05, (2, 200)))).astype(np.int64)
    files = CandidateFiles(Latencies(calls[0], calls[1]), (Link("timings", "ev%20i/t.npz"),))
    full = dataclasses.replace(
        report,
        models=(
            dataclasses.replace(
                model,
                candidates=(model.candidates[0], blocked),
                searches={"intel": search},
            ),
        ),
    )
    return PageContent(
        full,
        {(model.name, c.target, c.id): files for c in (model.candidates[0], blocked)},
        Link("evidence/x", "evidence/x"),
    )


def many(report: Report, count: int) -> PageContent:
    """Return a page of one model with so many candidates."""
    content = rich(report)
    model = content.report.models[0]
    made: list[CandidateReport] = []
    for number in range(count):
        like = model.candidates[number % 2]
        name = f"{like.id}-{number}"
        verdicts = tuple(
            dataclasses.replace(
                verdict,
                observed=verdict.observed and verdict.observed * (1 + number / 500),
                interval=verdict.interval
                and tuple(end and end * (1 + number / 500) for end in verdict.interval),  # type: ignore[arg-type]
            )
            for verdict in like.verdicts
        )
        made.append(dataclasses.replace(like, id=name, verdicts=verdicts))
    files = next(iter(content.files.values()))
    report = dataclasses.replace(
        content.report, models=(dataclasses.replace(model, candidates=tuple(made)),)
    )
    return PageContent(report, {(model.name, c.target, c.id): files for c in made})
