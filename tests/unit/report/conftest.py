"""Reports to render: one that looks like a real session, and any that hypothesis can think of."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from planted_sessions import GATES, HOST, artifact, typical_report

from pytest_edgeai.advice_records import Advice, FixAttempt
from pytest_edgeai.records import (
    LatencySummary,
    Outcome,
    Recipe,
    Relation,
    RuntimeOptions,
    Stage,
    Verdict,
)
from pytest_edgeai.report.content import CandidateReport, HostReport, ModelReport, Report
from pytest_edgeai.search_records import Figure, SearchReport, Trial

T = TypeVar("T")


@pytest.fixture(name="typical")
def typical_fixture() -> Report:
    """A session of two models and four candidates in which most things happen."""
    return typical_report()


@pytest.fixture(name="typical_once", scope="session")
def typical_once_fixture() -> Report:
    """The same, for what takes long to make of it."""
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
        return self.random.choice((*GATES, "slice_retained", *self.texts))

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
            details={self.text(): self.number(), "divisions": self.divisions()},
        )

    def divisions(self) -> dict[str, Any]:
        part = {
            "samples": self.random.randint(0, 1000),
            "baseline": self.number(),
            "candidate": self.number(),
            "retained": self.number(),
            "decision": self.random.choice(("pass", "fail", "inconclusive")),
        }
        return {self.text(): {self.text(): part} for _ in range(self.random.randint(0, 2))}

    def advice(self) -> Advice:
        lines = self.some(self.text, 2)
        return Advice(self.text(), self.text(), self.text(), self.text(), lines)

    def fix(self) -> FixAttempt:
        gate, figures = self.name(), (self.number(), self.number(), self.number())
        return FixAttempt(
            self.text(), self.some(self.text, 2), self.text(), {gate: figures}, {gate: figures},
            {gate: self.text()}, self.random.random(), self.random.random() < 0.5, self.text(),
        )  # fmt: skip

    def trial(self) -> Trial:
        names = ("speedup", "accuracy_retained", "memory_cut", self.text())
        figures = {
            name: Figure(value, self.number(), self.number())
            for name in self.some(lambda: self.random.choice(names), 4)
            if (value := self.number()) is not None
        }
        recipe = Recipe(self.text(), self.text(), {self.text(): self.text()})
        return Trial(3, recipe, RuntimeOptions(), "measured", figures, 2.0, self.text())

    def search(self) -> SearchReport:
        return SearchReport(
            self.text(), self.text(), {self.text(): [self.text()]}, self.some(self.trial, 3),
            self.some(self.text, 2), 3.0, self.random.choice(("trials", "time box")),
            {self.text(): self.some(self.text, 2)},
        )  # fmt: skip

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
            advice=self.some(self.advice, 2),
            fixes=self.some(self.fix, 2),
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
            searches={self.text(): search for search in self.some(self.search, 1)},
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
