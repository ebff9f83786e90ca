"""The gate ``membership_inference``: training samples and others, put to both models."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError, NotCertified
from pytest_edgeai.gate_selection import RELEASE
from pytest_edgeai.judge.membership_inference import GATE, judge_membership_inference
from pytest_edgeai.measure.bench import LoadedRunnable, Samples
from pytest_edgeai.measure.dataset import Dataset, batching, stage_arrays
from pytest_edgeai.measure.membership import (
    attack_scores,
    chosen_samples,
    holds_probabilities,
    negated_losses,
)
from pytest_edgeai.measure.metrics import check_labels, class_output
from pytest_edgeai.measure.quality import encode_labels, score, select_outputs
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.preparation import PreparedModel
from pytest_edgeai.privacy_records import MembershipScores
from pytest_edgeai.recordings import members_of
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.tasks import CLASSIFICATION_TASKS
from pytest_edgeai.workbench import Workbench, place, title

SIDES = ("baseline", "candidate")
CI_BUDGET_S = 10.0
"""How long the samples may take on both models under ``--edge-profile=ci``."""
FEWEST_SAMPLES = 200
"""Members, and others, that are taken however long they take, where there are as many."""
FIRST_CALLS = 3
SEED = 0


@dataclass(frozen=True, eq=False)
class _Group:
    """Members or others: the chosen samples, staged, with their labels."""

    name: str
    samples: Samples
    labels: NDArray[Any]


def decide_membership_inference(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """The attack's AUC on candidate and baseline, from the same members and others."""
    key = (GATE, candidate.model.name, candidate.comparison)
    return judge_membership_inference(
        bench.once(key, lambda: _measure(bench, candidate)), threshold
    )


