from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError
from pytest_edgeai.measure.metrics import accuracy
from pytest_edgeai.measure.quality import (
    check_label_fit,
    encode_labels,
    output_sanity,
    paired_quality,
    score,
    select_outputs,
)
from pytest_edgeai.records import OutputSanity

Array = NDArray[Any]
EYE = np.eye(3, dtype=np.float32)


def compared(baseline: Array, candidate: Array, labels: Array | None = None) -> OutputSanity:
    truth = np.arange(len(baseline)) % 3 if labels is None else labels
    outputs = {"y": baseline}, {"y": candidate}
    quality = paired_quality(accuracy, "accuracy", "proportion", *outputs, truth)
    return output_sanity(*outputs, quality)


@given(
    st.permutations(["ant", "bee", "cat"]),
    st.lists(st.sampled_from(["ant", "bee", "cat"]), min_size=1),
)
def test_class_names_give_column_numbers(classes: list[str], labels: list[str]) -> None:
    encoded, note = encode_labels(np.array(labels), tuple(classes), {"y": EYE})
    assert [classes[index] for index in encoded.tolist()] == labels
    assert note == ""


def test_sorted_order_is_assumed_aloud() -> None:
    encoded, note = encode_labels(np.array(["b", "c", "a"]), None, {"y": EYE})
    assert encoded.tolist() == [1, 2, 0]
    assert note.endswith("in sorted order: a, b, c")


def test_numbers_and_text_answers_stay_as_they_are() -> None:
    numbers = np.arange(3)
    assert encode_labels(numbers, ("a",), {"y": EYE})[0] is numbers
    text = np.array(["a", "b"])
    assert encode_labels(text, None, {"label": np.array(["a", "b"])})[0] is text


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (np.array(["a", "b"]), None, r"labels are strings \(2 distinct\) and nothing says"),
        (np.array(["a", "x"]), ("a", "b", "c"), 'label "x" is no class; allowed: a, b, c'),
    ],
    ids=["order", "unknown"],
)
def test_labels_whose_column_is_unknown(
    labels: Array, classes: tuple[str, ...] | None, expected: str
) -> None:
    with pytest.raises(ModelError, match=expected):
        encode_labels(labels, classes, {"y": EYE})
    with pytest.raises(ModelError, match=expected):
        check_label_fit(labels, classes, 3, answers_in_text=False)


def test_labels_are_not_judged_before_the_columns_are_known() -> None:
    labels = np.array(["a", "b"])
    check_label_fit(labels, None, None, answers_in_text=False)
    check_label_fit(labels, None, 3, answers_in_text=True)
    check_label_fit(np.arange(9), None, None, answers_in_text=False)
    with pytest.raises(ModelError, match=r"labels have shape \(2, 1\)"):
        check_label_fit(labels[:, None], None, None, answers_in_text=True)


def test_a_chosen_output_stands_alone() -> None:
    outputs = {"a": EYE, "b": EYE}
    assert list(select_outputs(outputs, "b")) == ["b"]
    assert select_outputs(outputs, None) is outputs
    with pytest.raises(ModelError, match='no output "c"; allowed: a, b'):
        select_outputs(outputs, "c")


def leave(outputs: object, labels: object) -> Array:
    raise SystemExit(3)


def fail(outputs: object, labels: object) -> Array:
    raise KeyError("x")


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (fail, "raised KeyError"),
        (leave, "raised SystemExit"),
        (
            lambda outputs, labels: np.zeros(2),
            r"returned shape \(2,\); allowed: one score per sample",
        ),
        (lambda outputs, labels: "x", "could not convert|returned"),
    ],
    ids=["raises", "exits", "shape", "text"],
)
def test_a_metric_that_gives_no_scores(metric: Any, expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        score(metric, "mine", {"y": EYE}, np.arange(3))


@pytest.mark.parametrize(
    ("kind", "value", "allowed"),
    [
        ("proportion", 0.5, "0 or 1"),
        ("proportion", np.nan, "0 or 1"),
        ("loss", -1.0, "a number, 0 or above"),
        ("loss", np.inf, "a number, 0 or above"),
    ],
)
def test_scores_outside_of_the_metrics_kind(kind: Any, value: float, allowed: str) -> None:
    def metric(outputs: object, labels: Array) -> Array:
        return np.array([0.0, value, 0.0])

    with pytest.raises(ModelError, match=f"for baseline sample 1; allowed: {allowed}"):
        paired_quality(metric, "mine", kind, {"y": EYE}, {"y": EYE}, np.arange(3))


def test_equal_outputs_are_sane() -> None:
    sanity = compared(EYE, EYE)
    assert sanity.samples == 3
    assert (sanity.contract_breaches, sanity.nan_outputs, sanity.inf_outputs) == ((), {}, {})
    assert (sanity.constant_outputs, sanity.collapsed_classes) == ((), ())
    assert sanity.class_support == {"0": 1, "1": 1, "2": 1}


def test_new_nan_and_infinity_count_and_old_ones_do_not() -> None:
    old, new = EYE.copy(), EYE.copy()
    old[0, 1] = new[0, 1] = np.nan
    new[1, 2] = np.nan
    new[2, 0] = new[2, 1] = -np.inf
    sanity = compared(old, new)
    assert sanity.nan_outputs == {"y": 1}
    assert sanity.inf_outputs == {"y": 2}


def test_a_class_whose_recall_falls_to_zero_has_collapsed() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    baseline = EYE[[0, 1, 1, 1, 0, 0]]
    candidate = EYE[[1, 1, 1, 1, 0, 0]]
    sanity = compared(baseline, candidate, labels)
    assert sanity.collapsed_classes == ("0",), "class 2 was never right, so that nothing was lost"
    assert sanity.class_support == {"0": 2, "1": 2, "2": 2}


def test_an_output_that_no_longer_varies() -> None:
    assert compared(EYE, np.tile(EYE[0], (3, 1))).constant_outputs == ("y",)


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        ({}, 'output "y" is missing'),
        ({"y": EYE, "z": EYE}, 'output "z" was not there before'),
        ({"y": EYE.astype(np.float16)}, 'output "y" was float32 and is float16'),
        ({"y": EYE[:, :2]}, 'output "y" had shape (3,) per sample and has (2,)'),
        ({"y": EYE[..., None]}, 'output "y" had shape (3,) per sample and has (3, 1)'),
    ],
    ids=["missing", "new", "dtype", "shape", "rank"],
)
def test_a_broken_contract(candidate: dict[str, Array], expected: str) -> None:
    quality = paired_quality(
        accuracy, "accuracy", "proportion", {"y": EYE}, {"y": EYE}, np.arange(3)
    )
    assert expected in output_sanity({"y": EYE}, candidate, quality).contract_breaches
