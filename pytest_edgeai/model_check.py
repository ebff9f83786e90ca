"""Can a model and its data be used here? What their files tell before anything is run."""

from __future__ import annotations

from pytest_edgeai.assess.model import read_model
from pytest_edgeai.descriptors import MetricDescriptor
from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.measure.dataset import check_npz_header
from pytest_edgeai.measure.headers import check_npz_arrays
from pytest_edgeai.measure.tokens import check_text
from pytest_edgeai.measure.traffic import check_traffic
from pytest_edgeai.records import HostFacts, ModelFacts
from pytest_edgeai.specification import TEXT_SUFFIX, ModelSpec
from pytest_edgeai.tasks import GENERATION_TASKS


def check_model(model: ModelSpec, host: HostFacts, metric: MetricDescriptor | None) -> ModelFacts:
    """Read a model's structure and its data's headers.

    Args:
        model: its table of the manifest.
        host: this machine.
        metric: of the model; ``None`` where it is the user's own, which is not imported here.

    Raises:
        ModelError: the model or its data cannot be used here; names the manifest's key.
    """
    try:
        facts = read_model(model.path, with_hash=False)
    except UserError as error:
        raise ModelError(
            f'"{model.path.name}": {error.what}',
            where=f"{model.where} path",
            allowed=error.allowed,
            advice=error.advice,
        ) from None
    if host.memory_bytes is not None and facts.size_bytes > host.memory_bytes:
        raise ModelError(
            f'"{model.path.name}" has {facts.size_bytes / 2**30:.1f} GiB of weights, and this '
            f"machine {host.memory_bytes / 2**30:.1f} GiB of memory",
            where=f"{model.where} path",
            advice="Gate it on a machine with more memory",
        )
    for source in model.sources:
        if source.path is None:
            continue
        if source.path.suffix == TEXT_SUFFIX:
            check_text(source)
        else:
            check_npz_header(source)
    if model.task not in GENERATION_TASKS:
        check_npz_arrays(
            model.data,
            facts.inputs,
            needs_labels=metric is not None and metric.kind != "embedding",
            slices=model.slices,
            needs_slices=True,
        )
        check_npz_arrays(model.calibration, facts.inputs, slices=model.slices)
        check_traffic(model.traffic, facts.inputs, slices=model.slices)
    return facts
