from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.configuration import Settings, check_manifest_settings, describe_origins, resolve
from pytest_edgeai.errors import UserError
from pytest_edgeai.settings import OPTIONS

HERE = Path("/project/below")
MANIFEST = Path("/project/edgeai.toml")


def resolved(
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    manifest: Mapping[str, Any] | None = None,
    path: Path = MANIFEST,
) -> Settings:
    return resolve(
        flags or {},
        environment or {},
        manifest or {},
        manifest_path=path,
        invocation_directory=HERE,
    )


def test_defaults_have_no_origin_worth_telling() -> None:
    settings = resolved()
    assert set(settings.origins.values()) == {"default"}
    assert describe_origins(settings) == {}
    assert settings.framework == ("primary",)
    assert settings.threshold == {}


def test_every_option_has_a_setting() -> None:
    settings = resolved()
    for option in OPTIONS:
        assert hasattr(settings, option.name)


def test_command_line_over_environment_over_manifest() -> None:
    manifest = {"budget": 1, "threads": 2, "time_limit": 3}
    environment = {"PYTEST_EDGEAI_BUDGET": "10", "PYTEST_EDGEAI_THREADS": "20"}
    settings = resolved({"edge_budget": "100"}, environment, manifest)
    assert (settings.budget, settings.threads, settings.time_limit) == (100.0, 20, 3.0)
    assert describe_origins(settings) == {
        "budget": ("100.0", "--edge-budget"),
        "threads": ("20", "PYTEST_EDGEAI_THREADS"),
        "time_limit": ("3.0", "edgeai.toml"),
    }


def test_an_empty_variable_is_unset() -> None:
    settings = resolved(None, {"PYTEST_EDGEAI_BUDGET": ""}, {"budget": 5})
    assert (settings.budget, settings.origins["budget"]) == (5.0, "edgeai.toml")


def test_paths_start_where_they_were_written() -> None:
    assert resolved({"edge_json": "a.json"}).json == HERE / "a.json"
    assert resolved(None, {"PYTEST_EDGEAI_JSON": "a.json"}).json == HERE / "a.json"
    assert resolved(None, None, {"json": "a.json"}).json == MANIFEST.parent / "a.json"
    assert resolved({"edge_json": "/x/a.json"}).json == Path("/x/a.json")
    assert resolved({"edge_json": "~/a.json"}).json == Path.home() / "a.json"


def test_names_are_split_and_kept_once() -> None:
    assert resolved({"edge_target": ["intel, cross", "intel"]}).target == ("intel", "cross")
    assert resolved(None, None, {"target": ["intel", "cross"]}).target == ("intel", "cross")


@pytest.mark.parametrize(
    ("word", "expected"), [("1", True), ("TRUE", True), ("on", True), ("no", False), ("0", False)]
)
def test_flags_in_variables(word: str, expected: bool) -> None:
    assert resolved(None, {"PYTEST_EDGEAI_REFRESH": word}).refresh is expected


@pytest.mark.parametrize(
    "raw",
    [
        ["speedup=3", "memory_cut=off"],
        "speedup=3,memory_cut=off",
        {"speedup": 3, "memory_cut": False},
    ],
)
def test_thresholds_in_every_notation(raw: object) -> None:
    assert resolved(None, None, {"threshold": raw}).threshold == {
        "speedup": "3",
        "memory_cut": "off",
    }


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (MANIFEST, "edgeai.toml [settings] budget"),
        (Path("/project/pyproject.toml"), "pyproject.toml [tool.edgeai.settings] budget"),
        (Path("/project/gates.toml"), "gates.toml [settings] budget"),
    ],
    ids=["own", "pyproject", "renamed"],
)
def test_errors_name_the_place(path: Path, place: str) -> None:
    with pytest.raises(UserError) as caught:
        resolved(None, None, {"budget": -1}, path)
    assert caught.value.where == place
    assert resolved(None, None, {"budget": 1}, path).where("budget") == place


@given(
    st.sampled_from([option.name for option in OPTIONS if option.in_manifest]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.lists(st.integers() | st.text(max_size=4), max_size=3)
    | st.dictionaries(st.text(max_size=4), st.integers() | st.lists(st.integers()), max_size=2),
)
def test_any_value_of_a_manifest_is_taken_or_refused_in_one_line(name: str, value: Any) -> None:
    try:
        where = resolved(None, None, {name: value}).where(name)
    except UserError as error:
        where = str(error)
    assert where.startswith(f"edgeai.toml [settings] {name}")


def test_keys_that_are_no_settings() -> None:
    check_manifest_settings({"budget": 1, "target": "intel"}, "edgeai.toml [settings]")
    with pytest.raises(UserError, match=r'edgeai.toml \[settings\]: unknown key "budgt"'):
        check_manifest_settings({"budgt": 1}, "edgeai.toml [settings]")
    with pytest.raises(UserError, match='unknown key "manifest"'):
        check_manifest_settings({"manifest": "x"}, "edgeai.toml [settings]")


def test_cpu_time_leads_only_where_it_is_a_duration() -> None:
    assert resolved({"edge_clock": "cpu-led"}).clock == "cpu-led"
    with pytest.raises(UserError, match="cpu-led with 2 threads") as error:
        resolved({"edge_clock": "cpu-led", "edge_threads": "2"})
    assert error.value.where == "--edge-clock"
