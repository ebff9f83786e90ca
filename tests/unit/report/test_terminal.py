from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_edgeai.advice_records import Advice
from pytest_edgeai.report.content import Report
from pytest_edgeai.report.terminal import MIN_WIDTH, render_terminal
from pytest_edgeai.report.text import display_width


def text(report: Report, width: int = 80, *, ascii_only: bool = False) -> str:
    return "\n".join(line.text for line in render_terminal(report, width, ascii_only=ascii_only))


@settings(max_examples=60)
@given(data=st.data(), width=st.integers(10, 200), ascii_only=st.booleans())
def test_no_line_is_wider_than_the_terminal(
    any_report: Any, data: st.DataObject, width: int, ascii_only: bool
) -> None:
    for line in render_terminal(any_report.draw(data), width, ascii_only=ascii_only):
        assert display_width(line.text) <= max(width, MIN_WIDTH)
        assert line.text.isprintable()
        assert not ascii_only or line.text.isascii()


def test_a_gate_stands_in_one_line_of_80_columns(typical: Report) -> None:
    lines = [line.split() for line in text(typical).splitlines()]
    assert ["accuracy_retained", "99.8%", "[98.7,", "100.9]", ">", "95%", "pass"] in lines
    assert ["speedup", "2.75×", "[2.61,", "2.90]", "≥", "1.5×", "[1]", "pass"] in lines
    assert ["[1]", "set", "by", "edgeai.toml"] in lines


def test_origins_stand_beside_their_thresholds_where_there_is_room(typical: Report) -> None:
    shown = text(typical, 120)
    assert "≥ 1.5× (edgeai.toml)" in shown
    assert "set by" not in shown


def test_a_model_whose_tables_are_unread_has_no_baseline(typical: Report) -> None:
    unread = dataclasses.replace(
        typical.models[-1], name="dyn", task="", problem='unknown key "op_type"'
    )
    shown = text(dataclasses.replace(typical, models=(unread,))).splitlines()
    assert shown[shown.index("dyn") + 1] == '  unknown key "op_type"'


def test_words_carry_the_decision(typical: Report) -> None:
    words = " ".join(text(typical).split())
    assert "SHIP: digits openvino-int8-static was promoted" in words
    assert (
        "DO NOT SHIP: digits onnxruntime-int8-dynamic is blocked by speedup (fail), memory_cut "
        "(inconclusive), artifact_size (not run)" in words
    )
    assert "DO NOT SHIP: reader openvino-int8-static is blocked by speedup (proxy)" in words
    assert "DO NOT SHIP: scan was not gated" in words
    assert "this host is a proxy: its processor is AuthenticAMD" in words


def test_styles_repeat_what_the_words_say(typical: Report) -> None:
    for line in render_terminal(typical, 80):
        if line.text.startswith("SHIP"):
            assert line.style == "pass"
        if line.text.startswith("DO NOT SHIP") or line.text.endswith(("FAIL", "ERROR")):
            assert line.style == "fail"
        if line.text.endswith(("proxy", "inconclusive", "not run")):
            assert line.style == "warn"


def test_every_reason_and_advice_is_told_once(typical: Report) -> None:
    words = " ".join(text(typical).split())
    for model in typical.models:
        for candidate in model.candidates:
            for verdict in candidate.verdicts:
                if verdict.outcome != "pass":
                    assert words.count(verdict.reason) == 1
                    assert words.count(verdict.advice) == 1 or not verdict.advice
    assert "Known failure: dynamic quantization of a CNN is slow; issue 41" in words


def test_stages_show_where_the_gain_comes_from(typical: Report) -> None:
    lines = [" ".join(line.split()) for line in text(typical).splitlines()]
    assert "stage latency p50 vs baseline threads size accuracy memory" in lines
    assert "baseline 4.11 ms 1.00× 1 22.0 MiB 0.9815 48.2 MiB" in lines
    assert "accelerated 861 µs 4.78× 2 5.63 MiB 0.9815 19.1 MiB" in lines
    wide = [" ".join(line.split()) for line in text(typical, 120).splitlines()]
    assert "stage latency p50 vs baseline threads size accuracy memory steady" in wide
    assert "baseline 4.11 ms 1.00× 1 22.0 MiB 0.9815 48.2 MiB 24.1 MiB" in wide


def with_metric(typical: Report, metric: str) -> Report:
    """The first model alone, scored by ``metric``."""
    model = typical.models[0]
    candidate = model.candidates[0]
    assert model.baseline_stage is not None
    scored = dataclasses.replace(
        model,
        baseline_stage=dataclasses.replace(model.baseline_stage, metric=metric),
        candidates=(
            dataclasses.replace(
                candidate,
                stages=tuple(dataclasses.replace(s, metric=metric) for s in candidate.stages),
            ),
        ),
    )
    return dataclasses.replace(typical, models=(scored,))


def test_a_long_metric_is_wrapped_in_its_heading(typical: Report) -> None:
    lines = text(with_metric(typical, "absolute_error")).splitlines()
    first = next(i for i, line in enumerate(lines) if line.split()[:1] == ["stage"])
    assert lines[first].split()[-3:] == ["size", "absolute", "memory"]
    assert lines[first + 1].split()[-1] == "error"


