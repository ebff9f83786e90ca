"""The extension contract: what a plugin or a conftest.py can add, one hook each and no fork."""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_edgeai.descriptors import (
        FrameworkDescriptor,
        GateDescriptor,
        MetricDescriptor,
        TargetDescriptor,
    )
    from pytest_edgeai.records import ModelFacts, Recipe, Verdict
    from pytest_edgeai.report.content import CandidateReport
    from pytest_edgeai.specification import ModelSpec


@pytest.hookspec
def pytest_edgeai_frameworks() -> Sequence[FrameworkDescriptor]:  # type: ignore[empty-body]
    """Add optimization frameworks.

    A descriptor holds the import path of a class that implements
    ``pytest_edgeai.optimize.frameworks.base.Framework``; the class is imported in a worker process
    of its own and never in the pytest process. A framework of a known name replaces the shipped
    one::

        def pytest_edgeai_frameworks():
            return [FrameworkDescriptor("tvm", "edgeai_tvm:Tvm", "pip install edgeai-tvm",
                                        ("apache-tvm",), ("onnx",),
                                        {"convert": "float32", "int8-static": "int8"})]
    """


@pytest.hookspec
def pytest_edgeai_targets() -> Sequence[TargetDescriptor]:  # type: ignore[empty-body]
    """Add edge targets, or replace a shipped one by its name.

    For example::

        def pytest_edgeai_targets():
            return [TargetDescriptor("kiosk", "our kiosk, an Intel N100", ("openvino",),
                                     host_vendors=("GenuineIntel",))]
    """


@pytest.hookspec
def pytest_edgeai_metrics() -> Sequence[MetricDescriptor]:  # type: ignore[empty-body]
    """Add quality metrics; each names a callable that returns one score per sample.

    For example::

        def pytest_edgeai_metrics():
            return [MetricDescriptor("top5", "our_metrics:top5", "proportion")]
    """


@pytest.hookspec
def pytest_edgeai_gates() -> Sequence[GateDescriptor]:  # type: ignore[empty-body]
    """Add gates; each names its test function and the function that decides it.

    For example::

        def pytest_edgeai_gates():
            return [GateDescriptor("cold_start", "our_gates:test_cold_start",
                                   "our_gates:decide_cold_start", "at_most", 2e9, "ns",
                                   "the first answer comes within two seconds")]
    """


@pytest.hookspec(firstresult=True)
def pytest_edgeai_recipes(
    model: ModelSpec, facts: ModelFacts, framework: str, target: str
) -> Sequence[Recipe] | None:
    """Choose the recipes of one model, framework and target; ``None`` leaves the choice to others.

    Not asked where the manifest lists recipes for the model::

        def pytest_edgeai_recipes(model, facts, framework, target):
            if framework == "openvino" and model.name.startswith("detector"):
                return [Recipe("openvino", "int8-static", {"preset": "mixed"})]
    """


@pytest.hookspec
def pytest_edgeai_verdict(model: str, candidate: str, target: str, verdict: Verdict) -> None:
    """See every verdict as soon as it is reached, in the process that reached it.

    For example::

        def pytest_edgeai_verdict(model, candidate, target, verdict):
            print(model, candidate, verdict.gate, verdict.outcome)
    """


@pytest.hookspec
def pytest_edgeai_promote(model: str, candidate: CandidateReport, bundle: Path) -> None:
    """Act on a promotion, after the bundle lies complete in its place.

    For example::

        def pytest_edgeai_promote(model, candidate, bundle):
            shutil.copytree(bundle, "/srv/models" / bundle.name)
    """
