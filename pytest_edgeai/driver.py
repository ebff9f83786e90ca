"""The plugin with a target: collects the manifest, runs gates, hears verdicts, and reports."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_edgeai.against import check_against
from pytest_edgeai.assess.hardware import read_host
from pytest_edgeai.collect import ManifestFile, one_item_per_problem
from pytest_edgeai.comparison import VERDICTS, marker_overrides
from pytest_edgeai.display import TerminalDisplay
from pytest_edgeai.energy_settings import check_energy_settings
from pytest_edgeai.errors import UserError, unknown_word
from pytest_edgeai.files import check_writable_directory
from pytest_edgeai.invocation import (
    CACHE_NAME,
    cache_directory,
    is_worker,
    read_settings,
    run_id,
)
from pytest_edgeai.ledger import Ledger
from pytest_edgeai.leftovers import RunClaim, sweep_temporary_files
from pytest_edgeai.manifest import read_manifest
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.preflight import preflight
from pytest_edgeai.progress import Progress
from pytest_edgeai.publishing import Publisher
from pytest_edgeai.records import Verdict
from pytest_edgeai.search_table import searched_settings
from pytest_edgeai.session import Session, open_session
from pytest_edgeai.shipped import catalogue
from pytest_edgeai.workbench import Workbench

if TYPE_CHECKING:
    from pytest_edgeai.searching import Searcher

DRIVER = pytest.StashKey["Driver"]()
PLUGIN_NAME = "edgeai-driver"
AFTER_GATES = "edgeai-after-gates"
FIXTURE_MODULES = ("candidates", "onnxruntime", "openvino", "olive", "llamacpp", "mlx")
NAME_MARKERS = ("edge_target", "edge_framework", "edge_model")


def activate(config: pytest.Config) -> None:
    """Open a session and register the driver.

    Raises:
        pytest.UsageError: a setting, the manifest or a model is wrong; one line.
    """
    try:
        driver = Driver(config)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[DRIVER] = driver
    config.pluginmanager.register(driver, PLUGIN_NAME)
    after = driver.after_gates()
    if after is not None:
        config.pluginmanager.register(after, AFTER_GATES)
    for name in FIXTURE_MODULES:
        config.pluginmanager.import_plugin(f"pytest_edgeai.fixtures.{name}")


def workbench_of(config: pytest.Config) -> Workbench:
    """Return the session's workbench."""
    return config.stash[DRIVER].workbench()


def running_test(config: pytest.Config) -> pytest.Item | None:
    """Return the test that is running."""
    return config.stash[DRIVER].running


