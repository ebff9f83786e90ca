"""The fixtures and markers in a user's own tests, and the example that shows them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from edge_runs import CANDIDATE, Place

EXAMPLE = Path(__file__).parents[2] / "examples/own-tests"


@pytest.mark.skipif(
    not (EXAMPLE.parent / "digits/digits.onnx").exists(),
    reason="the sdist leaves the model out; examples/digits/train.py makes it",
)
def test_the_example_of_own_tests(pytester: pytest.Pytester, tmp_path: Path) -> None:
    # test_speed is left out: what it measures on this machine should decide no test.
    pytester.chdir()
    result = pytester.run(
        *(sys.executable, "-m", "pytest", "--edge-target=cross", "-p", "no:cacheprovider"),
        *(f"--rootdir={EXAMPLE}", f"--edge-manifest={EXAMPLE / 'edgeai.toml'}"),
        *(f"--edge-cache-dir={tmp_path}", str(EXAMPLE / "test_own.py"), "-k", "not speed", "-v"),
        timeout=180,
    )
    assert result.ret == 0
    outcomes = result.parseoutcomes()
    assert outcomes.pop("skipped", 0) <= 1, "only the test of the host may skip"
    assert outcomes["passed"] >= 6
    assert "failed" not in outcomes


def test_every_fixture_on_a_small_model(place: Place) -> None:
    place.write()
    place.pytester.makepyfile(
        test_own="""
        import numpy as np
        import pytest
        from pytest_edgeai.errors import ModelError, UserError

        def feeds(count, name="features", dtype="float32"):
            with np.load("linear-test.npz") as data:
                return {name: data["features"][:count].astype(dtype)}

        def test_host(edge_host):
            assert edge_host.logical_cores >= 1

        def test_model(edge_model):
            assert edge_model.name == "linear"

        def test_run(edge_baseline, edge_candidate):
            images = feeds(7)
            (before,), (after,) = (m.run(images).values() for m in (edge_baseline, edge_candidate))
            assert before.shape == after.shape == (7, 4)
            assert (before.argmax(1) == after.argmax(1)).all()
            assert edge_candidate.artifact.path.is_file()
            assert edge_candidate.recipe.scheme == "int8-static"
            assert edge_baseline.framework == edge_candidate.framework == "onnxruntime"
            assert edge_candidate.latency(5).samples == 5

        @pytest.mark.parametrize("wrong", [{"name": "x"}, {"dtype": "float64"}])
        def test_wrong_feeds_are_refused(edge_baseline, wrong):
            with pytest.raises(ModelError, match="linear"):
                edge_baseline.run(feeds(2, **wrong))

        def test_compare(edge_compare):
            assert edge_compare("speedup", at_least=0.01).outcome == "pass"
            assert edge_compare.verdict("speedup", at_least=1000).outcome == "fail"
            with pytest.raises(pytest.fail.Exception, match="1,000x"):
                edge_compare("speedup", at_least=1000)

        @pytest.mark.edge_gate("speedup", at_least=0.02)
        def test_marker(edge_compare):
            verdict = edge_compare("speedup")
            assert (verdict.threshold, verdict.threshold_origin) == (0.02, "marker")

        def test_unknown_gate_and_limit(edge_compare):
            with pytest.raises(UserError, match="speedup"):
                edge_compare("speed_up")
            with pytest.raises(UserError, match="at_least"):
                edge_compare("speedup", at_most=3)

        def test_onnxruntime(edge_onnxruntime):
            made = edge_onnxruntime("linear.onnx", calibration="linear-calibration.npz")
            assert made.artifact.claimed_precision == "int8"
            assert made.run(feeds(3))["logits"].shape == (3, 4)
            with pytest.raises(ModelError, match="int8-static"):
                edge_onnxruntime("linear.onnx", "int8-statik")
            with pytest.raises(ModelError, match="calibration"):
                edge_onnxruntime("linear.onnx", "int8-static")

        def test_openvino(edge_openvino):
            made = edge_openvino("linear.onnx", "convert")
            assert made.run(feeds(3))["logits"].shape == (3, 4)
        """
    )
    run = place.run("test_own.py", "-W", "error")
    assert (run.code, run.outcomes) == (0, {"passed": 10})
    assert run.verdicts() == {}, "limits of tests are their own"


def test_candidates_are_chosen_by_markers(place: Place) -> None:
    place.write()
    place.pytester.makepyfile(
        test_own="""
        import pytest

        @pytest.mark.edge_framework("openvino")
        def test_framework(edge_compare): pass

        @pytest.mark.edge_target("intel")
        def test_target(edge_compare): pass

        @pytest.mark.edge_model("linear")
        def test_model(edge_compare): pass
        """
    )
    run = place.run("test_own.py", "--co", "-q", "--edge-framework=all")
    names = [line for line in run.text.splitlines() if "::" in line]
    assert sorted(names) == [
        "test_own.py::test_framework[linear-openvino-int8-static]",
        f"test_own.py::test_model[linear-{CANDIDATE}]",
        "test_own.py::test_model[linear-openvino-int8-static]",
        "test_own.py::test_target[NOTSET]",
    ]


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ('edge_target("intl")', 'unknown name "intl"; allowed: intel'),
        ('edge_target("intl")', 'Did you mean "intel"?'),
        ('edge_framework("opnvino")', 'Did you mean "openvino"?'),
        ('edge_model("liner")', 'Did you mean "linear"?'),
        ("edge_model()", "takes names and no keywords"),
        ('edge_gate("speed")', 'Did you mean "speedup"?'),
        ("edge_gate()", "takes the name of one gate"),
        ('edge_gate("speedup", at_most=2)', "at_most"),
        ('edge_gate("speedup", least=2)', "least"),
        ('edge_gate("speedup", at_least="fast")', "number"),
        (
            'edge_gate("accuracy_retained", more_than=1.5)',
            "edge_gate accuracy_retained more_than: 1.5 is out of range; allowed: a number from 0",
        ),
    ],
)
def test_markers_with_unknown_arguments_are_one_line(place: Place, marker: str, said: str) -> None:
    place.write()
    place.pytester.makepyfile(
        test_own=f"import pytest\n\n@pytest.mark.{marker}\ndef test_it(): pass\n"
    )
    run = place.run("test_own.py")
    assert run.code == 4
    errors = [line for line in run.result.stderr.lines if line.startswith("ERROR")]
    assert len(errors) == 1
    assert said in errors[0]
    assert "test_own.py::test_it" in errors[0]
    assert "Traceback" not in run.text + run.result.stderr.str()
