from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from model_parts import Project
from models import linear_classifier, write_project

from pytest_edgeai.configuration import Settings, resolve
from pytest_edgeai.errors import UserError
from pytest_edgeai.gate_selection import is_required, not_asked, other_task, production_is_on
from pytest_edgeai.manifest import read_manifest
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.shipped import GATES
from pytest_edgeai.specification import Catalogue, DataSource, Manifest

CATALOGUE = Catalogue(FRAMEWORKS, TARGETS, METRICS, GATES)
PRODUCTION = [gate.name for gate in GATES.values() if gate.production]
Read = Callable[..., tuple[Manifest, Settings]]


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return linear_classifier(tmp_path_factory.mktemp("linear"))


@pytest.fixture
def read(tmp_path: Path, linear: Project) -> Read:
    """Read a manifest of one model and the settings of a command line."""

    def make(extra: str = "", **flags: object) -> tuple[Manifest, Settings]:
        path = write_project(tmp_path, [linear], extra)
        manifest = read_manifest(path, CATALOGUE)
        given = {f"edge_{name}": value for name, value in flags.items()}
        return manifest, resolve(
            given, {}, manifest.settings, manifest_path=path, invocation_directory=tmp_path
        )

    return make


def met(manifest: Manifest, settings: Settings) -> list[str]:
    model = manifest.models[0]
    return [n for n in PRODUCTION if not not_asked(GATES[n], model, settings, manifest)]


def test_nothing_of_production_exists_before_it_is_asked_for(read: Read) -> None:
    manifest, settings = read()
    assert not production_is_on(settings, manifest)
    assert met(manifest, settings) == []
    reason = not_asked(GATES["load"], manifest.models[0], settings, manifest)
    assert "[production] or --edge-profile" in reason


def test_the_table_switches_on_what_it_requires(read: Read) -> None:
    manifest, settings = read('[production]\nrequired = ["load", "shadow", "load"]\n')
    assert met(manifest, settings) == ["load", "shadow"], "shadow is not certified without traffic"
    assert all(is_required(GATES[name], manifest) for name in ("load", "shadow", "speedup"))
    assert not is_required(GATES["endurance"], manifest)


def test_what_is_required_is_never_left_out_in_silence(read: Read) -> None:
    """A gate of other tasks gets a verdict that says so, see ``verdicts.reach_verdict``."""
    manifest, settings = read('[production]\nrequired = ["rollout"]\n')
    chat = replace(manifest.models[0], task="text-generation")
    assert not not_asked(GATES["rollout"], chat, settings, manifest)
    assert "this is text-generation" in other_task(GATES["rollout"], chat)
    assert is_required(GATES["rollout"], manifest)
    manifest, settings = read(profile="release")
    assert "text-generation" in not_asked(GATES["rollout"], chat, settings, manifest)


def test_release_runs_all_and_requires_what_the_table_says(read: Read) -> None:
    manifest, settings = read('[production]\nrequired = ["load"]\n', profile="release")
    without_data = [name for name in PRODUCTION if not GATES[name].needs_key]
    assert met(manifest, settings) == without_data
    assert [name for name in PRODUCTION if is_required(GATES[name], manifest)] == ["load"]


@pytest.mark.parametrize("profile", ["ci", "release"])
def test_a_profile_alone_switches_all_on_and_requires_them(read: Read, profile: str) -> None:
    manifest, settings = read(profile=profile)
    assert met(manifest, settings) == [n for n in PRODUCTION if not GATES[n].needs_key]
    assert all(is_required(GATES[name], manifest) for name in PRODUCTION)


def test_a_gate_that_needs_data_exists_where_the_model_has_it(read: Read) -> None:
    manifest, settings = read("[production]\n")
    model = manifest.models[0]
    traffic = DataSource(model.path, None, "traffic")
    assert "traffic" in not_asked(GATES["shadow"], model, settings, manifest)
    assert not not_asked(GATES["shadow"], replace(model, traffic=traffic), settings, manifest)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ('[production]\nrequired = ["laod"]\n', 'unknown gate of production "laod"'),
        ('[production]\nrequired = ["speedup"]\n', 'unknown gate of production "speedup"'),
        ('[production]\nrequire = ["load"]\n', 'unknown key "require"'),
        ("[production]\nrequired = []\n", "an empty list where a list of strings is needed"),
        (
            '[gates]\nload = false\n[production]\nrequired = ["load"]\n',
            '[production] required: "load" is required and switched off in [gates]',
        ),
        ('[settings]\nprofile = "fast"\n', "ci, release"),
    ],
)
def test_what_makes_no_sense_is_refused(read: Read, extra: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        read(extra)
    assert words in str(refused.value)
