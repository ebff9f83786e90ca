from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_parts import Project
from models import linear_classifier, write_project

from pytest_edgeai.assess.hardware import read_host
from pytest_edgeai.configuration import resolve
from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.manifest import read_manifest
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.session import Installations, Session, open_session
from pytest_edgeai.shipped import GATES
from pytest_edgeai.specification import Catalogue

HOST = dataclasses.replace(
    read_host(), cpu_vendor="GenuineIntel", cpu_model="Core", architecture="x86_64"
)
CATALOGUE = Catalogue(FRAMEWORKS, TARGETS, METRICS, GATES)
Open = Callable[..., Session]


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return linear_classifier(tmp_path_factory.mktemp("linear"))


@pytest.fixture
def opened(tmp_path: Path, linear: Project) -> Open:
    """Open a session on a manifest of one or more copies of a good model."""

    def make(
        extra: str = "",
        *,
        names: tuple[str, ...] = ("m",),
        catalogue: Catalogue = CATALOGUE,
        host: Any = HOST,
        choose_recipes: Any = lambda model, facts, framework, target: None,
        **flags: Any,
    ) -> Session:
        projects = [dataclasses.replace(linear, name=name) for name in names]
        path = write_project(tmp_path, projects, extra)
        manifest = read_manifest(path, catalogue)
        given = {f"edge_{name}": value for name, value in {"target": ["cross"], **flags}.items()}
        settings = resolve(
            given, {}, manifest.settings, manifest_path=path, invocation_directory=tmp_path
        )
        return open_session(
            settings,
            catalogue,
            manifest,
            host,
            choose_recipes=choose_recipes,
            run_id="run",
            cache_directory=tmp_path / "cache",
        )

    return make


def nodes(session: Session) -> list[str]:
    return [candidate.node for candidate in session.candidates]


def test_opening_reads_plans_and_writes_nothing(opened: Open, tmp_path: Path) -> None:
    session = opened()
    assert nodes(session) == ["onnxruntime-int8-static"]
    assert session.facts["m"].sha256 == "", "hashing waits until a gate runs"
    assert session.problems == {}
    assert session.decisions["m"]
    assert not (tmp_path / "cache").exists()


def test_a_gate_without_limit_is_no_gate_of_a_candidate(opened: Open) -> None:
    session = opened()
    assert "memory_footprint" not in session.gates_of(session.candidates[0])
    limited = opened('[gates]\nmemory_footprint = "64 MB"\n')
    assert "memory_footprint" in limited.gates_of(limited.candidates[0])


def test_a_gate_that_is_switched_off_stays_visible(opened: Open) -> None:
    session = opened("[gates]\nspeedup = false\n")
    [candidate] = session.candidates
    assert "speedup" in session.gates_of(candidate)
    threshold, on = session.threshold(candidate, "speedup")
    assert (threshold.value, on) == (None, False)


def test_thresholds_by_nearness(opened: Open) -> None:
    extra = "[gates]\nspeedup = 3\n[models.a.gates]\nspeedup = 4\n"
    session = opened(extra, names=("a", "b"))
    values = {c.model.name: session.threshold(c, "speedup")[0].value for c in session.candidates}
    assert values == {"a": 4.0, "b": 3.0}
    session = opened(extra, names=("a", "b"), threshold=["speedup=5"])
    assert {session.threshold(c, "speedup")[0].value for c in session.candidates} == {5.0}
    assert session.threshold(session.candidates[0], "speedup", marker=6.0)[0].value == 6.0


def test_other_keys_of_the_gates_tables(opened: Open) -> None:
    extra = "[gates]\nlatency_p99_limit_ms = 3\n[models.a.gates]\nlatency_p99_limit_ms = 4\n"
    session = opened(extra, names=("a", "b"))
    values = {
        c.model.name: session.gate_setting(c, "latency_p99_limit_ms") for c in session.candidates
    }
    assert values == {"a": 4, "b": 3}
    assert session.gate_setting(session.candidates[0], "latency_p50_limit_ms") is None


def test_known_failures_of_all_or_one_candidate(opened: Open) -> None:
    entry = '[[known_failures]]\nmodel = "m"\ngate = "{gate}"\nreason = "{gate} later"\n'
    extra = entry.format(gate="speedup") + entry.format(gate="memory_cut")
    session = opened(extra + 'candidate = "openvino-int8-static"\n', framework=["onnxruntime"])
    [candidate] = session.candidates
    assert session.known_failure(candidate, "speedup") == "speedup later"
    assert session.known_failure(candidate, "memory_cut") == ""
    assert session.known_failure(candidate, "accuracy_retained") == ""


def test_only_the_models_that_were_asked_for(opened: Open) -> None:
    session = opened(names=("a", "b", "c"), model=["c,a"])
    assert list(session.facts) == ["a", "c"]


def test_several_targets_stand_in_the_ids(opened: Open) -> None:
    session = opened(target=["cross,intel"], framework=["onnxruntime"])
    assert nodes(session) == ["onnxruntime-int8-static@cross", "onnxruntime-int8-static@intel"]


