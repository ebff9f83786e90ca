"""The manifest as a test file: model -> candidate -> gate items."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import pytest

from pytest_edgeai.comparison import EdgeCompare, refuse
from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.measure.dataset import import_reference
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.runnable import baseline_model, candidate_model
from pytest_edgeai.session import Session
from pytest_edgeai.workbench import Workbench

WorkbenchSource = Callable[[], Workbench]
GATE_ARGUMENTS = ("edge_host", "edge_model", "edge_baseline", "edge_candidate", "edge_compare")


class ManifestFile(pytest.File):
    """The manifest, collected as a test file."""

    edge_session: Session
    edge_workbench: WorkbenchSource

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield one node per model, broken ones included."""
        session = self.edge_session
        for name in (*session.facts, *session.problems):
            yield ModelNode.from_parent(self, name=name)


class ModelNode(pytest.Collector):
    """One model of the manifest."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield one node per candidate, or one failing item for a model that cannot be used."""
        file = self.getparent(ManifestFile)
        assert file is not None
        problem = file.edge_session.problems.get(self.name)
        if problem is not None:
            yield ProblemItem.from_parent(self, name="usable", problem=problem)
            return
        for candidate in file.edge_session.candidates:
            if candidate.model.name == self.name:
                yield CandidateNode.from_parent(self, name=candidate.node, candidate=candidate)


class CandidateNode(pytest.Collector):
    """One candidate of a model."""

    def __init__(self, *, candidate: PlannedCandidate, **kwargs: Any) -> None:
        """Collect the gates of ``candidate``."""
        super().__init__(**kwargs)
        self.candidate = candidate

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item per gate."""
        file = self.getparent(ManifestFile)
        assert file is not None
        for gate in file.edge_session.gates_of(self.candidate):
            item = GateItem.from_parent(
                self, name=gate, candidate=self.candidate, workbench=file.edge_workbench
            )
            item.add_marker(pytest.mark.edge_gate(gate))
            item.add_marker(pytest.mark.edge_target(self.candidate.target.name))
            item.add_marker(pytest.mark.edge_framework(self.candidate.recipe.framework))
            item.add_marker(pytest.mark.edge_model(self.candidate.model.name))
            known = file.edge_session.known_failure(self.candidate, gate)
            if known:
                item.add_marker(pytest.mark.xfail(reason=known, strict=True))
            yield item


class GateItem(pytest.Item):
    """One gate of one candidate: runs the gate's test function."""

    def __init__(
        self, *, candidate: PlannedCandidate, workbench: WorkbenchSource, **kwargs: Any
    ) -> None:
        """Run the gate named ``name`` for ``candidate``."""
        super().__init__(**kwargs)
        self.candidate = candidate
        self._workbench = workbench

    def runtest(self) -> None:
        """Call the gate's test function with what it asks for."""
        if self.candidate.unavailable:
            refuse(self.candidate)
        bench = self._workbench()
        test = _test_function(bench, self.name)
        values: dict[str, Callable[[], object]] = {
            "edge_host": lambda: bench.session.host,
            "edge_model": lambda: self.candidate.model,
            "edge_baseline": lambda: baseline_model(bench, self.candidate),
            "edge_candidate": lambda: candidate_model(bench, self.candidate),
            "edge_compare": lambda: EdgeCompare(bench, self.candidate, lambda: self),
        }
        arguments: dict[str, object] = {}
        for name in inspect.signature(test).parameters:
            if name not in values:
                raise UserError(
                    f'asks for "{name}"',
                    where=f"gate {self.name}",
                    allowed=", ".join(GATE_ARGUMENTS),
                )
            arguments[name] = values[name]()
        test(**arguments)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return one line for what the user can act on, and a traceback for our bugs."""
        if isinstance(excinfo.value, EdgeAIError):
            return f"{self.candidate.model.name} {self.candidate.node}: {excinfo.value}"
        return super().repr_failure(excinfo, style=style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return where the item comes from and how pytest titles it."""
        return self.path, None, f"{self.candidate.model.name} {self.candidate.node} {self.name}"


def _test_function(bench: Workbench, gate: str) -> Callable[..., None]:
    reference = bench.session.catalogue.gates[gate].test
    function: Callable[..., None] = import_reference(
        reference, bench.session.manifest.directory, f"gate {gate}"
    )
    return function


def one_item_per_problem(
    items: Sequence[pytest.Item], problems: Mapping[str, UserError]
) -> list[pytest.Item]:
    """Return the items with all gates of each unusable model replaced by one failing item."""
    kept: list[pytest.Item] = []
    shown: set[str] = set()
    for item in items:
        name = item.candidate.model.name if isinstance(item, GateItem) else ""
        if name not in problems:
            kept.append(item)
        elif name not in shown:
            shown.add(name)
            node = item.getparent(ModelNode)
            assert node is not None
            kept.append(ProblemItem.from_parent(node, name="usable", problem=problems[name]))
    return kept


class ProblemItem(pytest.Item):
    """Fails with the reason why a model cannot be gated."""

    def __init__(self, *, problem: UserError, **kwargs: Any) -> None:
        """Fail with ``problem``."""
        super().__init__(**kwargs)
        self._problem = problem

    def runtest(self) -> NoReturn:
        """Fail with the one line."""
        raise self._problem

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """Return the one line."""
        return str(excinfo.value)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return where the item comes from and how pytest titles it."""
        parent = self.parent
        return self.path, None, f"{parent.name if parent else ''} {self.name}"
