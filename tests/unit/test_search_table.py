"""The ``[search]`` table: what it may say, and one clear line for what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_edgeai import shipped
from pytest_edgeai.errors import UserError
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.search_records import DEFAULT_WEIGHTS
from pytest_edgeai.search_table import read_search
from pytest_edgeai.specification import Catalogue, Search
from pytest_edgeai.tables import Table

CATALOGUE = Catalogue(FRAMEWORKS, {}, {}, shipped.GATES)


def read(**values: Any) -> Search:
    return read_search(Table(values, "edgeai.toml [search]"), CATALOGUE)


def test_without_a_table_everything_has_its_default() -> None:
    search = read()
    assert search == Search(where="edgeai.toml [search]")
    assert search.weights == DEFAULT_WEIGHTS
    assert search.objective == "pareto"
    assert search.finalists == 3


def test_a_whole_table_is_read() -> None:
    search = read(
        time_box_s=60,
        storage="sqlite:///x.sqlite3",
        study="fleet-1",
        objective="speedup",
        finalists=5,
        weights={"speedup": 1, "energy_retained": 0.5},
        selection_share=0.3,
        frameworks=["openvino", "openvino", "onnxruntime"],
        space={"scheme": ["int8-static"], "per_channel": [True, False], "threads": [1, 2]},
        hints={"openvino": {"PERFORMANCE_HINT": ["LATENCY"]}},
    )
    assert search.time_box_s == 60.0
    assert search.frameworks == ("openvino", "onnxruntime")
    assert search.space["per_channel"] == (True, False)
    assert search.hints == {"openvino": {"PERFORMANCE_HINT": ("LATENCY",)}}
    assert search.weights == {"speedup": 1.0, "energy_retained": 0.5}


def test_a_value_that_equals_another_of_another_type_stays() -> None:
    assert read(space={"percentile": [1, True, 1]}).space["percentile"] == (1, True)


def test_a_variable_of_the_environment_holds_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIES", "postgresql+psycopg://me:hidden@db/studies")
    assert read(storage="$STUDIES").storage == "postgresql+psycopg://me:hidden@db/studies"
    assert read(storage="${STUDIES}") == read(storage="$STUDIES")
    monkeypatch.delenv("STUDIES")
    with pytest.raises(UserError, match="STUDIES is not set"):
        read(storage="$STUDIES")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"finalist": 3}, 'unknown key "finalist"; allowed: .*finalists'),
        ({"objective": "speed"}, 'unknown objective "speed".*Did you mean "speedup"'),
        ({"objective": 3}, "a number where a string is needed"),
        ({"time_box_s": float("nan")}, "nan is no number that can be used"),
        ({"time_box_s": 0}, "0 is no number that can be used"),
        ({"time_box_s": True}, "True is no number that can be used"),
        ({"time_box_s": "60"}, "'60' is no number that can be used"),
        ({"finalists": 0}, "0 is no number that can be used"),
        ({"selection_share": 1.0}, "above 0 and below 1"),
        ({"weights": {"speed": 1}}, 'unknown objective "speed"'),
        ({"weights": {"speedup": -1}}, "-1 is no weight"),
        ({"weights": {"speedup": float("inf")}}, "inf is no weight"),
        ({"weights": {"speedup": 0.0}}, "no objective has a weight"),
        ({"weights": 3}, "a number where a table is needed"),
        ({"storage": "studies.sqlite3"}, "is no URL of a database"),
        ({"study": "a b"}, '"a b" cannot name a study'),
        ({"frameworks": ["openvin"]}, 'unknown framework "openvin"'),
        ({"space": {"per_chanel": [True]}}, 'unknown dimension "per_chanel"'),
        ({"space": {"per_channel": True}}, "is no list of values"),
        ({"space": {"per_channel": []}}, "is no list of values"),
        ({"space": {"percentile": [float("nan")]}}, "is no list of values"),
        ({"space": {"op_types": [["Conv"]]}}, "is no list of values"),
        ({"space": {"scheme": ["int9"]}}, 'unknown scheme "int9"'),
        ({"space": {"scheme": ["convert"]}}, 'unknown scheme "convert"'),
        ({"space": {"threads": [0]}}, "0 is no number that can be used; allowed: .* 1 to 1024"),
        ({"space": {"batch": [1.5]}}, "1.5 is no number that can be used"),
        ({"hints": {"torch": {}}}, 'unknown framework "torch"'),
        ({"hints": {"openvino": {"PERFORMANCE_HINT": "LATENCY"}}}, "where a list of strings"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_place(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read(**values)
    assert str(caught.value).startswith("edgeai.toml [search")
    assert "\n" not in str(caught.value)


def test_a_storage_that_is_no_url_is_not_repeated() -> None:
    with pytest.raises(UserError) as caught:
        read(storage="me:hidden@db")
    assert "hidden" not in str(caught.value)
