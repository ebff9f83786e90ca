"""How a fix becomes a candidate with a name of its own, and manifest lines; nothing is run."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from advice_cases import verdict
from models import linear_classifier, write_project

from pytest_edgeai.advice_records import Fix, FixAttempt
from pytest_edgeai.advising import attempt_from_json, usable_schemes
from pytest_edgeai.assess.hardware import read_host
from pytest_edgeai.configuration import resolve
from pytest_edgeai.fixing import Fixing, fix_candidates
from pytest_edgeai.ledger import Ledger
from pytest_edgeai.manifest import read_manifest
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.progress import Progress
from pytest_edgeai.records import Recipe, RuntimeOptions, to_json
from pytest_edgeai.session import Session, open_session
from pytest_edgeai.shipped import GATES
from pytest_edgeai.specification import Catalogue
from pytest_edgeai.workbench import Workbench

Make = Callable[..., Fixing]
STATIC = """
[[models.linear.recipes]]
framework = "onnxruntime"
scheme = "int8-static"
options = { reduce_range = true }
"""


def opened(folder: Path, extra: str, *targets: str) -> Session:
    catalogue = Catalogue(FRAMEWORKS, TARGETS, METRICS, GATES)
    path = write_project(folder, [linear_classifier(folder, n=200)], extra)
    manifest = read_manifest(path, catalogue)
    given: dict[str, Any] = {"edge_target": list(targets), "edge_framework": ["onnxruntime"]}
    return open_session(
        resolve(given, {}, {}, manifest_path=path, invocation_directory=folder),
        catalogue,
        manifest,
        read_host(),
        choose_recipes=lambda model, facts, framework, target: None,
        run_id="run",
        cache_directory=folder / "cache",
    )


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    benches: list[Workbench] = []
    used: dict[tuple[str, str], str] = {}

    def fixing(extra: str = STATIC, *targets: str, **changes: Any) -> Fixing:
        session = opened(tmp_path, extra, *(targets or ("cross",)))
        benches.append(Workbench(session, Progress()))
        candidate = replace(session.candidates[0], **changes)
        return Fixing(benches[-1], candidate, {}, lambda: 0.0, used)

    yield fixing
    for bench in benches:
        bench.close()


def table(lines: tuple[str, ...]) -> Any:
    return tomllib.loads("\n".join(lines))


def test_a_recipe_takes_the_place_of_the_one_in_the_manifest(make: Make) -> None:
    fixing = make()
    recipe = Recipe("onnxruntime", "int8-static", {}, "8-bit")
    changed = fixing.changed(Fix(recipe))
    assert changed.recipe == recipe
    assert changed.node == "onnxruntime-int8-static-8-bit"
    lines = fixing.lines(changed)
    assert "# takes the place of onnxruntime-int8-static" in lines
    (made,) = table(lines)["models"]["linear"]["recipes"]
    assert made == {"framework": "onnxruntime", "scheme": "int8-static", "label": "8-bit"}


def test_a_default_recipe_has_no_table_to_take_the_place_of(make: Make) -> None:
    fixing = make("")
    lines = fixing.lines(fixing.changed(Fix(Recipe("onnxruntime", "int8-dynamic"))))
    assert not [line for line in lines if line.startswith("#")]


def test_other_threads_are_another_measurement_of_the_same_artifact(make: Make) -> None:
    fixing = make()
    changed = fixing.changed(Fix(settings={"threads": 3}))
    assert changed.runtime == RuntimeOptions(3, "CPU")
    assert changed.threads(1) == 3
    assert changed.recipe.options == {"reduce_range": True}
    # Evidence goes by the name of the recipe.
    assert changed.recipe.id != "onnxruntime-int8-static"
    assert table(fixing.lines(changed)) == {"settings": {"threads": 3}}


def test_another_framework_is_planned_as_its_own_recipe_would_be(make: Make) -> None:
    hints = RuntimeOptions(2, "CPU", {"graph_optimization_level": "all"})
    fixing = make(STATIC, "cross", "arm-mobile", runtime=hints)
    changed = fixing.changed(Fix(Recipe("openvino", "int8-static")))
    assert changed.recipe.framework == "openvino"
    assert changed.node == "openvino-int8-static@cross"
    assert changed.model.recipes is not None
    assert [recipe.framework for recipe in changed.model.recipes] == ["onnxruntime"]
    # Threads are kept, and hints are one framework's own.
    assert changed.runtime == RuntimeOptions(2, "CPU")


def test_what_is_made_otherwise_never_shares_a_name(make: Make) -> None:
    """Two candidates of one model, fixed one after the other, by recipes of the same name."""
    first, second = make(), make()
    one = Recipe("onnxruntime", "int8-static", {"per_channel": True}, "fixed")
    other = replace(one, options={"per_channel": False})
    before = first.changed(Fix(one))
    first.remember(before)
    assert second.changed(Fix(one)).recipe == one
    after = second.changed(Fix(other))
    assert after.recipe.options == other.options
    assert after.recipe.id == "onnxruntime-int8-static-fixed-fix2"


def test_no_remedy_is_begun_when_the_time_is_up(tmp_path: Path) -> None:
    session = opened(tmp_path, STATIC, "cross")
    bench = Workbench(session, Progress())
    failed = {"accuracy_retained": verdict("accuracy_retained", "fail", 0.5)}
    clock = iter(range(0, 10_000, 1_000))
    fixing = Fixing(bench, session.candidates[0], failed, lambda: float(next(clock)), {})
    try:
        fixing.run()
    finally:
        bench.close()
    assert fixing.attempts == []
    assert bench.progress.notes == ()


def test_candidates_that_pass_or_are_known_to_fail_are_left_alone(tmp_path: Path) -> None:
    known = """
[[known_failures]]
model = "linear"
gate = "accuracy_retained"
reason = "on purpose"
"""
    session = opened(tmp_path, STATIC + known, "cross")
    bench = Workbench(session, Progress())
    ledger = Ledger()
    for made in (
        verdict("accuracy_retained", "fail", 0.5),
        verdict("speedup", "inconclusive", 1.9),
        verdict("latency_drift", "proxy", 2.0, outcome_on_proxy="fail"),
        verdict("output_sanity", "pass", 0.0),
    ):
        entry = {"model": "linear", "node": "onnxruntime-int8-static", "verdict": to_json(made)}
        ledger.add(entry)
    try:
        fix_candidates(bench, ledger)
    finally:
        bench.close()
    assert not session.evidence_directory.exists()


def test_schemes_that_cannot_be_made_here_are_no_remedies(tmp_path: Path) -> None:
    session = opened(tmp_path, STATIC, "cross")
    usable = usable_schemes(session, session.candidates[0])
    assert "int8-static" in usable["onnxruntime"]
    assert "convert" not in usable["onnxruntime"]
    # These take no ONNX models.
    assert not {"llamacpp", "mlx"} & set(usable)
    model = replace(session.candidates[0].model, calibration=None)
    bare = usable_schemes(session, replace(session.candidates[0], model=model))
    assert "int8-static" not in bare["onnxruntime"]
    assert "int8-dynamic" in bare["onnxruntime"]


def test_attempts_survive_their_json_form() -> None:
    attempt = FixAttempt(
        rule="rule",
        applied=("[settings]", "threads = 2"),
        candidate="c",
        before={"speedup": (1.0, 0.9, 1.1)},
        after={"speedup": (2.4, 2.3, None)},
        outcome_after={"speedup": "pass"},
        seconds=3.5,
        kept=True,
        note="confirm it",
    )
    assert attempt_from_json(to_json(attempt)) == attempt
