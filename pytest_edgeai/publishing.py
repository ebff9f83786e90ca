"""Everything a session writes at its end: header, plan, table, files, promotions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai import __version__
from pytest_edgeai.certifying import bundle_makers, read_signer, signing_remarks, unsigned_note
from pytest_edgeai.configuration import describe_origins
from pytest_edgeai.errors import EdgeAIError, UserError
from pytest_edgeai.evidence import EvidenceStore
from pytest_edgeai.files import write_atomically, write_markdown
from pytest_edgeai.history.comparable import stored_refusal
from pytest_edgeai.history.records import CandidateKey, Environment, candidate_key
from pytest_edgeai.invocation import is_worker
from pytest_edgeai.ledger import Ledger, build_report
from pytest_edgeai.planning import host_warnings, left_out, plan_content, proxied_frameworks
from pytest_edgeai.promote.bundle import promote
from pytest_edgeai.promote.portable import (
    Places,
    check_portable,
    checked,
    places_of,
    portable,
)
from pytest_edgeai.records import JSON, Artifact, artifact_root, to_json
from pytest_edgeai.remembering import environments_of, history_lines, remember
from pytest_edgeai.report.benchmark import add_latency, drop_unlike
from pytest_edgeai.report.content import CandidateReport, ModelReport, Report
from pytest_edgeai.report.json import render_json
from pytest_edgeai.report.junit import render_junit
from pytest_edgeai.report.markdown import render_markdown
from pytest_edgeai.report.plan import render_plan
from pytest_edgeai.report.terminal import render_terminal
from pytest_edgeai.report_page import Picture, check_page, picture_links, write_page
from pytest_edgeai.session import Session

BENCHMARK_OPTIONS = (
    "benchmark_json",
    "benchmark_save",
    "benchmark_autosave",
    "benchmark_compare",
    "benchmark_histogram",
)
MARKUP: dict[str, dict[str, bool]] = {
    "pass": {"green": True},
    "fail": {"red": True, "bold": True},
    "warn": {"yellow": True},
    "title": {"bold": True},
    "plain": {},
}


class Publisher:
    """Writes what people and CI systems read."""

    def __init__(self, config: pytest.Config, session: Session) -> None:
        """Publish the outcome of ``session``.

        Attributes:
            errors: what was asked for and could not be written, one line each.

        Raises:
            UserError: what is promoted is to be signed, and the key cannot sign; or a page is
                wanted that cannot be drawn.
        """
        self._config = config
        self._session = session
        self._report: Report | None = None
        self._bundles: dict[CandidateKey, Path] = {}
        check_page(session.settings)
        # Read here, so that a key that cannot sign ends the run before it begins.
        self._signer = None if is_worker(config) else read_signer(session.settings, os.environ)
        self.errors: list[str] = []
        self._refused: list[str] = []

    def header(self) -> list[str]:
        """Return the lines of pytest's header."""
        session = self._session
        lines = [
            f"edgeai: {__version__}, target {', '.join(t.name for t in session.targets)}, "
            f"manifest {session.manifest.path}"
        ]
        lines += [
            f"edgeai: this host is a proxy for {target}: {reason}"
            for target, reason in session.proxies.items()
            if reason
        ]
        lines += [f"edgeai: {text}" for text in proxied_frameworks(session)]
        lines += [f"edgeai: {text}" for text in left_out(session)]
        lines += [f"edgeai: {warning}" for warning in host_warnings(session.host)]
        lines += [f"edgeai: {text}" for text in signing_remarks(session.settings, self._signer)]
        origins = describe_origins(session.settings)
        chosen = [
            f"{name} = {value} ({origin})"
            for name, (value, origin) in origins.items()
            if name != "target"
        ]
        limits = [
            f"{key} = {'off' if value is False else value} ({session.manifest.path.name})"
            for key, value in session.manifest.gates.items()
        ]
        if chosen or limits:
            lines.append("edgeai settings: " + ", ".join(chosen + limits))
        return lines

    def use(self, session: Session) -> None:
        """Publish the outcome of another session, whose search chose its candidates."""
        self._session = session

    def print_plan(self, further: Iterable[str] = ()) -> None:
        """Print the assessment, the decision path and the recipes, and then ``further`` lines."""
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return
        reporter.section("edge plan", sep="=")
        lines = render_plan(
            plan_content(self._session), reporter._tw.fullwidth, ascii_only=is_ascii_only(reporter)
        )
        for line in lines:
            reporter.write_line(line.text, **MARKUP[line.style])
        for text in further:
            reporter.write_line(text)

    def print_history(self) -> None:
        """Print what earlier sessions decided.

        Raises:
            pytest.UsageError: the history cannot be read, or a name does not stand in it.
        """
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return
        try:
            lines = history_lines(
                self._session.settings,
                self._session.cache_directory,
                reporter._tw.fullwidth,
                ascii_only=is_ascii_only(reporter),
            )
        except UserError as error:
            raise pytest.UsageError(str(error)) from None
        reporter.section("edge history", sep="=")
        for line in lines:
            reporter.write_line(line)

    def publish(
        self, ledger: Ledger, notes: Iterable[str], problems: Mapping[str, UserError]
    ) -> None:
        """Build the report, promote what may be promoted, and write every file that was asked for.

        A file that cannot be written is named in the summary, and fails no gate.

        Args:
            ledger: what was decided.
            notes: what the reader should know.
            problems: model name to why it could not be gated.
        """
        report = build_report(
            self._session,
            ledger,
            command=self._config.invocation_params.args,
            notes=(
                *host_warnings(self._session.host),
                *left_out(self._session),
                *signing_remarks(self._session.settings, self._signer),
                *notes,
            ),
            problems={name: str(error) for name, error in problems.items()},
        )
        if self._session.settings.promote is not None:
            report = self._promote(report, self._session.settings.promote)
        forgotten = remember(self._session, report, self._bundles)
        if forgotten:
            report = replace(report, notes=(*report.notes, forgotten))
        self._report = report
        settings = self._session.settings
        renderings = (
            (settings.json, lambda: render_json(report)),
            (settings.junit, lambda: render_junit(report, inconclusive=settings.inconclusive)),
        )
        for path, render in renderings:
            if path is not None:
                self._attempt(lambda path=path, render=render: write_atomically(path, render()))
        pictures = self._write_page(report, settings.html)
        if settings.markdown is not None:
            links = picture_links(pictures, settings.markdown.parent)
            self._attempt(
                lambda: write_markdown(render_markdown(report, links), settings.markdown, {})
            )
        # A summary of GitHub shows no file of the job, so it has no plots.
        if os.environ.get("GITHUB_STEP_SUMMARY"):
            self._attempt(lambda: write_markdown(render_markdown(report), None, os.environ))
        self._add_latencies(report)

    def _write_page(self, report: Report, path: Path | None) -> tuple[Picture, ...]:
        """Write the page where one is wanted, and return the plots beside it."""
        written: list[Picture] = []
        if path is not None:
            self._attempt(lambda: written.extend(write_page(report, path)))
        return tuple(written)

    def _attempt(self, write: Any) -> None:
        try:
            write()
        except EdgeAIError as error:
            self.errors.append(str(error))

    def _promote(self, report: Report, directory: Path) -> Report:
        models: list[ModelReport] = []
        report = unsigned_note(report, self._signer)
        for model in report.models:
            candidates: list[CandidateReport] = []
            for candidate in model.candidates:
                if candidate.promotion_blocked_by or candidate.artifact is None:
                    candidates.append(candidate)
                    continue
                promoted = replace(candidate, promoted=True)
                # What goes into a bundle names no directory of this machine.
                places = self._places(candidate.artifact, directory)
                shown, of = portable(promoted, places), portable(model, places)
                headed = portable(replace(report, models=()), places)
                texts = self._texts(headed, of, shown)
                try:
                    check_portable(texts, places)
                    shown = replace(shown, artifact=candidate.artifact)
                    certify, describe = bundle_makers(
                        self._session, headed, of, shown, self._signer
                    )
                    describe = checked(describe, places) if describe is not None else None
                    bundle = promote(shown, of, texts, directory, certify, describe)
                except EdgeAIError as error:
                    self.errors.append(f"{model.name} {candidate.id} was not promoted: {error}")
                    candidates.append(candidate)
                    continue
                candidates.append(promoted)
                self._bundles[candidate_key(model, promoted)] = bundle
                self._config.hook.pytest_edgeai_promote(
                    model=model.name, candidate=promoted, bundle=bundle
                )
            models.append(replace(model, candidates=tuple(candidates)))
        return replace(report, models=tuple(models))

    def _places(self, artifact: Artifact, directory: Path) -> Places:
        """Return the directories of this machine, to what stands for each in a bundle."""
        session = self._session
        return places_of(
            artifact=(artifact_root(artifact.path), "artifact"),
            evidence=(session.evidence_directory, f"evidence/{session.evidence_directory.name}"),
            cache=(session.cache_directory, "cache"),
            promoted=(directory, "promoted"),
            project=(session.manifest.directory, ""),
            invocation=(self._config.invocation_params.dir, ""),
            home=(Path.home(), "~"),
        )

    def _texts(
        self, report: Report, model: ModelReport, candidate: CandidateReport
    ) -> dict[str, str]:
        """Return the reports of one candidate alone, as they go into its bundle."""
        alone = replace(report, models=(replace(model, candidates=(candidate,)),))
        return {
            "report.json": render_json(alone),
            "report.md": render_markdown(alone),
            "junit.xml": render_junit(alone),
        }

    def _add_latencies(self, report: Report) -> None:
        """Hand the samples to pytest-benchmark, where the user asked it for something.

        Otherwise it would only print a wide table that repeats the one of the stages.
        """
        if not any(self._config.getoption(name, None) for name in BENCHMARK_OPTIONS):
            return
        evidence = EvidenceStore(report.evidence_directory)
        environments = environments_of(self._session, report)
        refused: list[str] = []
        for model in report.models:
            for candidate in model.candidates:
                arrays = evidence.read_arrays(f"{model.name}/{candidate.recipe.id}/timings")
                here = environments.get(candidate_key(model, candidate))
                if arrays is None or here is None:
                    continue
                for side in ("baseline", "candidate"):
                    name = f"{model.name}/{candidate.id}/{side}"
                    fullname = f"{self._session.manifest.path.name}::{name.replace('/', '::')}"
                    refused += drop_unlike(self._config, fullname, self._refusal(here))
                    add_latency(
                        self._config,
                        name=name,
                        # Its tables hold what may be compared, and nothing else.
                        group=f"{model.name} {here.label}",
                        fullname=fullname,
                        samples_ns=arrays[f"{side}_wall_ns"].astype(np.int64),
                        extra_info={
                            "target": candidate.target,
                            "side": side,
                            "environment": to_json(here),
                        },
                    )
        self._say_refused(tuple(dict.fromkeys(refused)))

    def _refusal(self, here: Environment) -> Callable[[JSON], str]:
        across = self._session.settings.across
        return lambda extra_info: stored_refusal(here, extra_info.get("environment"), across)

    def _say_refused(self, refused: tuple[str, ...]) -> None:
        """Name what pytest-benchmark would have compared; where that decides, it is an error."""
        advice = "measure both here, or compare across the difference with --edge-across"
        lines = [f"pytest-benchmark does not compare with {each}; {advice}" for each in refused]
        if self._config.getoption("benchmark_compare_fail", None):
            self.errors += lines
        else:
            self._refused += lines

    def _has_something_to_say(self, report: Report) -> bool:
        """Return whether a gate ran or could not run; tests of the user's own have no table."""
        candidates = [candidate for model in report.models for candidate in model.candidates]
        return bool(
            self.errors
            or any(model.problem for model in report.models)
            or any(candidate.verdicts or candidate.unavailable for candidate in candidates)
        )

    def print_summary(self, reporter: Any) -> None:
        """Print the table, and what could not be written."""
        if self._report is None or not self._has_something_to_say(self._report):
            return
        reporter.section("edge gates", sep="=")
        lines = render_terminal(
            self._report, reporter._tw.fullwidth, ascii_only=is_ascii_only(reporter)
        )
        for line in lines:
            reporter.write_line(line.text, **MARKUP[line.style])
        for text in self._refused:
            reporter.write_line(text, yellow=True)
        for error in self.errors:
            reporter.write_line(f"ERROR: {error}", red=True, bold=True)


def is_ascii_only(reporter: Any) -> bool:
    """Return whether the terminal cannot encode the signs that reports use."""
    encoding = getattr(reporter._tw._file, "encoding", None) or "ascii"
    try:
        "×≥≤→…".encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return True
    return False
