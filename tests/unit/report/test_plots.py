from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_edgeai.profile_records import (
    Bottleneck,
    CandidateProfile,
    HostPeaks,
    Profile,
)
from pytest_edgeai.records import RuntimeOptions
from pytest_edgeai.report.content import Report
from pytest_edgeai.report.page_content import Latencies
from pytest_edgeai.report.ranking import figures_of
from pytest_edgeai.search_records import Figure

pytest.importorskip("matplotlib", reason='run: pip install "pytest-edgeai[html]"')

import matplotlib

from pytest_edgeai.report.palette import DARK, LIGHT
from pytest_edgeai.report.plots import STAND_INS, Plot
from pytest_edgeai.report.plots_gates import gates_plot
from pytest_edgeai.report.plots_latency import latency_plot, time_ticks
from pytest_edgeai.report.plots_pareto import Candidate, Limit, pareto_plot
from pytest_edgeai.report.plots_roofline import rate, roofline_plot
from pytest_edgeai.report.plots_stages import stages_plot

LIMITS = {
    "speedup": Limit(1.5, "at_least"),
    "accuracy_retained": Limit(0.95, "more_than"),
    "memory_cut": Limit(0.5, "at_least"),
}


def latencies(scale: float = 1.0, tail: float = 0.05) -> Latencies:
    rng = np.random.default_rng(3)
    calls = 4e6 * np.exp(rng.gamma(1.0, tail, (2, 300)))
    return Latencies(calls[0].astype(np.int64), (scale * calls[1]).astype(np.int64))


def a_profile(attained: float | None = 4e10) -> CandidateProfile:
    profile = Profile("onnxruntime", RuntimeOptions(), 50, 4e6, 4e6, None, (), "", {}, 0, 0, 0, 0)
    limit = Bottleneck("compute-bound", "because", attained, 8e8, attained and 50.0)
    peaks = HostPeaks(1, 6e10, 2.4e11, 1e10, ("a product",))
    return CandidateProfile(profile, profile, peaks, limit, limit)


def made_plots(report: Report) -> dict[str, Plot]:
    model = report.models[0]
    assert model.baseline_stage is not None
    points = [
        Candidate(1, figures_of(model.candidates[0]), "recommended"),
        Candidate(2, figures_of(model.candidates[1]), "blocked"),
        Candidate(3, {"speedup": Figure(2.0, 1.9, None), "memory_cut": Figure(0.4)}, "dominated"),
    ]
    found = {
        "gates": gates_plot("gates", "SHIP: digits", model.candidates[0]),
        "pareto": pareto_plot("pareto", points, LIMITS, [{"speedup": Figure(1.2)}]),
        "latency": latency_plot("latency", latencies()),
        "stages": stages_plot(
            "stages", (model.baseline_stage, *model.candidates[0].stages), "7 of 7", ships=True
        ),
        "roofline": roofline_plot("roofline", a_profile()),
    }
    return {name: plot for name, plot in found.items() if plot is not None}


@pytest.fixture(name="plots", scope="module")
def plots_fixture(typical_once: Report) -> dict[str, Plot]:
    return made_plots(typical_once)


KINDS = ("gates", "pareto", "latency", "stages", "roofline")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_its_own_is_well_formed_and_says_what_it_shows(
    plots: dict[str, Plot], kind: str
) -> None:
    text = plots[kind].standalone()
    root = ElementTree.fromstring(text)
    svg = "{http://www.w3.org/2000/svg}"
    assert root.get("role") == "img"
    named = [root.find(f"{svg}{tag}") for tag in ("title", "desc")]
    assert all(element is not None and element.text for element in named)
    assert root.get("aria-labelledby") == f"{kind}-title"
    assert root.get("aria-describedby") == f"{kind}-text"
    assert LIGHT.good in text
    assert DARK.good in text


@pytest.mark.parametrize("kind", KINDS)
def test_colors_come_from_the_page(plots: dict[str, Plot], kind: str) -> None:
    body = plots[kind].body
    assert not [color for color in STAND_INS.values() if color in body]
    assert not re.findall(r"#[0-9a-f]{6}\b", body), "a color that does not follow the palette"
    assert "var(--" in body


