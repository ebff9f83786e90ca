"""The space of a search: what it holds, how large it is, and that names are stable."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_parts import CHAT, IMAGES, chat_facts, classifier_facts

from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS, ONNXRUNTIME, OPENVINO
from pytest_edgeai.plan.search_space import (
    VALUES,
    Point,
    SearchSpace,
    SpaceFacts,
    default_choices,
    label,
    same,
    search_space,
)
from pytest_edgeai.records import JSON, Recipe
from pytest_edgeai.specification import Search

HERE = SpaceFacts(task=IMAGES, calibration_calls=200, saturates=False, threads=1)


def space(search: Search = Search(), about: SpaceFacts = HERE) -> SearchSpace:  # noqa: B008
    return search_space(classifier_facts(), [ONNXRUNTIME, OPENVINO], about, search)


def static(**values: tuple[JSON, ...]) -> Search:
    return Search(space={"scheme": ("int8-static",), **values}, hints={"onnxruntime": {}})


def test_every_point_is_counted_and_is_another_recipe() -> None:
    whole = space()
    points = [whole.point(branch, choice) for branch, choice in whole.points()]
    assert len(points) == whole.size == len({point.key for point in points})
    assert whole.frameworks == ("onnxruntime", "openvino")
    assert {point.recipe.framework for point in points} == set(whole.frameworks)


def test_every_value_is_an_option_that_the_scheme_takes() -> None:
    for (framework, scheme), values in VALUES.items():
        known = FRAMEWORKS[framework].options[scheme]
        assert set(values) <= set(known), (framework, scheme)


def test_the_default_of_a_scheme_leaves_no_trace() -> None:
    whole = space()
    for branch, choice in default_choices(whole, classifier_facts(), calibrated=True):
        point = whole.point(branch, choice)
        assert not point.recipe.options
        assert not point.hints
        assert label(point, threads=1) == ""


def test_a_search_begins_with_what_the_plan_would_take() -> None:
    first, _ = default_choices(space(), classifier_facts(), calibrated=True)[0]
    assert (first.framework, first.scheme) == ("onnxruntime", "int8-static")


def test_a_transformer_keeps_the_options_of_its_plan() -> None:
    facts = classifier_facts(architecture="transformer")
    whole = search_space(facts, [OPENVINO], HERE, Search())
    branch = whole.branch("openvino", "int8-static")
    assert branch.dimensions["preset"][0] == "mixed"
    choice = {name: values[0] for name, values in branch.dimensions.items()}
    assert whole.point(branch, choice).recipe.options == {"model_type": "transformer"}


def test_without_calibration_data_nothing_needs_any() -> None:
    whole = space(about=replace(HERE, calibration_calls=None))
    assert "int8-static" not in {branch.scheme for branch in whole.branches}


def test_a_host_whose_products_saturate_has_one_dimension_more() -> None:
    def names(about: SpaceFacts) -> set[str]:
        return set(space(about=about).branch("onnxruntime", "int8-static").dimensions)

    assert names(replace(HERE, saturates=True)) - names(HERE) == {"reduce_range"}


def test_language_models_have_their_weights_compressed_alone() -> None:
    whole = search_space(chat_facts(), [OPENVINO], replace(HERE, task=CHAT), Search())
    assert whole.schemes("openvino") == ("int8-weights", "int4-weights")
    assert whole.branch("openvino", "int4-weights").dimensions["ratio"] == (1.0, 0.8, 0.6)


def test_the_table_narrows_and_widens() -> None:
    whole = space(static(per_channel=(False,), percentile=(99.9, 99.99), threads=(1, 2)))
    branch = whole.branch("onnxruntime", "int8-static")
    assert branch.dimensions["per_channel"] == (False,)
    assert branch.dimensions["percentile"] == (99.9, 99.99)
    points = [whole.point(*each) for each in whole.points()]
    ours = [point for point in points if point.recipe.framework == "onnxruntime"]
    assert {point.recipe.options["per_channel"] for point in ours} == {False}
    assert {point.threads for point in points} == {1, 2}


@pytest.mark.parametrize(("calls", "sizes"), [(200, (200, 50)), (2000, (300, 75)), (20, (20,))])
def test_calibration_sizes_differ_where_there_is_enough(calls: int, sizes: tuple[int, ...]) -> None:
    branch = space(about=replace(HERE, calibration_calls=calls)).branch(
        "onnxruntime", "int8-static"
    )
    assert branch.dimensions.get("calibration_calls", (calls,)) == sizes


def test_nothing_to_search_has_no_branch() -> None:
    assert space(Search(space={"scheme": ("q4_0",)})).size == 0


options = st.dictionaries(
    st.sampled_from(("per_channel", "ratio", "mode")),
    st.one_of(st.booleans(), st.integers(0, 1), st.floats(0, 1), st.text(max_size=4)),
)


@given(options, options, st.sampled_from((1, 2)), st.sampled_from((1, 2)))
def test_points_are_told_apart_by_what_they_are(
    one: dict[str, JSON], other: dict[str, JSON], threads: int, others: int
) -> None:
    a, b = Point(Recipe("x", "s", one), threads), Point(Recipe("x", "s", other), others)
    equal = (
        threads == others
        and one.keys() == other.keys()
        and all(same(one[key], other[key]) and type(one[key]) is type(other[key]) for key in one)
    )
    if equal:
        assert a.key == b.key
    elif one != other or threads != others:
        assert a.key != b.key
    for point in (a, b):
        assert re.fullmatch(r"(s[0-9a-f]{8})?", label(point, threads=1))
