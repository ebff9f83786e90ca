"""The gate ``bundle_privacy``: no sample and no path of this machine in what is promoted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pytest_edgeai.judge.findings import judge_findings
from pytest_edgeai.measure.dataset import load_dataset
from pytest_edgeai.measure.private_content import (
    SMALLEST_SAMPLE_BYTES,
    find_places_in_file,
    find_samples,
    index_samples,
)
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.preparation import PreparedModel
from pytest_edgeai.production_records import Finding, Inspection
from pytest_edgeai.records import Artifact, Threshold, Verdict, artifact_root
from pytest_edgeai.workbench import Workbench, place, title

GATE = "bundle_privacy"
MOST_NAMED = 5
"""Samples and paths that are named of one file."""


def decide_bundle_privacy(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Every file of the artifact, looked through for samples and for paths."""
    artifact = bench.artifact(candidate)
    model = bench.model(candidate.model.name)
    seen = bench.once(
        (GATE, model.spec.name, artifact.sha256),
        lambda: _inspect(bench, title(candidate), model, artifact),
    )
    bench.evidence.write_record(place(candidate, GATE), seen)
    return judge_findings(
        GATE,
        seen,
        threshold,
        advice="make it again without the samples, and from a folder whose name may be known",
        unread_advice="check the permissions of the artifact's files",
    )


def _inspect(
    bench: Workbench, subject: str, model: PreparedModel, artifact: Artifact
) -> Inspection:
    bench.progress.step(subject, "looking for samples and paths in its files")
    index = index_samples(_data(bench, model))
    session = bench.session
    directories = (
        session.manifest.directory,
        session.cache_directory,
        session.evidence_directory,
        Path.home(),
    )
    places = tuple(dict.fromkeys(str(each.absolute()) for each in directories))
    root = artifact_root(artifact.path)
    findings: list[Finding] = []
    unread: list[str] = []
    for file in artifact.files:
        name = file.relative_to(root).as_posix()
        try:
            samples = find_samples(file, index)
            paths = find_places_in_file(file, tuple(p for p in places if len(Path(p).parts) > 1))
        except OSError as error:
            unread.append(f"{name} cannot be read ({error.strerror or error})")
            continue
        findings += [Finding("sample", name, f"holds {sample}") for sample in samples[:MOST_NAMED]]
        if len(samples) > MOST_NAMED:
            more = len(samples) - MOST_NAMED
            findings.append(Finding("sample", name, f"holds {more} samples more"))
        findings += [Finding("path", name, f"names {path}") for path in paths[:MOST_NAMED]]
    noted = f"{len(index.words)} rows of samples of {SMALLEST_SAMPLE_BYTES} bytes and more"
    return Inspection(
        len(artifact.files), "file", tuple(findings), tuple(unread), notes=(f"looked for {noted}",)
    )


def _data(bench: Workbench, model: PreparedModel) -> dict[str, Mapping[str, NDArray[Any]]]:
    """Return the arrays that must not be found, by what they are."""
    data = {"evaluation": model.evaluation.arrays}
    if model.calibration is not None:
        data["calibration"] = model.calibration.arrays
    if model.spec.members is not None and model.language is None:
        members = load_dataset(
            model.spec.members,
            model.facts.inputs,
            directory=bench.session.manifest.directory,
            needs_labels=False,
            slices=model.spec.slices,
        )
        data["member"] = members.arrays
    return data
