"""Reports to render: one that looks like a real session, and any that hypothesis can think of."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st

from pytest_edgeai.records import (
    Artifact,
    HostFacts,
    LatencySummary,
    Outcome,
    Recipe,
    Relation,
    RuntimeOptions,
    Stage,
    Verdict,
)
from pytest_edgeai.report.content import CandidateReport, HostReport, ModelReport, Report

T = TypeVar("T")

HOST = HostFacts(
    hostname="ci-runner-7",
    system="Linux 6.8.0",
    architecture="x86_64",
    cpu_vendor="AuthenticAMD",
    cpu_model="AMD EPYC 7B13",
    logical_cores=2,
    memory_bytes=8 * 2**30,
    simd=("avx2", "avx512_vnni"),
    virtualization="kvm",
    sources={"cpu_model": "/proc/cpuinfo"},
)
GATES = (
    "accuracy_retained",
    "speedup",
    "memory_cut",
    "artifact_size",
    "latency_consistency",
    "output_sanity",
    "precision_proof",
)


def stage(name: str, framework: str, p50_ms: float, mib: float, memory_mib: float) -> Stage:
    """Return one measured stage."""
    return Stage(
        name=name,  # type: ignore[arg-type]
        framework=framework,
        runtime=RuntimeOptions(),
        latency=LatencySummary(
            samples=400,
            p50_ns=p50_ms * 1e6,
            p95_ns=p50_ms * 1.1e6,
            p99_ns=p50_ms * 1.3e6,
            cpu_p50_ns=p50_ms * 0.99e6,
            threads=2 if name == "accelerated" else 1,
            batch=1,
        ),
        size_bytes=int(mib * 2**20),
        metric="accuracy",
        score=0.9815,
        memory_bytes=int(memory_mib * 2**20),
        steady_bytes=int(memory_mib * 2**19),
    )


def artifact(framework: str) -> Artifact:
    """Return an artifact record; its files need not exist."""
    path = Path("cache/3f/model.xml")
    return Artifact(
        path=path,
        files=(path, path.with_suffix(".bin")),
        framework=framework,
        claimed_precision="int8",
        sha256="3f" * 32,
        size_bytes=5_900_000,
        key="ab" * 32,
        from_cache=True,
        seconds=11.5,
        versions={"openvino": "2025.3.0", "nncf": "2.18.0"},
    )


def passing_verdicts() -> tuple[Verdict, ...]:
    """Return the seven shipped gates, all passed."""
    return (
        Verdict("accuracy_retained", "pass", 0.9981, (0.9872, 1.0087), 0.95, 0.95, "more_than",
                "ratio", 540, "98.0% of the baseline's accuracy is certain."),
        Verdict("speedup", "pass", 2.746, (2.61, 2.90), 0.95, 1.5, "at_least", "ratio", 212,
                "At least 2.61x as fast.", threshold_origin="edgeai.toml"),
        Verdict("memory_cut", "pass", 0.6123, (0.58, 0.6411), 0.95, 0.5, "at_least", "ratio", 5,
                "Uses 61% less memory."),
        Verdict("artifact_size", "pass", 5_900_000, None, None, 8 * 2**20, "at_most", "bytes", 1,
                "5.63 MiB.", threshold_origin="edgeai.toml"),
        Verdict("latency_consistency", "pass", 1.04, (0.98, 1.096), 0.95, 1.1, "at_most", "ratio",
                212, "p95 holds."),
        Verdict("output_sanity", "pass", 0, None, None, 0, "at_most", "classes", 540, "Sane."),
        Verdict("precision_proof", "pass", 0.9893, None, None, 0.8, "at_least", "share", 12,
                "98.9% of the weights are int8."),
    )  # fmt: skip


def typical_report() -> Report:
    """Return a session of two models and four candidates in which most things happen."""
    passed = passing_verdicts()
    by_gate = {verdict.gate: verdict for verdict in passed}
    failing = (
        by_gate["accuracy_retained"],
        dataclasses.replace(
            by_gate["speedup"],
            outcome="fail",
            observed=1.312,
            interval=(1.27, 1.356),
            reason="The candidate is 1.31x as fast as the baseline, and at most 1.36x; 1.5x is "
            "required.",
            advice="Dynamic quantization leaves convolutions in FP32: try the int8-static scheme.",
        ),
        dataclasses.replace(
            by_gate["memory_cut"],
            outcome="inconclusive",
            observed=0.5012,
            interval=(0.4711, 0.5307),
            reason="The interval contains the limit after 5 repeats.",
            advice="About 22 repeats would decide: raise --edge-budget to 90.",
        ),
        dataclasses.replace(
            by_gate["latency_consistency"],
            outcome="not_applicable",
            observed=None,
            interval=None,
            threshold=None,
            reason="The candidate has no tail to judge below 100 samples.",
        ),
    )
    broken = tuple(
        Verdict(gate, "error", None, None, None, None, "at_least", "ratio", 0,
                "openvino worker, optimize: killed by signal 9 (out of memory) after 41 s.",
                advice="Give it more memory, or lower calibration samples with [models.digits] "
                "calibration_samples = 64.")
        for gate in GATES
    )  # fmt: skip
    proxied = (
        by_gate["accuracy_retained"],
        dataclasses.replace(
            by_gate["speedup"],
            outcome="proxy",
            reason="Measured on an AuthenticAMD host, which says nothing certain about Intel.",
            advice="Measure on an Intel host, or accept the proxy with --edge-allow-proxy.",
        ),
        *passed[2:],
    )
    stages = (
        stage("converted", "openvino", 3.71, 22.1, 41.0),
        stage("quantized", "openvino", 1.497, 5.63, 18.7),
        stage("accelerated", "openvino", 0.861, 5.63, 19.1),
    )
    digits = ModelReport(
        name="digits",
        sha256="d1" * 32,
        task="image-classification",
        baseline_framework="onnxruntime",
        baseline_path=Path("models/digits.onnx"),
        baseline_stage=stage("baseline", "onnxruntime", 4.112, 22.0, 48.2),
        candidates=(
            CandidateReport("openvino-int8-static", "intel", Recipe("openvino", "int8-static"),
                            artifact("openvino"), stages, passed, GATES, True, ()),
            CandidateReport("onnxruntime-int8-dynamic", "intel",
                            Recipe("onnxruntime", "int8-dynamic"), artifact("onnxruntime"),
                            (stage("quantized", "onnxruntime", 3.13, 5.9, 24.1),), failing, GATES,
                            False, ("speedup", "memory_cut", "artifact_size", "output_sanity",
                                    "precision_proof"),
                            {"speedup": "dynamic quantization of a CNN is slow; issue 41"}),
            CandidateReport("openvino-int8-static-mixed-per-channel-bias-corrected-with-sq",
                            "intel", Recipe("openvino", "int8-static"), None, (), broken, GATES,
                            False, GATES),
        ),
    )  # fmt: skip
    text = ModelReport(
        name="reader",
        sha256="e2" * 32,
        task="text-classification",
        baseline_framework="onnxruntime",
        baseline_path=Path("models/reader.onnx"),
        baseline_stage=None,
        candidates=(
            CandidateReport("openvino-int8-static", "intel", Recipe("openvino", "int8-static"),
                            artifact("openvino"), (), proxied, GATES, False, ("speedup",)),
        ),
    )  # fmt: skip
    unread = dataclasses.replace(
        text, name="scan", candidates=(), sha256="", problem="models/scan.onnx: truncated file"
    )
    return Report(
        created="2026-11-21T12:00:00+00:00",
        tool_version="0.1.0",
        hosts=(HostReport(HOST, "intel", True, "its processor is AuthenticAMD, not GenuineIntel"),),
        command=("pytest", "--edge-target=intel"),
        settings={"speedup": ("1.5", "edgeai.toml")},
        models=(digits, text, unread),
        evidence_directory=Path(".edgeai/evidence/2026-11-21T12-00-00"),
        evidence_sha256="9a" * 32,
        notes=("The load of other processes was above 0.5 in 12% of the rounds.",),
    )


@pytest.fixture(name="typical")
def typical_fixture() -> Report:
    """A session of two models and four candidates in which most things happen."""
    return typical_report()


# Everything that has broken a table, a terminal, an XML or a Markdown file before.
NASTY = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "a|b\n| c | `d` <script>alert(1)</script> &amp; **e** _f_ [g](h) ]]> --> \\| \\",
            "\x1b[31mred\x1b[0m\r\n\t\x00\x08\ud800\ufffe\x85\u2028",
            "名前" * 30,
            "x" * 200,
            "e\u0301" * 50,
            "```\n~~~\n# heading\n- item",
        ]
    ),
)
NUMBERS = st.none() | st.floats() | st.floats(0, 5) | st.integers(0, 2**40).map(float)
OUTCOMES: tuple[Outcome, ...] = (
    "pass", "fail", "inconclusive", "proxy", "not_applicable", "error"
)  # fmt: skip
STAGES: tuple[Any, ...] = ("baseline", "converted", "quantized", "accelerated")
RELATIONS: tuple[Relation, ...] = ("more_than", "at_least", "at_most")


class AnyReport:
    """Builds reports out of a few texts and numbers; a seed decides which stands where."""

    def __init__(self, texts: list[str], numbers: list[float | None], seed: int) -> None:
        self.texts = texts
        self.numbers = numbers
        self.random = random.Random(seed)

    def text(self) -> str:
        return self.random.choice(self.texts)

    def number(self) -> float | None:
        return self.random.choice(self.numbers)

    def name(self) -> str:
        return self.random.choice((*GATES, *self.texts))

    def some(self, make: Callable[[], T], most: int) -> tuple[T, ...]:
        return tuple(make() for _ in range(self.random.randint(0, most)))

    def maybe(self, make: Callable[[], T]) -> T | None:
        return make() if self.random.random() < 0.7 else None

    def table(self, most: int = 2) -> dict[str, str]:
        return dict(self.some(lambda: (self.name(), self.text()), most))

    def verdict(self) -> Verdict:
        return Verdict(
            gate=self.name(),
            outcome=self.random.choice(OUTCOMES),
            observed=self.number(),
            interval=self.maybe(lambda: (self.number(), self.number())),
            confidence=self.random.choice((None, 0.9, 0.95)),
            threshold=self.number(),
            relation=self.random.choice(RELATIONS),
            unit=self.random.choice(("ratio", "bytes", "ns", "classes", "share", self.text())),
            samples=self.random.randint(0, 1000),
            reason=self.text(),
            advice=self.text(),
            threshold_origin=self.random.choice(("default", "edgeai.toml", self.text())),
            details={self.text(): self.number()},
        )

    def stage(self) -> Stage:
        latency = LatencySummary(
            samples=self.random.randint(1, 1000),
            p50_ns=self.random.choice((0.0, 1e3, 4.2e6, 1e12)),
            p95_ns=1e6,
            p99_ns=1e6,
            cpu_p50_ns=self.number(),
            threads=self.random.randint(0, 64),
            batch=1,
        )
        return Stage(
            name=self.random.choice(STAGES),
            framework=self.text(),
            runtime=RuntimeOptions(hints=self.table()),
            latency=latency,
            size_bytes=self.random.randint(0, 2**42),
            metric=self.text(),
            score=self.number(),
            memory_bytes=self.maybe(lambda: self.random.randint(-(2**20), 2**42)),
        )

    def candidate(self) -> CandidateReport:
        made = dataclasses.replace(
            artifact(self.text()), claimed_precision=self.text(), versions=self.table()
        )
        return CandidateReport(
            id=self.text(),
            target=self.random.choice(("intel", self.text())),
            recipe=Recipe(self.text(), self.text(), {self.text(): self.number()}),
            artifact=self.maybe(lambda: made),
            stages=self.some(self.stage, 3),
            verdicts=self.some(self.verdict, 5),
            required_gates=self.some(self.name, 4),
            promoted=self.random.random() < 0.5,
            promotion_blocked_by=self.some(self.name, 2),
            known_failures=self.table(),
            gate_seconds={self.name(): self.random.random()},
        )

    def model(self) -> ModelReport:
        return ModelReport(
            name=self.text(),
            sha256=self.random.choice(("", "ef" * 32)),
            task=self.text(),
            baseline_framework=self.text(),
            baseline_path=Path(self.text()),
            baseline_stage=self.maybe(self.stage),
            candidates=self.some(self.candidate, 3),
            problem=self.random.choice(("", self.text())),
        )

    def host(self) -> HostReport:
        facts = dataclasses.replace(
            HOST,
            hostname=self.text(),
            system=self.text(),
            cpu_vendor=self.text(),
            cpu_model=self.text(),
            memory_bytes=self.maybe(lambda: self.random.randint(0, 2**45)),
            virtualization=self.text(),
        )
        return HostReport(facts, self.text(), self.random.random() < 0.5, self.text())

    def report(self) -> Report:
        return Report(
            created="2026-11-21T12:00:00+00:00",
            tool_version="0.1.0",
            hosts=self.some(self.host, 2),
            command=self.some(self.text, 3),
            settings={self.text(): (self.text(), self.text())},
            models=self.some(self.model, 3),
            evidence_directory=Path(self.text()),
            evidence_sha256="9a" * 32,
            notes=self.some(self.text, 2),
        )


class ReportStrategy:
    """Holds the strategy; a strategy itself would be printed in full wherever a test fails."""

    reports = st.builds(
        AnyReport,
        texts=st.lists(NASTY, min_size=3, max_size=3),
        numbers=st.lists(NUMBERS, min_size=3, max_size=3),
        seed=st.integers(0, 2**16),
    ).map(AnyReport.report)

    def draw(self, data: st.DataObject) -> Report:
        """Return a report whose texts and numbers are anything at all."""
        return data.draw(self.reports)


@pytest.fixture(name="any_report", scope="session")
def any_report_fixture() -> ReportStrategy:
    """Draws reports whose texts and numbers are anything at all."""
    return ReportStrategy()