class Driver:
    """Connects pytest with the flow; holds no logic of its own."""

    def __init__(self, config: pytest.Config) -> None:
        """Resolve settings, read the manifest and plan.

        Raises:
            UserError: what the user has to mend.
        """
        self.config = config
        self.running: pytest.Item | None = None
        self.ledger = Ledger()
        self.progress = Progress(None if is_worker(config) else TerminalDisplay(config))
        self.settings, manifest_path = read_settings(config)
        known = catalogue(config.hook)
        manifest = read_manifest(manifest_path, known)
        cache = cache_directory(self.settings, manifest_path)
        self._runs_nothing = (
            self.settings.plan or self.settings.history or config.option.collectonly
        )
        if not self._runs_nothing:
            check_writable_directory(cache, self._origin("cache_dir"))
            _ignore_in_git(cache, chosen=self.settings.cache_dir is not None)
        self.session: Session = open_session(
            searched_settings(self.settings, manifest.search),
            known,
            manifest,
            read_host(),
            choose_recipes=lambda model, facts, framework, target: (
                config.hook.pytest_edgeai_recipes(
                    model=model, facts=facts, framework=framework, target=target
                )
            ),
            run_id=run_id(config),
            cache_directory=cache,
        )
        if not self._runs_nothing and not is_worker(config):
            check_energy_settings(self.settings)
        if isinstance(self.settings.against, Path):
            check_against(self.settings.against, self.settings.where("against"))
        self.unusable: Mapping[str, UserError] = {}
        self._workbench: Workbench | None = None
        self._claim: RunClaim | None = None
        if not self._runs_nothing and not is_worker(config):
            self._claim = RunClaim(cache / "evidence", self.session.run_id)
            sweep_temporary_files()
        self._searcher = self._make_searcher()
        self.publisher = Publisher(config, self.session)
        self._collect_manifest()

    def _origin(self, name: str) -> str:
        origin = self.settings.origins[name]
        return f"{CACHE_NAME} directory" if origin == "default" else origin

    def workbench(self) -> Workbench:
        """Return the workbench, made when first needed."""
        if self._workbench is None:
            self._workbench = Workbench(self.session, self.progress, self._tell)
        return self._workbench

    def after_gates(self) -> object | None:
        """Return the plugin that runs behind the last verdict; ``None`` where nothing follows."""
        if not self.settings.fix or self._runs_nothing or is_worker(self.config):
            return None
        from pytest_edgeai.after_gates import AfterGates

        return AfterGates(self.workbench, self.ledger)

    def _tell(self, candidate: PlannedCandidate, verdict: Verdict) -> None:
        self.config.hook.pytest_edgeai_verdict(
            model=candidate.model.name,
            candidate=candidate.node,
            target=candidate.target.name,
            verdict=verdict,
        )

    def _collect_manifest(self) -> None:
        """Collect the manifest too where the user named no path that leads to it or elsewhere."""
        config = self.config
        if config.args_source == config.ArgsSource.ARGS or is_worker(config):
            return
        path = self.session.manifest.path
        roots = [config.invocation_params.dir / arg for arg in config.args]
        if not any(path.is_relative_to(root) for root in roots):
            config.args.append(str(path))

    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        """Collect the manifest as a test file."""
        if file_path.resolve() != self.session.manifest.path.resolve():
            return None
        file: ManifestFile = ManifestFile.from_parent(parent, path=file_path)
        file.edge_session = self.session
        file.edge_workbench = self.workbench
        return file

    def pytest_report_header(self) -> list[str]:
        """Say what is gated, where, and which settings somebody set."""
        searches = self._searcher.header() if self._searcher else []
        return [*self.publisher.header(), *(f"edgeai: {line}" for line in searches)]

    def pytest_sessionstart(self) -> None:
        """Search before the processes of pytest-xdist start, where there are some."""
        if self._distributed():
            self._search()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Search before anything is collected, below the header."""
        if not self._distributed():
            self._search()

    def _search(self) -> None:
        """Search where that was asked for; only the controlling process does."""
        if self._searcher is None or self._runs_nothing:
            return
        try:
            self.session = self._searcher.search(self.progress)
        except UserError as error:
            raise pytest.UsageError(str(error)) from None
        self.publisher.use(self.session)

    def _make_searcher(self) -> Searcher | None:
        """Return what searches; in a process of pytest-xdist, take over what was found."""
        if self.settings.search is None or self.settings.history:
            return None
        # Searching judges, which imports SciPy, which no other session needs this early.
        from pytest_edgeai.searching import Searcher, with_finalists

        if is_worker(self.config):
            self.session = with_finalists(self.session)
            return None
        return Searcher(self.session)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize tests that use a candidate over the plan."""
        if "edge_planned" not in metafunc.fixturenames:
            return
        candidates = [c for c in self.session.candidates if _wanted(metafunc, c)]
        metafunc.parametrize(
            "edge_planned",
            candidates,
            indirect=True,
            scope="session",
            ids=[f"{c.model.name}-{c.node}" for c in candidates],
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Refuse markers with unknown arguments, and gates that only exist with a limit."""
        try:
            for item in items:
                self._check_markers(item)
        except UserError as error:
            raise pytest.UsageError(str(error)) from None

    def _check_markers(self, item: pytest.Item) -> None:
        session = self.session
        allowed = {
            "edge_target": session.catalogue.targets,
            "edge_framework": session.catalogue.frameworks,
            "edge_model": [
                *session.facts,
                *session.problems,
                *(m.name for m in session.manifest.models),
            ],
        }
        for marker_name, names in allowed.items():
            for marker in item.iter_markers(marker_name):
                if marker.kwargs or not marker.args:
                    raise UserError(
                        f"{marker_name} takes names and no keywords",
                        where=item.nodeid,
                        allowed=", ".join(names),
                    )
                for name in marker.args:
                    if name not in names:
                        raise unknown_word(
                            "name", str(name), names, where=f"{item.nodeid} {marker_name}"
                        )
        for marker in item.iter_markers("edge_gate"):
            marker_overrides(marker, session.catalogue.gates, item.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> object:
        """Check models and data before anything is optimized."""
        if self.settings.history:
            self.publisher.print_history()
            return True
        if self.settings.plan:
            self.publisher.print_plan(self._searcher.space() if self._searcher else ())
            return True
        if self._runs_nothing or is_worker(self.config) or session.testsfailed:
            return None
        if self._distributed():
            names = [name for name in self.session.facts if name not in self.session.problems]
        else:
            names = sorted({name for item in session.items for name in _models_of(item)})
        if not names:
            return None
        self.unusable = problems = preflight(
            self.workbench(), names, verbose=self.config.get_verbosity() > 0
        )
        self.progress.clear()
        for problem in problems.values():
            if len(self.session.manifest.models) + len(self.session.manifest.problems) == 1:
                raise pytest.UsageError(str(problem))
        if problems:
            session.items[:] = one_item_per_problem(session.items, problems)
        if self._distributed():
            self.workbench().close()
        return None

    def _distributed(self) -> bool:
        return self.config.pluginmanager.hasplugin("dsession")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Know which test is running."""
        self.running = item
        try:
            return (yield)
        finally:
            self.running = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach the verdicts to the report, so that they reach the controlling process."""
        self.progress.clear()
        report = yield
        if call.when == "call" and VERDICTS in item.stash:
            report.edge_verdicts = item.stash[VERDICTS]  # type: ignore[attr-defined]
            del item.stash[VERDICTS]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hear of verdicts, whichever process reached them."""
        if not is_worker(self.config):
            for entry in getattr(report, "edge_verdicts", ()):
                self.ledger.add(entry)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take over what a worker process of pytest-xdist noted."""
        for note in getattr(node, "workeroutput", {}).get("edge_notes", ()):
            self.progress.note(note)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Let the worker processes of pytest-xdist share this session's evidence."""
        node.workerinput["edge_run_id"] = self.session.run_id

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> Generator[None, object, object]:
        """End the workers, write the reports and promote, before pytest-benchmark saves.

        A report or bundle that was asked for and could not be written ends a run that would have
        succeeded with exit code 4: whoever reads it next would find an old one, or none.
        """
        self.progress.clear()
        if self._workbench is not None:
            self._workbench.close()
        if is_worker(self.config):
            self.config.workeroutput["edge_notes"] = list(self.progress.notes)  # type: ignore[attr-defined]
        elif not self._runs_nothing and exitstatus != pytest.ExitCode.USAGE_ERROR:
            problems = {**self.session.problems, **self.unusable}
            self.publisher.publish(self.ledger, self.progress.notes, problems)
            if self._claim is not None:
                self._claim.sweep()
        result = yield
        if not is_worker(self.config) and not self._runs_nothing:
            # Processes of pytest-xdist that crashed are dead and reaped by here.
            sweep_temporary_files()
        if self.publisher.errors and exitstatus == pytest.ExitCode.OK:
            pytest.exit("; ".join(self.publisher.errors), returncode=pytest.ExitCode.USAGE_ERROR)
        return result

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table and the decisions."""
        self.publisher.print_summary(terminalreporter)

    def pytest_unconfigure(self) -> None:
        """End the workers, also where the session broke off early."""
        if self._workbench is not None:
            self._workbench.close()
        if self._claim is not None:
            self._claim.release()


def _ignore_in_git(cache: Path, *, chosen: bool) -> None:
    """Keep a default cache directory out of the user's repository."""
    ignore = cache / ".gitignore"
    if not chosen and not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def _models_of(item: pytest.Item) -> list[str]:
    return [str(marker.args[0]) for marker in item.iter_markers("edge_model") if marker.args] + [
        value.model.name
        for value in getattr(getattr(item, "callspec", None), "params", {}).values()
        if isinstance(value, PlannedCandidate)
    ]


def _wanted(metafunc: pytest.Metafunc, candidate: PlannedCandidate) -> bool:
    values = (candidate.target.name, candidate.recipe.framework, candidate.model.name)
    for marker_name, value in zip(NAME_MARKERS, values, strict=True):
        named = [name for m in metafunc.definition.iter_markers(marker_name) for name in m.args]
        if named and value not in named:
            return False
    return True
