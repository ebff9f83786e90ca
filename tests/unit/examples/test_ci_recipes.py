"""The recipes for CI systems: their systems can read them, and their commands exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_edgeai.console import main

ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "examples" / "ci"
GITHUB, GITLAB, JENKINS = (
    RECIPES / name for name in ("github-actions.yml", "gitlab-ci.yml", "Jenkinsfile")
)
SCHEMAS = {GITHUB: "vendor.github-workflows", GITLAB: "vendor.gitlab-ci"}


def load(path: Path) -> Any:
    yaml = pytest.importorskip("yaml", reason='needs: pip install "pytest-edgeai[pipelines]"')
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def scripts(path: Path) -> list[str]:
    """Return what a recipe hands to a shell, in its order."""
    if path == JENKINS:
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"\bsh (?:'''(.*?)'''|'([^'\n]*)')", text, re.DOTALL)
        assert len(found) == text.count("sh '")
        return [longer or shorter for longer, shorter in found]
    content = load(path)
    if path == GITHUB:
        steps = [step for job in content["jobs"].values() for step in job["steps"]]
        return [step["run"] for step in steps if "run" in step]
    return [line for job in content.values() if "script" in job for line in job["script"]]


def commands(path: Path) -> Iterator[list[str]]:
    """Yield the words of every command of a recipe."""
    for script in scripts(path):
        for line in re.sub(r"\\\n", " ", script).strip().splitlines():
            yield shlex.split(line)


def test_the_recipes_are_these() -> None:
    assert {path.name for path in RECIPES.iterdir()} == {
        "github-actions.yml",
        "gitlab-ci.yml",
        "Jenkinsfile",
    }
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    for path in RECIPES.iterdir():
        assert f"../examples/ci/{path.name}" in page


@pytest.mark.parametrize("path", [GITHUB, GITLAB, JENKINS], ids=lambda path: path.name)
def test_every_command_of_a_recipe_exists(
    path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    seen = []
    for words in commands(path):
        tool, *arguments = words
        seen.append(" ".join(words[: 3 if words[1] == "registry" else 2]))
        if tool == "pytest":
            _, unknown = request.config._parser.parse_known_and_unknown_args(arguments)
            assert unknown == []
        elif tool == "pytest-edgeai":
            # A registry that is not there, or a bundle: whatever argparse refuses exits otherwise.
            assert main(arguments) in (1, 2)
            assert "usage:" not in capsys.readouterr().err
        else:
            assert tool in ("pip", "python3")
    assert {
        "pytest --edge-target=intel",
        "pytest-edgeai verify",
        "pytest-edgeai registry promote",
    } <= set(seen)


@pytest.mark.parametrize("path", [GITHUB, GITLAB, JENKINS], ids=lambda path: path.name)
def test_every_recipe_verifies_between_signing_and_promoting(path: Path) -> None:
    told = [" ".join(words) for words in commands(path)]
    signs = next(n for n, words in enumerate(told) if "--edge-promote=" in words)
    verifies = next(n for n, words in enumerate(told) if "pytest-edgeai verify" in words)
    promotes = next(n for n, words in enumerate(told) if "registry promote" in words)
    assert signs < verifies < promotes
    for words in told:
        if words.startswith("pytest "):
            assert "--edge-junit=" in words
    text = path.read_text(encoding="utf-8")
    # From the environment, by one of the two variables that are read; never on a command line.
    assert re.search(r"PYTEST_EDGEAI_SIGNING_KEY(_PEM)?\b", text)
    assert "--edge-signing-key" not in text
    assert "BEGIN" not in text


def test_extras_that_a_recipe_installs_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    for path in (GITHUB, GITLAB, JENKINS):
        for words in commands(path):
            if words[0] == "pip":
                named = re.fullmatch(r"pytest-edgeai\[(.*)\]", words[-1])
                assert named is not None
                assert set(named[1].split(",")) <= extras


@pytest.mark.skipif(
    importlib.util.find_spec("check_jsonschema") is None,
    reason="needs: pip install check-jsonschema",
)
@pytest.mark.parametrize("path", list(SCHEMAS), ids=lambda path: path.name)
def test_a_recipe_fits_the_schema_of_its_system(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[path], str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_pull_requests_of_strangers_get_no_key() -> None:
    jobs = load(GITHUB)["jobs"]
    assert jobs["gates"]["if"] == "github.event_name == 'pull_request'"
    assert "secrets." not in str(jobs["gates"])
    assert jobs["promote"]["environment"] == "production"


def test_the_jenkinsfile_is_balanced() -> None:
    text = re.sub(
        r"//.*|'''.*?'''|'[^'\n]*'|\"[^\"\n]*\"", "", JENKINS.read_text(), flags=re.DOTALL
    )
    text = re.sub(r"//[^\n]*", "", text)
    closing = {")": "(", "]": "[", "}": "{"}
    open_: list[str] = []
    for sign in text:
        if sign in closing.values():
            open_.append(sign)
        elif sign in closing:
            assert open_.pop() == closing[sign]
    assert open_ == []
