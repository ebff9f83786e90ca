"""The files of the page: what they link, where they lie, and what is refused early."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from planted_pages import rich
from planted_sessions import typical_report

from pytest_edgeai.configuration import resolve
from pytest_edgeai.errors import UserError
from pytest_edgeai.evidence import EvidenceStore
from pytest_edgeai.report.content import Report
from pytest_edgeai.report.markdown import render_markdown
from pytest_edgeai.report_page import check_page, picture_links, write_page

INSTALL = 'pip install "pytest-edgeai[html]"'
needs_matplotlib = pytest.mark.skipif(
    not any((Path(place) / "matplotlib").is_dir() for place in sys.path), reason=f"run: {INSTALL}"
)


def settings(**values: Any) -> Any:
    command_line = {f"edge_{name}": value for name, value in values.items()}
    return resolve(command_line, {}, {}, manifest_path=None, invocation_directory=Path())


def test_without_the_plotting_library_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    check_page(settings())
    with pytest.raises(UserError) as caught:
        check_page(settings(html="report.html"))
    assert str(caught.value) == (
        f"--edge-html: the page is drawn by matplotlib, which is not installed. Run: {INSTALL}"
    )


@pytest.fixture(name="report")
def report_fixture(tmp_path: Path) -> Report:
    """A session whose evidence of one candidate lies there."""
    report = dataclasses.replace(
        rich(typical_report()).report, evidence_directory=tmp_path / "cache" / "evidence" / "run 1"
    )
    evidence = EvidenceStore(report.evidence_directory)
    candidate = report.models[0].candidates[0]
    place = f"digits/{candidate.recipe.id}"
    calls = np.arange(1_000_000, 1_000_100)
    evidence.write_arrays(
        f"{place}/timings", {"baseline_wall_ns": 2 * calls, "candidate_wall_ns": calls}
    )
    evidence.write_record(f"{place}/memory", {})
    evidence.write_record(f"digits/{candidate.id}/verdicts/speedup", {})
    return report


@needs_matplotlib
def test_the_page_links_its_evidence_and_lies_beside_its_plots(
    report: Report, tmp_path: Path
) -> None:
    path = tmp_path / "out" / "report.html"
    pictures = write_page(report, path)
    page = path.read_text("utf-8")
    for name in ("timings.npz", "memory.json", "verdicts/speedup.json"):
        link = f"../cache/evidence/run%201/digits/openvino-int8-static/{name}"
        assert f'href="{link}"' in page
        assert (path.parent / link.replace("%20", " ")).is_file()
    assert "Latency of both models" in page
    assert "2.00 ms" in page
    assert [picture.path.name for picture in pictures] == [
        "report-digits-gates.svg",
        "report-digits-pareto.svg",
    ]
    for picture in pictures:
        ElementTree.parse(picture.path)
    assert {file.name for file in path.parent.iterdir()} == {
        "report.html",
        *(picture.path.name for picture in pictures),
    }


@needs_matplotlib
def test_the_markdown_report_shows_the_plots(report: Report, tmp_path: Path) -> None:
    pictures = write_page(report, tmp_path / "out put" / "report.html")
    text = render_markdown(report, picture_links(pictures, tmp_path))
    shown = "![Speed against what it costs](<out%20put/report-digits-pareto.svg>)"
    found = text.splitlines()
    assert shown in found
    assert found[found.index(shown) + 2] == "1 openvino-int8-static, 2 onnxruntime-int8-dynamic"
    assert "svg" not in render_markdown(report)


@needs_matplotlib
def test_names_of_plots_are_safe_and_unique(report: Report, tmp_path: Path) -> None:
    model = report.models[0]
    models = tuple(dataclasses.replace(model, name=n) for n in ("../a b", "a/b", "A-B", "…"))
    pictures = write_page(dataclasses.replace(report, models=models), tmp_path / "p.html")
    names = [picture.path.name for picture in pictures if "gates" in picture.path.name]
    assert names == ["p-a-b-gates.svg", "p-a-b-2-gates.svg", "p-A-B-3-gates.svg",
                     "p-model-gates.svg"]  # fmt: skip
    assert all(picture.path.parent == tmp_path for picture in pictures)


@needs_matplotlib
@pytest.mark.skipif(os.name == "nt", reason="needs a device that is a file")
def test_what_is_no_file_gets_the_page_alone(report: Report) -> None:
    assert write_page(report, Path(os.devnull)) == ()


@needs_matplotlib
def test_a_page_that_cannot_be_written_is_one_line(report: Report, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_page(report, tmp_path / "taken" / "report.html")