def _measure(bench: Workbench, candidate: PlannedCandidate) -> list[MembershipScores]:
    model = bench.model(candidate.model.name)
    members = _members(bench, candidate, model)
    bench.check_loadable(candidate)
    bench.artifact(candidate)
    name = place(candidate, GATE)
    with bench.heavy(title(candidate)):
        kept = bench.evidence.read_arrays(name)
        if kept is not None:
            return _attacks(kept)
        loaded = (bench.loaded_baseline(candidate), bench.loaded_candidate(candidate))
        folder = bench.scratch / candidate.model.name / GATE / candidate.comparison
        try:
            wanted = _wanted(bench, model, loaded)
            groups = [
                _group("members", members, model, wanted, folder),
                _group("others", model.evaluation, model, wanted, folder),
            ]
            arrays = _run(bench, candidate, model, groups, loaded, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    bench.evidence.write_arrays(name, arrays)
    return _attacks(arrays)


def _members(bench: Workbench, candidate: PlannedCandidate, model: PreparedModel) -> Dataset:
    """Return the training samples.

    Raises:
        ModelError: they do not fit the model, or are evaluation samples.
        NotCertified: the manifest names none, or the evaluation data has no labels.
    """
    source = model.spec.members
    if source is None:
        raise NotCertified(
            f'{model.spec.where} has no "members"',
            advice='name samples that it was trained on: members = "train.npz"',
        )
    if model.evaluation.labels is None:
        raise NotCertified("the evaluation data has no labels, and the attack reads the loss")
    bench.progress.step(title(candidate), "reading the members")
    return members_of(bench, candidate.model.name, source)


def _wanted(
    bench: Workbench, model: PreparedModel, loaded: tuple[LoadedRunnable, LoadedRunnable]
) -> int:
    """Return how many members, and others, the profile has time for."""
    if bench.session.settings.profile == RELEASE:
        return model.evaluation.samples + 2**31
    call_ns = sum(int(side.time_calls(FIRST_CALLS).wall_ns.min()) for side in loaded)
    each_s = call_ns / 1e9 / model.samples.batching.samples_per_call
    budget_s = min(CI_BUDGET_S, bench.session.settings.budget)
    return max(FEWEST_SAMPLES, int(budget_s / (2 * each_s)))


def _group(name: str, dataset: Dataset, model: PreparedModel, wanted: int, folder: Path) -> _Group:
    chosen = chosen_samples(dataset.samples, wanted, SEED)
    arrays = {key: array[chosen] for key, array in dataset.arrays.items()}
    plan = batching(dataset, model.facts.inputs, open_batch=model.spec.batch)
    labels = dataset.labels
    assert labels is not None
    staged = stage_arrays(arrays, folder / name)
    return _Group(name, Samples(staged, len(chosen), plan), labels[chosen])


def _run(
    bench: Workbench,
    candidate: PlannedCandidate,
    model: PreparedModel,
    groups: list[_Group],
    loaded: tuple[LoadedRunnable, LoadedRunnable],
    folder: Path,
) -> dict[str, NDArray[Any]]:
    """Return ``attack/side/group`` to scores, as the evidence keeps them."""
    arrays: dict[str, NDArray[Any]] = {}
    for side, runnable in zip(SIDES, loaded, strict=True):
        are_probabilities: bool | None = None
        for group in groups:
            what = f"asking the {side} about {group.samples.count} {group.name}"
            outputs = _evaluate(bench, title(candidate), what, runnable, group, folder / side)
            chosen = select_outputs(outputs, model.spec.output)
            try:
                if are_probabilities is None:
                    are_probabilities = _are_probabilities(chosen, group.labels, model)
                found = _scores(chosen, group.labels, model, are_probabilities)
            except ModelError as error:
                raise ModelError(
                    error.what,
                    where=f"the attack on the {side}",
                    allowed=error.allowed,
                    advice=error.advice,
                ) from None
            for attack, scores in found.items():
                arrays[f"{attack}/{side}/{group.name}"] = scores
    return arrays


def _evaluate(
    bench: Workbench,
    subject: str,
    what: str,
    runnable: LoadedRunnable,
    group: _Group,
    folder: Path,
) -> dict[str, NDArray[Any]]:
    outputs, _ = runnable.evaluate(
        folder / group.name,
        lambda _, done: bench.progress.step(subject, what, done),
        group.samples,
    )
    return outputs


def _are_probabilities(
    outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any], model: PreparedModel
) -> bool:
    """Return whether a classifier answers with probabilities and not with logits.

    Raises:
        NotCertified: it answers with neither.
    """
    if model.spec.task not in CLASSIFICATION_TASKS:
        return False
    figures = outputs[class_output(outputs, labels)]
    if figures.ndim != 2:
        raise NotCertified("the model answers with a class, and the attack needs its probabilities")
    return holds_probabilities(figures.astype(np.float64))


def _scores(
    outputs: Mapping[str, NDArray[Any]],
    labels: NDArray[Any],
    model: PreparedModel,
    are_probabilities: bool,
) -> Mapping[str, NDArray[np.float64]]:
    encoded, _ = encode_labels(labels, model.spec.classes or model.evaluation.classes, outputs)
    if model.spec.task in CLASSIFICATION_TASKS:
        check_labels(encoded, outputs[class_output(outputs, encoded)].shape[1])
        return attack_scores(outputs, encoded, are_probabilities=are_probabilities)
    if model.metric is None or model.metric_kind != "loss":
        raise NotCertified(
            f'the metric "{model.metric_name}" gives no loss per sample, which the attack reads'
        )
    return negated_losses(score(model.metric, model.metric_name, outputs, encoded))


def _attacks(arrays: Mapping[str, NDArray[Any]]) -> list[MembershipScores]:
    """Return the scores by attack, of what the evidence keeps."""
    attacks = dict.fromkeys(key.split("/")[0] for key in arrays)
    return [
        MembershipScores(
            attack,
            members={side: arrays[f"{attack}/{side}/members"] for side in SIDES},
            others={side: arrays[f"{attack}/{side}/others"] for side in SIDES},
        )
        for attack in attacks
    ]
