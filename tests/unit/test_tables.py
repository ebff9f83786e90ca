from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.tables import Table, read_toml


def table(text: str, where: str = "edgeai.toml") -> Table:
    return Table(tomllib.loads(text), where)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_table_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.mktemp("toml") / "edgeai.toml"
    path.write_bytes(raw)
    answer: object
    try:
        answer = read_toml(path)
    except UserError as error:
        answer = str(error)
    assert isinstance(answer, dict) or (str(path) in str(answer) and "\n" not in str(answer))


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfkey = 1\n")
    assert read_toml(tmp_path / "a.toml") == {"key": 1}


def test_missing_files_and_directories(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_toml(tmp_path / "a.toml")
    with pytest.raises(UserError, match="is a directory; allowed: a TOML file"):
        read_toml(tmp_path)


@pytest.mark.parametrize(
    ("where", "key", "place", "places"),
    [
        ("edgeai.toml", "gates", "edgeai.toml [gates]", "edgeai.toml [[gates]]"),
        (
            "edgeai.toml [models.m]",
            "gates",
            "edgeai.toml [models.m.gates]",
            "edgeai.toml [[models.m.gates]]",
        ),
    ],
    ids=["file", "table"],
)
def test_places_read_as_toml_has_them(where: str, key: str, place: str, places: str) -> None:
    assert Table({}, where).place(key) == place
    assert Table({}, where).table(key).where == place
    assert Table({}, where).table_name(key) == places


def test_the_first_unknown_key_is_named() -> None:
    with pytest.raises(UserError) as caught:
        table("data = 1\ndatta = 2").refuse_unknown(("data", "path"))
    assert caught.value.what == 'unknown key "datta"'
    assert caught.value.allowed == "data, path"
    assert '"data"' in caught.value.advice


@given(st.integers(), st.integers(1, 10**6))
def test_counts_run_from_one_to_the_most(value: int, most: int) -> None:
    wrapped = Table({"n": value}, "here")
    if 1 <= value <= most:
        assert wrapped.count("n", most=most) == value
    else:
        with pytest.raises(UserError, match="allowed: a whole number from 1 to"):
            wrapped.count("n", most=most)


@pytest.mark.parametrize("value", ["true", "1.0", '"1"', "nan", "[1]", "{}"])
def test_counts_are_integers(value: str) -> None:
    with pytest.raises(UserError):
        table(f"n = {value}").count("n", most=10)


def test_absent_keys() -> None:
    empty = table("")
    assert empty.text("x") is None
    assert empty.text("x", default="y") == "y"
    assert empty.texts("x") is None
    assert empty.count("x", most=2) is None
    assert empty.tables("x") is None
    assert list(empty.table("x")) == []
    with pytest.raises(UserError, match='"x" is missing'):
        empty.text("x", required=True)


@pytest.mark.parametrize("value", ["1", "true", '""', '"  "', "[]", "{}", "1979-05-27"])
def test_strings_are_not_empty(value: str) -> None:
    with pytest.raises(UserError, match="where a string is needed"):
        table(f"x = {value}").text("x")


@pytest.mark.parametrize("value", ['"a"', "[]", "[1]", '["a", ""]', "{}"])
def test_lists_of_strings(value: str) -> None:
    with pytest.raises(UserError, match="where a list of strings is needed"):
        table(f"x = {value}").texts("x")


def test_mistakes_are_of_the_tables_kind() -> None:
    with pytest.raises(ModelError):
        Table(3, "here", error=ModelError)
    inner = Table({"a": {"b": 1}}, "here", error=ModelError).table("a")
    with pytest.raises(ModelError, match=r"here \[a\] b"):
        inner.text("b")