@pytest.mark.parametrize("kind", KINDS)
def test_references_lead_to_ids_of_the_plot(plots: dict[str, Plot], kind: str) -> None:
    inline = plots[kind].inline()
    ids = re.findall(r' id="([^"]+)"', inline)
    assert len(ids) == len(set(ids))
    assert all(name.startswith(f"{kind}-") for name in ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', inline)) <= set(ids)
    assert "http" not in inline


def test_the_same_figures_give_the_same_bytes(plots: dict[str, Plot], typical_once: Report) -> None:
    again = made_plots(typical_once)
    assert {k: p.body for k, p in again.items()} == {k: p.body for k, p in plots.items()}


def test_the_style_of_a_user_changes_nothing_and_stays(
    plots: dict[str, Plot], typical_once: Report
) -> None:
    with matplotlib.rc_context({"lines.linewidth": 9.0, "font.size": 30.0}):
        assert made_plots(typical_once)["latency"].body == plots["latency"].body
        assert matplotlib.rcParams["font.size"] == 30.0


def test_names_are_drawn_as_they_are(typical: Report) -> None:
    candidate = typical.models[0].candidates[0]
    odd = dataclasses.replace(candidate.verdicts[0], gate="$a_b$<script>名", reason="", advice="")
    plot = gates_plot("gates", "$\\frac$ & <b>", dataclasses.replace(candidate, verdicts=(odd,)))
    assert plot is not None
    assert "$a_b$&lt;script&gt;名" in plot.body
    assert "$\\frac$ &amp; &lt;b&gt;" in plot.body
    ElementTree.fromstring(plot.standalone())


def test_descriptions_hold_the_figures(plots: dict[str, Plot]) -> None:
    assert "speedup: 2.75×, [2.61, 2.90], ≥ 1.5×, pass" in plots["gates"].description
    assert "number 1 is recommended" in plots["pareto"].description
    assert "300 calls took less than 4." in plots["latency"].description
    assert "baseline 4.11 ms, converted 3.71 ms" in plots["stages"].description
    assert "the candidate attained 40 GFLOP/s" in plots["roofline"].description


@pytest.mark.parametrize("tail", [0.0, 0.05, 1.5])
@pytest.mark.parametrize("scale", [0.001, 1.0])
def test_any_shape_of_latencies_can_be_drawn(scale: float, tail: float) -> None:
    plot = latency_plot("l", latencies(scale, tail))
    assert "nan" not in plot.body.lower()
    assert ("logarithmic" in plot.body) == (scale < 1 or tail > 1)


def test_without_figures_there_is_no_plot(typical: Report) -> None:
    assert pareto_plot("p", [Candidate(1, {"speedup": Figure(2.0)}, "front")], LIMITS) is None
    assert roofline_plot("r", a_profile(None)) is None
    stage = typical.models[0].candidates[0].stages[0]
    assert stages_plot("s", (stage,), "", ships=False) is None
    bare = dataclasses.replace(typical.models[0].candidates[0], verdicts=(), required_gates=())
    assert gates_plot("g", "", bare) is None


FIGURES = st.builds(
    Figure,
    st.floats(-1e9, 1e9),
    st.none() | st.floats(),
    st.none() | st.floats(),
)


@settings(max_examples=8, deadline=None)
@given(st.lists(FIGURES, min_size=2, max_size=5))
def test_any_figures_can_be_compared_in_a_plot(figures: list[Figure]) -> None:
    points = [
        Candidate(n + 1, {"speedup": one, "accuracy_retained": figures[0]}, "front")
        for n, one in enumerate(figures)
    ]
    plot = pareto_plot("p", points, {})
    assert plot is not None
    ElementTree.fromstring(plot.standalone())


@given(st.floats(1, 1e12), st.floats(1.0001, 1e6), st.booleans())
def test_ticks_are_few_and_lie_between(low: float, ratio: float, logarithmic: bool) -> None:
    ticks = time_ticks(low, low * ratio, logarithmic)
    assert len(ticks) <= 6
    assert all(low * (1 - 1e-9) <= tick <= low * ratio * (1 + 1e-9) for tick in ticks)


@pytest.mark.parametrize(
    ("value", "shown"), [(4.13e10, "41.3 GOP/s"), (999.6e6, "1 GOP/s"), (12.0, "12 OP/s")]
)
def test_rates(value: float, shown: str) -> None:
    assert rate(value, "OP/s") == shown