def test_all_targets_of_this_host(opened: Open) -> None:
    session = opened(target=["all"], framework=["onnxruntime"])
    served = ["intel", "apple", "arm-mobile", "arm-embedded", "cross", "qualcomm"]
    assert nodes(session) == [f"onnxruntime-int8-static@{name}" for name in served]
    assert [target.name for target in session.targets] == served
    assert list(session.proxies) == served
    assert {each.target for each in session.unserved} == {"nvidia", "edge-tpu", "enterprise"}


def test_the_limit_of_a_package_is_the_default_of_the_size(opened: Open) -> None:
    def limit(extra: str = "", **flags: Any) -> tuple[float | None, str, bool]:
        session = opened(extra, framework=["onnxruntime"], **flags)
        threshold, on = session.threshold(session.candidates[0], "artifact_size")
        return threshold.value, threshold.origin, on

    assert limit() == (None, "default", True)
    assert limit(target=["arm-mobile"]) == (99_999_999.0, "target arm-mobile", True)
    off = "[gates]\nartifact_size = false\n"
    assert limit(off, target=["arm-mobile"]) == (None, "edgeai.toml", False)
    own: dict[str, Any] = {"target": ["arm-mobile"], "threshold": ["artifact_size=5MB"]}
    assert limit(**own) == (5e6, "--edge-threshold", True)


def test_other_gates_know_no_package(opened: Open) -> None:
    session = opened(target=["arm-mobile"], framework=["onnxruntime"])
    assert "memory_footprint" not in session.gates_of(session.candidates[0])


def test_a_host_of_another_kind_is_a_proxy(opened: Open) -> None:
    other = dataclasses.replace(HOST, cpu_vendor="AuthenticAMD", cpu_model="EPYC")
    session = opened(host=other, target=["intel"], framework=["onnxruntime"])
    assert "EPYC" in session.proxies["intel"]
    assert session.candidates[0].proxy_reason == session.proxies["intel"]
    assert opened(target=["intel"], framework=["onnxruntime"]).proxies == {"intel": ""}


def test_a_broken_model_among_several_is_a_problem_of_its_own(opened: Open, tmp_path: Path) -> None:
    def breaking(model: Any, facts: Any, framework: str, target: str) -> None:
        if model.name == "b":
            raise ModelError("no recipe fits", where=model.where)

    session = opened(names=("a", "b"), choose_recipes=breaking)
    assert list(session.problems) == ["b"]
    assert [candidate.model.name for candidate in session.candidates] == ["a"]
    with pytest.raises(ModelError, match="no recipe fits"):
        opened(names=("b",), choose_recipes=breaking)


def test_a_missing_framework_is_told_with_its_command(opened: Open) -> None:
    absent = dataclasses.replace(
        FRAMEWORKS["onnxruntime"], distributions=("no-such-distribution",), install="pip install it"
    )
    catalogue = dataclasses.replace(CATALOGUE, frameworks={**FRAMEWORKS, "onnxruntime": absent})
    session = opened(catalogue=catalogue, framework=["onnxruntime"])
    [candidate] = session.candidates
    assert candidate.demanded
    assert "missing: no-such-distribution" in candidate.unavailable
    assert candidate.unavailable.endswith("run: pip install it")


def test_interpreters_are_asked_once_and_named(tmp_path: Path) -> None:
    installations = Installations(FRAMEWORKS, {"onnxruntime": Path(sys.executable)})
    assert installations.missing("onnxruntime") == ""
    assert installations.probe("onnxruntime") is installations.probe("onnxruntime")
    assert installations.missing("nothing") == "nothing is not part of this installation"
    liar = tmp_path / "python"
    liar.write_text("#!/bin/sh\nexit 3\n")
    liar.chmod(0o755)
    with pytest.raises(UserError, match=r"\[frameworks.onnxruntime\] python"):
        Installations(FRAMEWORKS, {"onnxruntime": liar}).probe("onnxruntime")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"target": ["intl"]}, '--edge-target: unknown target "intl"'),
        ({"target": ["all,cross"]}, '--edge-target: "all,cross" mixes words'),
        ({"model": ["n"]}, '--edge-model: unknown model "n"'),
        ({"framework": ["openvno"]}, '--edge-framework: unknown framework "openvno"'),
        ({"threshold": ["spedup=1"]}, '--edge-threshold: unknown gate "spedup"'),
        ({"threshold": ["speedup=nan"]}, "--edge-threshold speedup: 'nan' is not finite"),
        ({"json": "m.json", "junit": "m.json"}, "is the file of --edge-json"),
        ({"json": "edgeai.toml"}, "is the manifest and would be overwritten"),
        ({"markdown": "."}, "is a directory"),
        ({"promote": "edgeai.toml"}, "is no directory"),
    ],
    ids=range(10),
)
def test_what_is_refused(opened: Open, flags: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        opened(**flags)
    assert expected in str(caught.value)


def test_reports_may_replace_older_reports(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    opened(json="report.json", markdown="new/report.md", promote="shipped/here")
    assert (tmp_path / "report.json").read_text() == "{}"
