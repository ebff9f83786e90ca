from __future__ import annotations

import dataclasses
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_edgeai.advice_records import Advice
from pytest_edgeai.report.content import Report
from pytest_edgeai.report.page_content import (
    MOST_DETAILED,
    MOST_DRAWN,
    PageContent,
)

pytest.importorskip("matplotlib", reason='run: pip install "pytest-edgeai[html]"')

from planted_pages import many, rich

from pytest_edgeai.report.html import POLICY, render_html

VOID = {"meta", "br"}
LARGEST_BYTES = 2_000_000


class Page(HTMLParser):
    """A page as a browser reads it; refuses elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append((self.open[-1] if self.open else "", data.strip()))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    def values(self, attribute: str) -> list[str]:
        return [found for _, a in self.tags if (found := a.get(attribute)) is not None]

    @property
    def text(self) -> str:
        return " ".join(" ".join(words for _, words in self.words).split())


def check(text: str) -> Page:
    """Check what holds of every page."""
    page = Page(text)
    assert text.startswith("<!doctype html>\n")
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(names)
    assert not [key for _, found in page.tags for key in found if key.startswith("on")]
    assert page.all("meta")[1] == {"http-equiv": "Content-Security-Policy", "content": POLICY}
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    for href in page.values("href"):
        if href.startswith("#"):
            assert href[1:] in ids, href
    for named in (*page.values("aria-labelledby"), *page.values("aria-describedby")):
        assert named in ids
    for head in ("header", "main", "nav", "footer", "h1"):
        assert names.count(head) == 1, head
    levels = [int(name[1]) for name in names if re.fullmatch("h[1-6]", name)]
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    assert "url(http" not in text
    return page


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_report_becomes_a_sound_page(any_report: Any, data: st.DataObject) -> None:
    check(render_html(PageContent(any_report.draw(data))))


def test_the_decision_comes_first_in_the_words_of_the_other_reports(typical: Report) -> None:
    page = check(render_html(PageContent(typical)))
    assert page.text.startswith("⚠️") is False
    first = page.text[page.text.index("Skip to the content") :]
    assert first.startswith(
        "Skip to the content ! Ship 1 of 4 candidates ✓ SHIP : digits openvino-int8-static was "
        "promoted ✗ DO NOT SHIP : digits onnxruntime-int8-dynamic is blocked by speedup (fail), "
        "memory_cut (inconclusive)"
    )
    assert "DO NOT SHIP : scan was not gated: models/scan.onnx: truncated file" in page.text


def test_gates_have_figures_thresholds_words_and_reasons(typical: Report) -> None:
    page = check(render_html(PageContent(typical)))
    assert "speedup 2.75× [2.61, 2.90] ≥ 1.5× (edgeai.toml) ✓ pass" in page.text
    assert "memory_cut 50.1% [47.1, 53.1] ≥ 50% ? inconclusive" in page.text
    assert "What to do: About 22 repeats would decide: raise --edge-budget to 90." in page.text
    assert "Known failure: dynamic quantization of a CNN is slow; issue 41" in page.text
    assert "all 7 gates - ! ERROR" in page.text
    assert "artifact_size - ? not run" in page.text


def test_what_was_not_measured_says_how(typical: Report) -> None:
    page = check(render_html(PageContent(typical)))
    assert "Not profiled: pytest with --edge-diagnose" in page.text
    assert "Roofline" not in page.text
    assert "Energy" not in page.text
    assert "Search" not in page.text
    assert "Latency of both models" not in page.text


def test_everything_that_was_measured_is_shown(typical: Report) -> None:
    page = check(render_html(rich(typical)))
    for expected in (
        "Top advice: quantize statically (87% of the time is in ConvInteger)",
        "quantize statically it is slow; 87% of the time is in ConvInteger",
        'schemes = ["int8-static"]',
        "threads threads = 2 speedup 1.3 → 1.6 (pass) ✓ kept 12 s",
        "does not load – taken back",
        "With these lines of edgeai.toml it passes what was judged again: threads = 2",
        "The candidate is memory-bound : it reads 8.1 GB/s of 10 GB/s",
        "Operators of the candidate: the 10 longest of 14",
        "conv_0<i> Conv int8 50",
        "share of the peak of bytes 80% 80%",
        "float32 60 GFLOP/s",
        "<b>0 42.0% 54 0.99 0.9",
        "The other 3, which retain more",
        "CPU time times 3 W",
        "31 mJ (estimate)",
        "0.39× (estimate), 95% interval [0.37, 0.41], 40 pairs",
        "3.3 g CO2e (estimate)",
        "Search for intel",
        "3: 3 measured",
        "openvino int8-static (subset=1)",
        "a : conv_1",
        "p99",
        "validation - 2.75×",
        "★ recommended",
        "To run it again pytest --edge-target=intel",
        "speedup = 1.5 (edgeai.toml)",
        "openvino 2025.3.0",
    ):
        assert expected in page.text, expected
    assert "ev%20i/t.npz" in page.values("href")
    titles = [words for tag, words in page.words if tag == "title"]
    assert titles[1:] == [
        "Speed against what it costs",
        "Latency of both models",
        "Median latency, stage by stage",
        "Latency of both models",
        "Median latency, stage by stage",
        "Roofline",
    ]


def test_every_plot_has_its_words_and_its_data(typical: Report) -> None:
    page = check(render_html(rich(typical)))
    plots = [found for found in page.all("svg") if found.get("class") == "plot"]
    assert len(plots) == 6
    assert all(found["role"] == "img" and found["aria-labelledby"] for found in plots)
    others = [found for found in page.all("svg") if found.get("class") != "plot"]
    assert all(found["aria-hidden"] == "true" for found in others)
    assert len(page.all("figure")) == len(page.all("figcaption")) == 6
    scrolling = [found for found in page.all("div") if found.get("class") == "scrolls"]
    assert scrolling
    assert all(found["tabindex"] == "0" and found["aria-label"] for found in scrolling)


def test_a_hundred_candidates_stay_one_page(typical: Report) -> None:
    text = render_html(many(typical, 100))
    page = check(text)
    assert len(text.encode()) < LARGEST_BYTES
    assert f"Details of the first {MOST_DETAILED} of 100 follow" in page.text
    details = [found for found in page.all("details") if found.get("class") == "candidate"]
    assert len(details) == MOST_DETAILED
    drawn = [words for tag, words in page.words if (tag, words) == ("title", "Roofline")]
    latencies = [w for tag, w in page.words if (tag, w) == ("title", "Latency of both models")]
    assert len(latencies) == MOST_DRAWN
    assert len(drawn) <= MOST_DRAWN
    assert "more, in the tables below" in page.text


def test_long_texts_leave_fewer_details(typical: Report) -> None:
    content = many(typical, 22)
    model = content.report.models[0]
    wordy = tuple(
        dataclasses.replace(
            candidate,
            verdicts=tuple(
                dataclasses.replace(v, reason="because " * 4000) for v in candidate.verdicts
            ),
        )
        for candidate in model.candidates
    )
    report = dataclasses.replace(
        content.report, models=(dataclasses.replace(model, candidates=wordy),)
    )
    text = render_html(PageContent(report))
    check(text)
    assert len(text.encode()) < LARGEST_BYTES
    assert 0 < text.count('class="candidate"') < MOST_DETAILED


def test_the_same_report_gives_the_same_page(typical: Report) -> None:
    assert render_html(rich(typical)) == render_html(rich(typical))


def test_text_from_outside_stays_text(typical: Report) -> None:
    evil = "</style><script>alert(1)</script><img src=x onerror=alert(1)>\"' --> ]]>"
    model = typical.models[0]
    candidate = dataclasses.replace(
        model.candidates[0],
        id=evil,
        target=evil,
        verdicts=tuple(
            dataclasses.replace(v, gate=evil, reason=evil, threshold_origin=evil)
            for v in model.candidates[0].verdicts[:1]
        ),
        advice=(Advice(evil, evil, evil, evil, (evil,)),),
    )
    report = dataclasses.replace(
        typical,
        models=(dataclasses.replace(model, name=evil, task=evil, candidates=(candidate,)),),
        command=("pytest", evil),
        notes=(evil,),
        settings={evil: (evil, evil)},
        evidence_directory=Path(evil.replace("/", "")),
    )
    page = check(render_html(PageContent(report)))
    assert page.text.count("<script>alert(1)</script>") > 5