def test_a_short_metric_leaves_its_scores_whole(typical: Report) -> None:
    report = with_metric(typical, "f1")
    for width in range(MIN_WIDTH, 100):
        stages = [line for line in text(report, width).splitlines() if "MiB" in line]
        assert not any("0.…" in line or "0…" in line for line in stages), width


def test_several_candidates_stand_beside_their_own_baselines(typical: Report) -> None:
    model = typical.models[0]
    assert model.baseline_stage is not None
    slow = dataclasses.replace(
        model.baseline_stage,
        latency=dataclasses.replace(model.baseline_stage.latency, p50_ns=8_222_000.0),
    )
    candidates = tuple(
        dataclasses.replace(candidate, stages=(baseline, *candidate.stages))
        for candidate, baseline in zip(model.candidates, (model.baseline_stage, slow), strict=False)
    )
    report = dataclasses.replace(
        typical, models=(dataclasses.replace(model, candidates=candidates), *typical.models[1:])
    )
    lines = [" ".join(line.split()) for line in text(report).splitlines()]
    rows = [line for line in lines if line.startswith(("baseline ", "quantized "))]
    assert [row.split()[1] for row in rows if row.startswith("baseline")] == ["4.11", "8.22"]
    assert [row.split()[3] for row in rows if row.startswith("quantized")] == ["2.75×", "2.63×"]


def test_a_reruns_worst_verdict_is_shown(typical: Report) -> None:
    model = typical.models[0]
    candidate = model.candidates[0]
    failed = dataclasses.replace(candidate.verdicts[1], outcome="fail", observed=1.1)
    rerun = dataclasses.replace(candidate, verdicts=(failed, *candidate.verdicts))
    report = dataclasses.replace(typical, models=(dataclasses.replace(model, candidates=(rerun,)),))
    rows = [row for row in text(report).splitlines() if row.startswith("    speedup")]
    assert len(rows) == 1
    assert rows[0].endswith("FAIL")


def test_targets_are_told_apart(typical: Report) -> None:
    model = typical.models[0]
    candidate = model.candidates[0]
    both = (candidate, dataclasses.replace(candidate, target="cross", promoted=False))
    report = dataclasses.replace(typical, models=(dataclasses.replace(model, candidates=both),))
    shown = text(report)
    assert "SHIP: digits openvino-int8-static for intel was promoted" in shown
    assert "SHIP: digits openvino-int8-static for cross may be promoted" in shown


def test_a_candidate_of_which_nothing_was_observed_takes_one_row(typical: Report) -> None:
    rows = [" ".join(row.split()) for row in text(typical).splitlines()]
    assert rows.count("all 7 gates - ERROR") == 1


def test_without_required_gates_nothing_ships(typical: Report) -> None:
    model = typical.models[0]
    bare = dataclasses.replace(
        model.candidates[0], required_gates=(), verdicts=(), promotion_blocked_by=()
    )
    report = dataclasses.replace(typical, models=(dataclasses.replace(model, candidates=(bare,)),))
    assert "DO NOT SHIP" in text(report)


def test_what_the_framework_reported_is_shown(typical: Report) -> None:
    model = typical.models[0]
    candidate = model.candidates[0]
    assert candidate.artifact is not None
    log = ("q4_k_m: 80.0% q4_k", "blk.0.ffn_down fell back to q5_0")
    made = dataclasses.replace(candidate, artifact=dataclasses.replace(candidate.artifact, log=log))
    report = dataclasses.replace(typical, models=(dataclasses.replace(model, candidates=(made,)),))
    shown = " ".join(text(report).split())
    assert "made: q4_k_m: 80.0% q4_k; blk.0.ffn_down fell back to q5_0" in shown
    assert "made:" not in text(
        dataclasses.replace(
            report,
            models=(
                dataclasses.replace(
                    model,
                    candidates=(
                        dataclasses.replace(
                            made, artifact=dataclasses.replace(candidate.artifact, log=())
                        ),
                    ),
                ),
            ),
        )
    )


def with_advice(report: Report) -> Report:
    """Return the session with advice for both candidates of the first model that were made."""
    advice = Advice("scheme", "it is slow", "87% in ConvInteger", "quantize statically")
    second = dataclasses.replace(advice, remedy="use two threads")
    model = report.models[0]
    candidates = tuple(
        dataclasses.replace(candidate, advice=(advice, second))
        for candidate in model.candidates[:2]
    )
    return dataclasses.replace(report, models=(dataclasses.replace(model, candidates=candidates),))


def test_what_does_not_ship_has_its_top_advice_beside_the_decision(typical: Report) -> None:
    lines = [line.strip() for line in text(with_advice(typical), 200).splitlines()]
    told = "top advice: quantize statically (87% in ConvInteger)"
    assert lines.count(told) == 1, "what ships needs none"
    before = lines[lines.index(told) - 1]
    assert before.startswith("DO NOT SHIP: digits onnxruntime-int8-dynamic is blocked by")
    assert "use two threads" not in " ".join(lines), "the page has the rest"
