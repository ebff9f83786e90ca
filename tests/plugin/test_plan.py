"""``--edge-plan`` prints the assessment and the plan, and runs and writes nothing."""

from __future__ import annotations

from edge_runs import CANDIDATE, Place


def test_the_plan_names_host_model_candidates_and_limits(place: Place) -> None:
    place.write()
    run = place.run("--edge-plan", "--edge-framework=all", own_cache=True)
    assert run.code == 0
    assert "host: " in run.text
    assert "linear: onnx" in run.text
    for candidate in (CANDIDATE, "openvino-int8-static"):
        assert f"candidate {candidate}" in run.text
    assert "speedup at_least 0.01 (edgeai.toml)" in run.text
    assert "memory_cut at_least off (edgeai.toml)" in run.text
    assert "accuracy_retained more_than 0.95 (default)" in run.text
    assert "edge gates" not in run.text
    assert not (place.path / ".edgeai").exists()
    assert run.report == {}


def test_a_plan_without_the_terminal_reporter_fails_in_no_way(place: Place) -> None:
    place.write()
    run = place.run("--edge-plan", "-p", "no:terminal")
    assert run.code == 0
    assert "Traceback" not in run.result.stderr.str()
