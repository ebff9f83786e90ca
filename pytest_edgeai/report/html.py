"""The report as one self-contained page: it loads nothing, runs nothing and needs no network."""

from __future__ import annotations

import gc
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pytest_edgeai.report.content import Report
from pytest_edgeai.report.html_model import candidate_anchor, model_anchor, model_section
from pytest_edgeai.report.html_parts import bullets, code_block, facts, folded, mark
from pytest_edgeai.report.html_style import STYLE
from pytest_edgeai.report.markup import Child, Markup, element, join
from pytest_edgeai.report.page_content import (
    MOST_BYTES,
    MOST_DETAILED,
    MOST_DRAWN,
    PageContent,
    Place,
    RankedModel,
    choose,
    rank,
)
from pytest_edgeai.report.ranking import may_be_promoted
from pytest_edgeai.report.wording import (
    candidate_name,
    decision,
    headline,
    host_sentence,
    target_sentence,
    tool_versions,
    top_advice,
)

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Nothing is loaded and no script runs, whatever stands in the page."""
MOST_DECISIONS = 12
"""Candidates that the top of the page names one by one: those that ship first."""


def render_html(content: PageContent) -> str:
    """Return the page.

    The decision comes first, in the words of every other report. What was not measured says how to
    measure it, or is left out. Names and texts from outside are escaped. A page that would be
    larger than ``MOST_BYTES`` shows fewer candidates in detail.
    """
    with _without_collecting():
        return _fitting(content)


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Leave cyclic garbage until the end: looking for it takes a fifth of the time of a page."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _fitting(content: PageContent) -> str:
    """Return the page with as many candidates in detail as keep it below its size."""
    models = [rank(model) for model in content.report.models]
    most = MOST_DETAILED
    page = _page(content, models, most)
    while most and len(page.encode("utf-8", "replace")) >= MOST_BYTES:
        most //= 2
        page = _page(content, models, most)
    return page


def _page(content: PageContent, models: Sequence[RankedModel], most: int) -> str:
    """Return the page with ``most`` candidates in detail."""
    report = content.report
    detailed = choose(models, most)
    drawn = choose(models, min(most, MOST_DRAWN))
    sections = [
        model_section(content, number, ranked, detailed, drawn)
        for number, ranked in enumerate(models)
    ]
    title = f"{headline(report)} – pytest-edgeai"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        Markup(f"<style>{STYLE}</style>"),
    )
    body = element(
        "body",
        element("a", "Skip to the content", href="#content", class_="skip"),
        _header(report, models, detailed),
        _contents(models),
        element("main", *sections, _session(content), id="content", tabindex="-1"),
        element("footer", f"Written by pytest-edgeai {report.tool_version} at {report.created}."),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _header(report: Report, models: Sequence[RankedModel], detailed: frozenset[Place]) -> Markup:
    words = headline(report)
    style = {"Ship": "good", "Do not ship": "bad"}.get(words, "doubt")
    glyph = {"good": "✓", "bad": "✗", "doubt": "!"}[style]
    return element(
        "header",
        element("h1", mark(words, glyph, style)),
        element("ul", *_decisions(models, detailed), class_="decisions"),
        *(element("p", f"Note: {note}", class_="note") for note in report.notes),
    )


def _decisions(models: Sequence[RankedModel], detailed: frozenset[Place]) -> Iterator[Markup]:
    entries: list[tuple[bool, Markup]] = []
    for number, ranked in enumerate(models):
        model = ranked.report
        for index in ranked.order:
            candidate = model.candidates[index]
            made = decision(model, candidate)
            chosen = index == ranked.best and sum(map(may_be_promoted, model.candidates)) > 1
            name = candidate_name(model, candidate)
            verb, _, rest = made.sentence.partition(": ")
            advice = None if made.ship else top_advice(candidate)
            place = (number, index)
            anchor = candidate_anchor(place) if place in detailed else model_anchor(number)
            entries.append(
                (
                    made.ship,
                    element(
                        "li",
                        mark(verb, "✓" if made.ship else "✗", "good" if made.ship else "bad"),
                        Markup(": "),
                        element("a", name, href=f"#{anchor}"),
                        Markup(" "),
                        rest.removeprefix(name),
                        mark("recommended", "★", "good") if chosen else None,
                        element("p", f"Top advice: {advice}") if advice else None,
                    ),
                )
            )
        if not model.candidates:
            why = model.problem or "no candidate was planned"
            text = f": {model.name} was not gated: {why}"
            entries.append((False, element("li", mark("DO NOT SHIP", "✗", "bad"), text)))
    entries.sort(key=lambda entry: not entry[0])
    yield from (entry for _, entry in entries[:MOST_DECISIONS])
    if len(entries) > MOST_DECISIONS:
        yield element("li", f"… and {len(entries) - MOST_DECISIONS} more, in the tables below")


def _contents(models: Sequence[RankedModel]) -> Markup:
    links = [
        element("a", ranked.report.name, href=f"#{model_anchor(number)}")
        for number, ranked in enumerate(models)
    ]
    links.append(element("a", "Host, versions and settings", href="#session"))
    return element("nav", bullets(links), aria_label="On this page")


def _session(content: PageContent) -> Markup:
    report = content.report
    hosts: list[Child] = []
    for index, host in enumerate(report.hosts):
        if index == 0 or host.facts != report.hosts[index - 1].facts:
            hosts.append(f"Host: {host_sentence(host)}")
        told = target_sentence(host)
        hosts.append(f"{told[:1].upper()}{told[1:]}")
    versions = ", ".join(
        f"{tool} {' and '.join(sorted(found))}" for tool, found in tool_versions(report).items()
    )
    settings = [f"{name} = {value} ({origin})" for name, (value, origin) in report.settings.items()]
    evidence: Child = report.evidence_directory.as_posix()
    if content.evidence is not None:
        evidence = element("a", content.evidence.title, href=content.evidence.href)
    return element(
        "section",
        element("h2", "Host, versions and settings", id="session-title"),
        bullets(hosts),
        facts(
            (
                ("versions", versions),
                ("time", report.created),
                ("evidence", evidence),
                ("SHA-256 of the evidence", element("code", report.evidence_sha256)),
            )
        ),
        join((element("h3", "Settings that differ from the default"), bullets(settings)))
        if settings
        else None,
        join((element("h3", "To run it again"), code_block([_again(report)], "Command")))
        if report.command
        else None,
        _hardware(report),
        id="session",
        aria_labelledby="session-title",
    )


def _again(report: Report) -> str:
    words = report.command if report.command[0] == "pytest" else ("pytest", *report.command)
    return shlex.join(words)


def _hardware(report: Report) -> Markup | None:
    if not report.hosts:
        return None
    host = report.hosts[0].facts
    return folded(
        "More about the host",
        facts(
            (
                ("name", host.hostname),
                ("instruction sets", ", ".join(host.simd)),
                ("system", host.system),
                ("virtualization", host.virtualization),
            )
        ),
    )
