"""Embeddings of two models on the same samples: their angle, and which neighbors they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.records import PairedQuality

RECALL_NEIGHBORS = "recall_neighbors"
"""Key of the ``[gates]`` table that sets k of recall@k."""
DEFAULT_NEIGHBORS = 10
MOST_COMPARED = 10_000
"""Samples among which neighbors are sought: the first ones; the time grows with their square."""

_CHUNK = 512

Outputs: TypeAlias = Mapping[str, NDArray[Any]]
FloatArray: TypeAlias = NDArray[np.float64]


def embedding(outputs: Outputs, labels: NDArray[Any] | None) -> NDArray[Any]:
    """Return the embedding of each sample: the only float output that can be one.

    That is the only one of shape ``(samples, features)``, or else the only float output, whose
    other axes are taken for features.

    Raises:
        ModelError: none or several fit.
    """
    floats = {
        name: array
        for name, array in outputs.items()
        if array.dtype.kind == "f" and array.ndim > 1 and array[0].size > 1
    }
    flat = {name: array for name, array in floats.items() if array.ndim == 2}
    found = flat or floats
    if len(found) != 1:
        shapes = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in outputs.items())
        raise ModelError(
            f"{'several outputs' if found else 'no output'} could be the embedding ({shapes})",
            allowed='one float output of shape (samples, features), or output = "NAME"',
        )
    only = next(iter(found.values()))
    return only.reshape(len(only), -1)


def embedding_quality(
    metric: Callable[..., Any],
    name: str,
    baseline: Outputs,
    candidate: Outputs,
    labels: NDArray[Any] | None,
    *,
    neighbors: int = DEFAULT_NEIGHBORS,
    slices: Mapping[str, NDArray[Any]] | None = None,
) -> PairedQuality:
    """Compare the embeddings of both models, sample by sample.

    Args:
        metric: called with ``(outputs, labels)``; returns shape ``(samples, features)``.
        name: for errors.
        baseline: output name to array; each float output is compared beside the embedding.
        candidate: likewise.
        labels: the group of each sample, shape ``(samples,)``; samples of one group are relevant to
            each other. ``None`` where there are none.
        neighbors: k of recall@k.
        slices: what divides the samples.

    Raises:
        ModelError: the metric raised or returned something else, or the baseline's embedding of a
            sample is not finite or has no direction.
    """
    vectors = [_vectors(metric, name, outputs, labels) for outputs in (baseline, candidate)]
    if vectors[0].shape != vectors[1].shape:
        raise ModelError(
            f'metric "{name}" gives the baseline {vectors[0].shape[1]} features and the candidate '
            f"{vectors[1].shape[1]}",
            allowed="embeddings of one size",
        )
    _check_baseline(vectors[0], name)
    cosines = {name: _cosines(*vectors)}
    for output, array in baseline.items():
        other = candidate.get(output)
        if array.dtype.kind != "f" or other is None or other.shape != array.shape:
            continue
        pair = [a.reshape(len(a), -1).astype(np.float64) for a in (array, other)]
        same = pair[0].shape == vectors[0].shape and np.array_equal(pair[0], vectors[0])
        if pair[0].shape[1] > 1 and not same:
            cosines[output] = _cosines(*pair)
    directions = [_directions(side) for side in vectors]
    divisions = dict(slices or {})
    if labels is not None:
        check_groups(labels)
    kept, hits = _neighbors(directions[0], directions[1], labels, neighbors)
    parts = None
    if labels is not None:
        rows = np.flatnonzero(hits[2])
        parts = PairedQuality(
            f"recall@{neighbors}",
            "proportion",
            hits[0][rows].astype(np.float64),
            hits[1][rows].astype(np.float64),
            None,
            {key: array[rows] for key, array in divisions.items()},
        )
    return PairedQuality(
        name, "embedding", np.ones(len(kept)), kept, None, divisions, cosines=cosines, parts=parts
    )


def _vectors(
    metric: Callable[..., Any], name: str, outputs: Outputs, labels: NDArray[Any] | None
) -> FloatArray:
    try:
        found = np.asarray(metric(outputs, labels), dtype=np.float64)
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f'metric "{name}" raised {type(error).__name__}: {error}') from error
    samples = len(next(iter(outputs.values())))
    if found.ndim != 2 or len(found) != samples or found.shape[1] < 2:
        raise ModelError(
            f'metric "{name}" returned shape {found.shape}',
            allowed=f"one embedding per sample: ({samples}, features), at least two of them",
        )
    return found


def _check_baseline(vectors: FloatArray, name: str) -> None:
    broken = ~np.isfinite(vectors).all(axis=1)
    empty = ~broken & ~vectors.any(axis=1)
    for where, what in ((broken, "is not finite"), (empty, "is a zero vector")):
        if where.any():
            raise ModelError(
                f'the baseline\'s embedding of sample {int(np.argmax(where))} {what} ("{name}"; '
                f"{int(where.sum())} such samples)",
                allowed="finite numbers, not all of them 0",
            )


def check_groups(labels: NDArray[Any]) -> None:
    """Check that labels are group ids.

    Raises:
        ModelError: wrong shape or dtype, or no two samples of one group among those that are
            compared.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iuUT":
        raise ModelError(
            f"labels are {labels.dtype} of shape {labels.shape}",
            allowed="the group of each sample, integers or strings, or no labels at all",
        )
    compared = labels[:MOST_COMPARED]
    if len(np.unique(compared)) == len(compared):
        among = f" among the first {MOST_COMPARED} samples" if len(labels) > MOST_COMPARED else ""
        raise ModelError(
            f"no label occurs twice{among}, so that no sample has a relevant one",
            allowed="the group of each sample, or no labels at all",
            advice="Leave the labels out or group them",
        )


