"""Recorded requests and training samples of a model, each read once, before anything is made."""

from __future__ import annotations

from pytest_edgeai.measure.dataset import Dataset, load_dataset
from pytest_edgeai.measure.overlap import check_overlap
from pytest_edgeai.measure.traffic import Traffic, load_traffic
from pytest_edgeai.specification import DataSource
from pytest_edgeai.workbench import Workbench

SHADOW = "shadow"
MEMBERSHIP_INFERENCE = "membership_inference"


def traffic_of(bench: Workbench, name: str, source: DataSource) -> Traffic:
    """Return the recorded requests of a model that is fed with arrays.

    Raises:
        ModelError: they do not fit the model, or are its calibration samples.
    """
    model = bench.model(name)
    return bench.once(
        ("traffic", name),
        lambda: load_traffic(
            source,
            model.facts.inputs,
            directory=bench.session.manifest.directory,
            calibration=model.calibration,
            slices=model.spec.slices,
        ),
    )


def members_of(bench: Workbench, name: str, source: DataSource) -> Dataset:
    """Return samples that a model was trained on.

    Raises:
        ModelError: they do not fit the model, or are its evaluation samples.
    """

    def read() -> Dataset:
        model = bench.model(name)
        members = load_dataset(
            source,
            model.facts.inputs,
            directory=bench.session.manifest.directory,
            needs_labels=True,
            slices=model.spec.slices,
        )
        check_overlap(model.evaluation, members, "member")
        return members

    return bench.once(("members", name), read)


def check_recordings(bench: Workbench, name: str) -> None:
    """Read what the gates of production will be fed with, where a candidate of a model meets them.

    Raises:
        ModelError: the manifest names data that does not fit.
    """
    model = bench.model(name)
    if model.language is not None:
        return
    met = {
        gate
        for candidate in bench.session.candidates
        if candidate.model.name == name and not candidate.unavailable
        for gate in bench.session.gates_of(candidate)
        if bench.session.catalogue.gates[gate].judges(model.spec.task)
    }
    if SHADOW in met and model.spec.traffic is not None:
        traffic_of(bench, name, model.spec.traffic)
    has_labels = model.evaluation.labels is not None
    if MEMBERSHIP_INFERENCE in met and model.spec.members is not None and has_labels:
        members_of(bench, name, model.spec.members)
