"""``pytest --edge-self-check``: the planted cases as tests, instead of the user's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_edgeai import __version__
from pytest_edgeai.assess.hardware import read_host
from pytest_edgeai.configuration import Settings
from pytest_edgeai.display import TerminalDisplay
from pytest_edgeai.errors import UserError
from pytest_edgeai.files import write_atomically
from pytest_edgeai.gate_selection import not_asked
from pytest_edgeai.invocation import find_settings, is_worker
from pytest_edgeai.leftovers import Scratch, sweep_temporary_files
from pytest_edgeai.manifest import read_manifest
from pytest_edgeai.progress import Progress
from pytest_edgeai.publishing import MARKUP, is_ascii_only
from pytest_edgeai.selfcheck.cases import CASES, Case
from pytest_edgeai.selfcheck.rates import CaseResult
from pytest_edgeai.selfcheck.report import SelfCheckReport, render_json, render_terminal
from pytest_edgeai.selfcheck.resolution import Configured, sample_notes, warnings
from pytest_edgeai.selfcheck.run import SelfCheck
from pytest_edgeai.shipped import catalogue
from pytest_edgeai.thresholds import resolve_threshold

PLUGIN_NAME = "edgeai-self-check"
COLLECTOR = "edge-self-check"
SEED = 0


def activate_self_check(config: pytest.Config) -> bool:
    """Register the self-check; return whether it was asked for after all.

    Raises:
        pytest.UsageError: a setting or the manifest is wrong, or tests are distributed; one line.
    """
    try:
        settings, manifest_path = find_settings(config)
        if not settings.self_check:
            return False
        if is_worker(config) or getattr(config.option, "dist", "no") != "no":
            raise UserError(
                "processes of pytest-xdist would disturb each other's measurements",
                where=settings.where("self_check"),
                advice="Run it without -n",
            )
        thresholds = tuple(_configured(config, settings, manifest_path))
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(SelfCheckPlugin(config, settings, thresholds), PLUGIN_NAME)
    return True


def _configured(
    config: pytest.Config, settings: Settings, manifest_path: Path | None
) -> Iterator[Configured]:
    """Yield the thresholds that the manifest's models are gated with."""
    if manifest_path is None:
        return
    known = catalogue(config.hook)
    manifest = read_manifest(manifest_path, known)
    for model in manifest.models:
        for gate in known.gates.values():
            if not_asked(gate, model, settings, manifest):
                continue
            threshold, is_on = resolve_threshold(
                gate,
                marker=None,
                command_line=settings.threshold,
                command_line_origin=settings.origins["threshold"],
                model_table=model.gates,
                defaults_table=manifest.gates,
                manifest_name=manifest_path.name,
            )
            if is_on and threshold.value is not None:
                yield Configured(
                    model.name, gate.name, threshold.value, threshold.origin, gate.measures_speed
                )


class SelfCheckFailed(Exception):
    """A false verdict, or a case that could not be measured."""


class SelfCheckItem(pytest.Item):
    """One planted case."""

    edge_case: Case
    edge_plugin: SelfCheckPlugin

    def runtest(self) -> None:
        """Run the case.

        Raises:
            SelfCheckFailed: a verdict was false, or the case could not be measured.
        """
        result = self.edge_plugin.run(self.edge_case)
        if result.is_wrong or result.error:
            raise SelfCheckFailed("\n".join((*result.falsehoods, result.error)).strip())
        if result.group == "uncovered":
            pytest.skip(f"no gate judges this: {result.not_run}")
        if result.not_run:
            pytest.skip(result.not_run)
        if result.is_undecided:
            pytest.skip("every verdict is inconclusive here")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what is wrong, and a traceback of our own mistakes alone."""
        if isinstance(excinfo.value, SelfCheckFailed):
            return f"{self.edge_case.truth}:\n{excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return the name that reports show."""
        return self.path, None, self.nodeid


class SelfCheckPlugin:
    """Collects the planted cases in place of tests, runs them, and reports."""

    def __init__(
        self, config: pytest.Config, settings: Settings, thresholds: tuple[Configured, ...]
    ) -> None:
        """Prepare; nothing is started before the first case."""
        self._config = config
        self._settings = settings
        self._thresholds = thresholds
        self._progress = Progress(TerminalDisplay(config))
        self._scratch: Scratch | None = None
        self._check: SelfCheck | None = None
        self._cases: list[Case] = []
        self._report: SelfCheckReport | None = None
        self._error = ""

    def pytest_report_header(self) -> str:
        """Say what is run instead of tests."""
        return (
            f"edgeai: {__version__}, self-check of this machine in about "
            f"{self._settings.self_check_budget:g} s; no test of the project is run"
        )

    def pytest_collection(self, session: pytest.Session) -> bool:
        """Put the planted cases in the place of the project's tests."""
        items: list[pytest.Item] = []
        for case in CASES:
            item: SelfCheckItem = SelfCheckItem.from_parent(
                session, name=case.name, nodeid=f"{COLLECTOR}::{case.name}"
            )
            item.edge_case, item.edge_plugin = case, self
            items.append(item)
        session.items = items
        hook = self._config.hook
        hook.pytest_collectreport(report=pytest.CollectReport(COLLECTOR, "passed", None, [*items]))
        hook.pytest_collection_modifyitems(session=session, config=self._config, items=items)
        hook.pytest_collection_finish(session=session)
        session.testscollected = len(items)
        self._cases = [item.edge_case for item in items if isinstance(item, SelfCheckItem)]
        return True

    def run(self, case: Case) -> CaseResult:
        """Run one case; a rerun never makes up for a false verdict."""
        if self._check is None:
            sweep_temporary_files()
            self._scratch = Scratch()
            self._check = SelfCheck(
                self._scratch.directory,
                self._cases,
                budget_s=self._settings.self_check_budget,
                say=self._progress.step,
                seed=SEED,
            )
        try:
            result = self._check.run(case)
        finally:
            self._progress.clear()
        earlier = (r for r in self._check.results if r.name == case.name)
        return next((r for r in earlier if r.is_wrong or r.error), result)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Sum up, and write the JSON report where one was asked for.

        One that could not be written ends a run that would have succeeded with exit code 4.
        """
        check = self._check
        if check is None or not check.results:
            return
        resolution = check.resolution
        self._report = SelfCheckReport(
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            tool_version=__version__,
            host=read_host(),
            budget_s=self._settings.self_check_budget,
            seconds=check.seconds,
            results=tuple(check.results),
            noise=check.noise,
            resolution=resolution,
            warnings=warnings(self._thresholds, resolution, self._settings.budget),
            notes=sample_notes(self._thresholds),
        )
        if self._settings.json is None:
            return
        try:
            write_atomically(self._settings.json, render_json(self._report))
        except UserError as error:
            self._error = str(error)
            if exitstatus == pytest.ExitCode.OK:
                pytest.exit(self._error, returncode=pytest.ExitCode.USAGE_ERROR)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the report."""
        if self._report is None:
            return
        terminalreporter.section("edge self-check", sep="=")
        lines = render_terminal(
            self._report,
            terminalreporter._tw.fullwidth,
            ascii_only=is_ascii_only(terminalreporter),
        )
        for line in lines:
            terminalreporter.write_line(line.text, **MARKUP[line.style])
        if self._error:
            terminalreporter.write_line(f"ERROR: {self._error}", red=True, bold=True)

    def pytest_unconfigure(self) -> None:
        """Remove the temporary files, also where the session broke off early."""
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None