def has_relevant(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each sample has another one of its group, among the `MOST_COMPARED` first.

    Args:
        labels: the group of each sample, shape ``(samples,)``.
    """
    _, groups = np.unique(labels[:MOST_COMPARED], return_inverse=True)
    found = np.zeros(len(labels), dtype=np.bool_)
    found[:MOST_COMPARED] = np.bincount(groups)[groups] > 1
    return found


def check_neighbors(neighbors: int, samples: int, where: str) -> None:
    """Check that k of recall@k leaves something out: with every sample a neighbor, all is found.

    Args:
        neighbors: k, as somebody stated it.
        samples: evaluation samples.
        where: the manifest's key, for the error.

    Raises:
        ModelError: k is not below the number of samples that are compared, less the query itself.
    """
    compared = min(samples, MOST_COMPARED)
    most = compared - 2
    if neighbors <= most:
        return
    among = f", of which the first {compared} are compared" if samples > compared else ""
    raise ModelError(
        f"{neighbors} neighbors, and the evaluation data has {samples} samples{among}; "
        "every other sample would be a neighbor",
        where=where,
        allowed=f"1 to {most}" if most > 0 else "no value: 3 samples or more are needed",
    )


def _directions(vectors: FloatArray) -> FloatArray:
    """Return vectors of length 1; zero vectors where there is no direction or no number."""
    finite = np.where(np.isfinite(vectors).all(axis=1, keepdims=True), vectors, 0.0)
    # Divided by their largest element first, so that no square overflows or vanishes.
    largest = np.abs(finite).max(axis=1, keepdims=True)
    scaled = np.divide(finite, largest, out=np.zeros_like(finite), where=largest > 0)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    unit: FloatArray = np.divide(scaled, length, out=scaled, where=length > 0)
    return unit


def _cosines(baseline: FloatArray, candidate: FloatArray) -> FloatArray:
    """Cosine of each pair; 1 where both have no direction, 0 where one has none."""
    one, other = _directions(baseline), _directions(candidate)
    neither = ~one.any(axis=1) & ~other.any(axis=1) & np.isfinite(candidate).all(axis=1)
    return np.where(neither, 1.0, np.clip(np.einsum("ij,ij->i", one, other), -1.0, 1.0))


def _neighbors(
    baseline: FloatArray, candidate: FloatArray, labels: NDArray[Any] | None, count: int
) -> tuple[FloatArray, tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return what is kept of each sample's neighbors, and recall@k of both models.

    Returns:
        share of the baseline's nearest that the candidate has too, shape ``(samples,)``; whether
        one of each model's nearest is of the sample's group, and whether any other sample is.
        Samples beyond the first `MOST_COMPARED` have no query and keep 1.
    """
    compared = min(len(baseline), MOST_COMPARED)
    count = min(count, compared - 1)
    groups = np.zeros(compared, np.int64)
    if labels is not None:
        _, groups = np.unique(labels[:compared], return_inverse=True)
    kept = np.ones(len(baseline))
    hits = [np.zeros(len(baseline), dtype=np.bool_) for _ in range(2)]
    if count < 1:
        return kept, (hits[0], hits[1], np.zeros(len(baseline), dtype=np.bool_))
    sides = baseline[:compared], candidate[:compared]
    for start in range(0, compared, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, compared))
        nearest = []
        for side in sides:
            similar = side[rows] @ side.T
            similar[rows - start, rows] = -np.inf
            nearest.append(np.argpartition(-similar, count - 1, axis=1)[:, :count])
        shared = (nearest[0][:, :, np.newaxis] == nearest[1][:, np.newaxis, :]).any(axis=2)
        kept[rows] = shared.mean(axis=1)
        for number, chosen in enumerate(nearest):
            hits[number][rows] = (groups[chosen] == groups[rows, np.newaxis]).any(axis=1)
    relevant = has_relevant(np.zeros(len(baseline), np.int64) if labels is None else labels)
    return kept, (hits[0], hits[1], relevant)
