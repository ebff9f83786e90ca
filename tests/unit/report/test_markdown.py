from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_edgeai.advice_records import Advice
from pytest_edgeai.report.content import Report
from pytest_edgeai.report.markdown import escape, render_markdown


def cells(row: str) -> int:
    """Cells of a table row as GitHub counts them: a backslash takes the pipe after it."""
    return len(re.findall(r"(?<!\\)\|", row)) - 1


def without_code(text: str) -> str:
    """Return the text without its fenced blocks, in which nothing is a construct."""
    kept, fence = [], ""
    for line in text.split("\n"):
        if fence:
            fence = "" if line == fence else fence
        elif found := re.match("```+", line):
            fence = found[0]
        else:
            kept.append(line)
    assert not fence, "a block ends"
    return "\n".join(kept)


@settings(max_examples=60)
@given(data=st.data())
def test_every_row_of_every_table_has_the_cells_of_its_heading(
    any_report: Any, data: st.DataObject
) -> None:
    text = without_code(render_markdown(any_report.draw(data)))
    for block in text.split("\n\n"):
        rows = block.split("\n")
        if rows[0].startswith("| "):
            assert set(rows[1]) <= set("|-: ")
            assert len({cells(row) for row in rows}) == 1
            assert all(row.startswith("| ") and row.endswith(" |") for row in rows)
        else:
            assert not any(row.startswith("|") for row in rows)


@settings(max_examples=60)
@given(data=st.data())
def test_the_only_html_is_ours(any_report: Any, data: st.DataObject) -> None:
    text = without_code(render_markdown(any_report.draw(data)))
    tags = re.findall(r"<[^>]*>?", text)
    assert set(tags) <= {"<details>", "</details>", "<summary>", "</summary>", "<br>"}
    assert tags.count("<details>") == tags.count("</details>") == tags.count("<summary>")
    assert "`" not in text


@given(st.text())
def test_escaped_text_is_one_line_without_constructs(text: str) -> None:
    escaped = escape(text)
    assert not re.search(r"[\n\r<|`*\\~$]|\]\(|\]\[", escaped)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy_retained", "accuracy_retained"),
        ("_private_", "&#95;private&#95;"),
        ("a|b", "a&#124;b"),
        ("&amp;", "&#38;amp;"),
        ("[text](url)", "[text&#93;(url)"),
        ("a\nb", "a b"),
    ],
)
def test_names_stay_readable(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_the_decision_comes_first(typical: Report) -> None:
    lines = render_markdown(typical).splitlines()
    assert lines[0] == "## ⚠️ Ship 1 of 4 candidates"
    assert lines[2] == "- ✅ **SHIP**: digits openvino-int8-static was promoted"


def test_headlines(typical: Report) -> None:
    model = typical.models[0]
    good = dataclasses.replace(model, candidates=model.candidates[:1])
    bad = dataclasses.replace(model, candidates=model.candidates[1:])
    for models, expected in (((good,), "## ✅ Ship"), ((bad,), "## ❌ Do not ship")):
        report = dataclasses.replace(typical, models=models)
        assert render_markdown(report).splitlines()[0] == expected


def test_the_best_of_several_is_named(typical: Report) -> None:
    model = typical.models[0]
    first = model.candidates[0]
    slower = tuple(
        dataclasses.replace(v, observed=2.2, interval=(2.1, 2.3)) if v.gate == "speedup" else v
        for v in first.verdicts
    )
    second = dataclasses.replace(first, id="onnxruntime-int8-static", verdicts=slower)
    report = dataclasses.replace(
        typical, models=(dataclasses.replace(model, candidates=(second, first)),)
    )
    recommended = [x for x in render_markdown(report).splitlines() if "**recommended**" in x]
    assert len(recommended) == 1
    assert "digits openvino-int8-static" in recommended[0]


def test_figures_words_and_sources_are_there(typical: Report) -> None:
    text = render_markdown(typical)
    assert "| speedup | 2.75× | [2.61, 2.90] | ≥ 1.5× (edgeai.toml) | ✅ pass |" in text
    assert "| memory_cut | 50.1% | [47.1, 53.1] | ≥ 50% | ⚠️ inconclusive |" in text
    assert "_What to do:_ About 22 repeats would decide: raise --edge-budget to 90." in text
    assert "- Evidence: .edgeai/evidence/2026-11-21T12-00-00" in text
    assert "- Tools: pytest-edgeai 0.1.0, openvino 2025.3.0, nncf 2.18.0" in text
    assert "- ⚠️ Target intel: this host is a proxy" in text
    assert "- Setting: speedup = 1.5 (edgeai.toml)" in text
    assert "AMD EPYC 7B13" in text


def test_what_does_not_ship_has_its_top_advice_beside_the_decision(typical: Report) -> None:
    advice = Advice("scheme", "it is slow", "87% in | ConvInteger", "quantize statically")
    model = typical.models[0]
    candidates = tuple(dataclasses.replace(c, advice=(advice,)) for c in model.candidates[:2])
    report = dataclasses.replace(
        typical, models=(dataclasses.replace(model, candidates=candidates),)
    )
    told = "<br>_Top advice:_ quantize statically (87% in &#124; ConvInteger)"
    lines = [line for line in render_markdown(report).splitlines() if told in line]
    assert len(lines) == 1, "what ships needs none"
    assert lines[0].startswith("- ❌ **DO NOT SHIP**: digits onnxruntime-int8-dynamic")
