"""What the documentation shows is what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_runs import Place
from models import require

from pytest_edgeai.manifest import read_manifest
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.model_tables import MODEL_KEYS
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.settings import OPTIONS
from pytest_edgeai.shipped import GATES
from pytest_edgeai.specification import Catalogue

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CATALOGUE = Catalogue(FRAMEWORKS, TARGETS, METRICS, GATES)


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield the code blocks of one language."""
    pattern = rf"^```{language}\n(.*?)^```"
    yield from re.findall(pattern, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def first_columns(page: Path, heading: str) -> list[str]:
    """Return the first cell of each row of the table below a heading, without backticks."""
    text = page.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [row.split("|")[1].strip().strip("`") for row in rows]


def test_every_option_is_documented_with_its_variable() -> None:
    text = (ROOT / "docs/manifest.md").read_text(encoding="utf-8")
    table = text.split("## Settings\n", 1)[1]
    for option in OPTIONS:
        row = next(
            line
            for line in table.splitlines()
            if re.match(rf"\| `{re.escape(option.flag)}[=`]", line)
        )
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
        assert cells[1] == f"`{option.variable}`"
        assert cells[2] == (f"`{option.name}`" if option.in_manifest else "–")
    assert len(re.findall(r"^\| `--edge-", table, re.MULTILINE)) == len(OPTIONS)


def test_every_gate_is_documented() -> None:
    assert first_columns(ROOT / "README.md", "The gates") == list(GATES)


def test_every_target_and_scheme_is_documented() -> None:
    assert first_columns(ROOT / "docs/targets.md", "The matrix") == list(TARGETS)
    text = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    for framework in FRAMEWORKS.values():
        assert framework.install in text
        for scheme in framework.schemes:
            assert scheme == "convert" or f"| `{scheme}` |" in text


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_manifests_in_the_documentation_are_valid(place: Place) -> None:
    require("onnx", "onnx")
    place.write()
    model = next(place.path.rglob("*.onnx"))
    data = list(place.path.rglob("*.npz"))
    tables = ""
    for page in (ROOT / "README.md", ROOT / "docs/manifest.md"):
        for block in blocks(page, "toml"):
            if block.startswith(("[gates]", "[[known_failures]]")):
                tables += block
    tables = tables.replace("[models.mymodel.gates]", "[models.digits.gates]")
    readme, manual = [text for text in tables.split("[gates]") if text]
    for text in (readme, manual):
        manifest = place.path / "checked.toml"
        manifest.write_text(
            "[models.digits]\n"
            f'path = "{model}"\ntask = "image-classification"\n'
            f'data = "{data[0]}"\ncalibration = "{data[-1]}"\n[gates]{text}',
            encoding="utf-8",
        )
        assert [spec.name for spec in read_manifest(manifest, CATALOGUE).models] == ["digits"]


def test_the_gate_of_the_plugin_guide_runs(place: Place) -> None:
    require("onnxruntime", "onnx")
    place.write()
    hook, gate = [b for b in blocks(ROOT / "docs/plugins.md", "python") if "few_files" in b]
    (place.path / "conftest.py").write_text(hook, encoding="utf-8")
    (place.path / "our_gates.py").write_text(gate, encoding="utf-8")
    run = place.run("-k", "few_files")
    assert run.code == 0, run.text
    assert run.outcomes["passed"] == 1


def test_the_json_report_of_the_documentation_has_the_keys_of_the_schema() -> None:
    (block,) = blocks(ROOT / "docs/reports.md", "json")
    report = json.loads(block)
    text = (ROOT / "pytest_edgeai/report/schema-1.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    model = report["models"][0]
    candidate = model["candidates"][0]
    shown = {
        "model": model,
        "measurements": model["baseline"]["measurements"],
        "candidate": candidate,
        "gate": candidate["gates"][0],
    }
    assert set(report) == set(schema["properties"])
    for name, part in shown.items():
        assert set(part) == set(schema["$defs"][name]["properties"]), name


def test_the_manifest_page_names_every_key_of_a_model() -> None:
    page = ROOT / "docs/manifest.md"
    text = page.read_text(encoding="utf-8").split("### Data", 1)[0]
    keys = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(keys) == sorted(MODEL_KEYS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_placeholder_is_left(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"@@|TODO|FIXME|XXX", text)
