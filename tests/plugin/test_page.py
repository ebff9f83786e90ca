"""``--edge-html`` as a user meets it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from edge_runs import CANDIDATE, GATES, Place

INSTALL = 'pip install "pytest-edgeai[html]"'


def test_the_page_says_what_every_other_report_says(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason=f"run: {INSTALL}")
    summary = place.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    place.write()
    run = place.run("--edge-html=out/report.html", "--edge-markdown=report.md", "-W", "error")
    assert run.code == 0
    page = (place.path / "out" / "report.html").read_text("utf-8")
    words = " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())
    made = f"linear {CANDIDATE} may be promoted"
    assert f"SHIP : {made}" in words
    assert f"SHIP: {made}" in run.text
    for gate in GATES:
        assert f">{gate}<" in page
    assert "Latency of both models" in words
    assert "--edge-html=out/report.html" in words

    links = re.findall(r'href="(\.\./[^"]+|/[^"]+)"', page)
    assert len(links) > len(GATES)
    for link in links:
        assert (place.path / "out" / link).exists(), link

    picture = place.path / "out" / "report-linear-gates.svg"
    ElementTree.parse(picture)
    markdown = (place.path / "report.md").read_text("utf-8")
    assert f"**SHIP**: {made}" in markdown
    assert "](<out/report-linear-gates.svg>)" in markdown
    assert ".svg" not in summary.read_text("utf-8"), "a summary of GitHub shows no files"


def test_without_the_plotting_library_nothing_runs(place: Place) -> None:
    place.write()
    place.pytester.makeconftest("import sys\nsys.modules['matplotlib'] = None\n")
    run = place.run("--edge-html=report.html")
    said = run.text + run.result.stderr.str()
    assert run.code == pytest.ExitCode.USAGE_ERROR
    assert "--edge-html: the page is drawn by matplotlib, which is not installed" in said
    assert INSTALL in said
    assert "Traceback" not in said
    assert not (place.path / "report.html").exists()
    assert place.run("-k", "sanity").code == 0, "who wants no page needs no library"


def test_only_who_wants_a_page_pays_for_it(tmp_path: Path) -> None:
    script = "import sys, pytest_edgeai.publishing; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
