"""The direction of the flow, read from the import statements of the package's own sources.

manifest -> assess -> plan -> optimize -> measure -> judge -> report -> promote: what stands later
in the flow is never imported by what stands earlier, and what drives it is imported by no room.
Imports inside of functions and of ``TYPE_CHECKING`` blocks count like any other.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "pytest_edgeai"
FLOW = (
    "assess",
    "plan",
    "optimize",
    "measure",
    "judge",
    "report",
    "promote",
    "history",
    "selfcheck",
)
"""The rooms in the order of the flow, then the history of what came out of it, and what checks all
of it on planted cases; the manifest's modules stand before the first."""

DRIVES = ("production", "gates", "fixtures")
"""Rooms that drive the flow as the modules of the top level do; no room of it imports them."""

COPIED = "serving"
"""What a promotion copies into bundles; there it lies under another name, with nothing of ours."""

BASE = {
    "__init__",
    "advice_records",
    "descriptors",
    "digests",
    "energy_records",
    "errors",
    "facts",
    "files",
    "load_records",
    "privacy_records",
    "production_records",
    "profile_records",
    "records",
    "rollout_records",
    "samples",
    "search_records",
    "sensitivity_records",
    "specification",
    "tasks",
}
"""What every room may use; it uses nothing but itself."""

MANIFEST = {
    "configuration",
    "licenses",
    "manifest",
    "model_tables",
    "search_table",
    "settings",
    "tables",
    "thresholds",
}
"""What reads the manifest and the settings."""

PYTEST_LAYER = {
    "after_gates",
    "collect",
    "comparison",
    "display",
    "driver",
    "hookspecs",
    "invocation",
    "optimizer",
    "plugin",
    "publishing",
    "self_checking",
    "viewing",
}
PYTEST_EXCEPTIONS = {
    "report.benchmark": "hands samples to pytest-benchmark, through pytest's config"
}
BETWEEN_ROOMS = {
    ("worker.arrays", "optimize.frameworks.base"): "feeds are what the protocol says they are",
    ("worker.service", "optimize.frameworks.base"): "serves the protocol, and knows no framework",
    ("worker.service", "optimize.frameworks.language"): "likewise, for language models",
    ("worker.language", "optimize.frameworks.base"): "likewise",
    ("worker.language", "optimize.frameworks.language"): "likewise",
    ("worker.load_operations", "optimize.frameworks.base"): "likewise",
    ("worker.sensitivity", "optimize.frameworks.base"): "likewise",
    ("worker.sensitivity", "optimize.frameworks.sensitivity"): "likewise",
    ("worker.load_operations", "optimize.frameworks.language"): "likewise",
    ("measure.bench", "worker.host"): "measures in worker processes",
    ("measure.rollout_servers", "worker.launch"): "starts servers in the same environment",
    ("measure.language", "worker.host"): "likewise",
    ("measure.extreme_inputs", "worker.host"): "likewise",
    ("measure.network", "worker.host"): "likewise",
    ("measure.peaks", "worker.host"): "likewise",
    ("measure.profile", "worker.host"): "likewise",
    ("measure.network", "worker.network"): "knows the attempt that proves a guard",
}
"""What a room may import of one that does not stand before it in the flow, and why."""

FRAMEWORK_PACKAGES = {
    "gguf",
    "llama_cpp",
    "mlx",
    "mlx_lm",
    "nncf",
    "olive",
    "onnx",
    "onnxruntime",
    "onnxruntime_genai",
    "openvino",
    "tokenizers",
    "torch",
    "transformers",
}
RUNTIMES = {"onnxruntime", "openvino"}
MOST_LINES = 400


def sources() -> dict[str, Path]:
    """Return the module names below the package, without its own name, and their files."""
    found = {}
    for folder, prefix in ((PACKAGE, ""), ("gates", "gates."), ("fixtures", "fixtures.")):
        top = ROOT / folder
        for path in top.rglob("*.py"):
            if "__pycache__" not in path.parts:
                parts = path.relative_to(top).with_suffix("").parts
                found[prefix + ".".join(parts)] = path
    return found


SOURCES = sources()


def imports(module: str) -> Iterator[str]:
    """Yield the absolute names that a module imports; ``from a import b`` gives ``a.b``."""
    tree = ast.parse(SOURCES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or room(module) == COPIED, f"{module} imports relatively"
            place = f"{PACKAGE}.{COPIED}.{node.module}" if node.level else node.module
            yield from (f"{place}.{alias.name}" for alias in node.names)


def own(module: str) -> set[str]:
    """Return the modules of the package that a module imports."""
    found = set()
    for name in imports(module):
        inner = name.removeprefix(f"{PACKAGE}.")
        if name.split(".")[0] != PACKAGE:
            continue
        candidates = (inner, inner.rpartition(".")[0], f"{inner}.__init__", "__init__")
        found.add(next(candidate for candidate in candidates if candidate in SOURCES))
    return found


def foreign(module: str) -> set[str]:
    """Return the top-level packages that a module imports, less the standard library's and ours."""
    tops = {name.split(".")[0] for name in imports(module)}
    return tops - set(sys.stdlib_module_names) - {PACKAGE}


def room(module: str) -> str:
    """Return the room of a module; empty for a module of the top level."""
    return module.rpartition(".")[0].split(".")[0]


def reachable(*modules: str) -> set[str]:
    """Return the modules that importing some of them can import."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += own(module)
    return seen


def test_every_module_is_read() -> None:
    assert {*BASE, *MANIFEST, *PYTEST_LAYER, *PYTEST_EXCEPTIONS} <= set(SOURCES)
    assert {room(module) for module in SOURCES} == {"", *FLOW, "worker", *DRIVES, COPIED}
    assert "records" in own("judge.verdict")
    assert "optimize.frameworks.openvino_optimize" in own("optimize.frameworks.openvino")


@pytest.mark.parametrize("module", [m for m in SOURCES if room(m) in FLOW])
def test_a_room_imports_nothing_that_comes_after_it(module: str) -> None:
    allowed = {*FLOW[: FLOW.index(room(module)) + 1], ""}
    for imported in own(module):
        if (module, imported) not in BETWEEN_ROOMS:
            assert room(imported) in allowed, f"{module} imports {imported}"
            assert room(imported) or imported in BASE, f"{module} imports {imported}"


@pytest.mark.parametrize("module", [m for m in SOURCES if room(m) == "worker"])
def test_a_worker_knows_no_room(module: str) -> None:
    for imported in own(module):
        if (module, imported) not in BETWEEN_ROOMS:
            assert room(imported) == "worker" or imported in BASE, f"{module} imports {imported}"


@pytest.mark.parametrize("module", sorted(BASE | MANIFEST))
def test_the_base_and_the_manifest_know_no_room(module: str) -> None:
    assert own(module) <= (BASE if module in BASE else BASE | MANIFEST)


def test_every_exception_is_needed() -> None:
    for module, imported in BETWEEN_ROOMS:
        assert imported in own(module), f"{module} does not import {imported}"
    for module in PYTEST_EXCEPTIONS:
        assert "pytest" in foreign(module)


@pytest.mark.parametrize("module", [m for m in SOURCES if room(m) == "judge"])
def test_the_judge_knows_records_and_numbers_alone(module: str) -> None:
    allowed = {"descriptors", *(module for module in BASE if module.endswith("records"))}
    assert {m for m in own(module) if room(m) != "judge"} <= allowed
    assert foreign(module) <= {"numpy", "scipy"}


@pytest.mark.parametrize("module", [m for m in SOURCES if room(m) == "assess"])
def test_the_assessment_needs_no_package(module: str) -> None:
    assert {m for m in own(module) if room(m) != "assess"} <= {"records", "facts", "errors"}
    assert foreign(module) <= {"numpy"}


def test_a_worker_needs_numpy_and_its_framework_alone() -> None:
    """The interpreter that the manifest names for a framework need not hold more."""
    adapters = [m for m in SOURCES if m.startswith("optimize.frameworks.")]
    modules = reachable("worker.__main__", *adapters)
    assert {room(module) for module in modules} <= {"", "assess", "optimize", "worker"}
    assert {m for m in modules if not room(m)} <= BASE
    needed = set().union(*map(foreign, modules))
    assert needed <= {"numpy", *FRAMEWORK_PACKAGES}


def test_a_planted_framework_needs_what_every_framework_needs() -> None:
    """It runs in workers, although it lies in a room that drives them."""
    modules = reachable("selfcheck.planted")
    assert {room(module) for module in modules} <= {"", "optimize", "selfcheck"}
    assert {m for m in modules if room(m) == "selfcheck"} == {"selfcheck.planted"}
    assert set().union(*map(foreign, modules)) <= {"numpy"}


def test_the_server_needs_numpy_and_a_runtime_alone() -> None:
    modules = [m for m in SOURCES if room(m) == COPIED]
    for module in modules:
        assert {room(imported) for imported in own(module)} <= {COPIED}, module
        assert foreign(module) <= {"numpy", *RUNTIMES}
    assert not [m for m in SOURCES if room(m) != COPIED and own(m) & set(modules)]


@pytest.mark.parametrize("module", SOURCES)
def test_only_the_pytest_layer_runs_the_self_check(module: str) -> None:
    checks = {imported for imported in own(module) if room(imported) == "selfcheck"}
    assert not checks or module in PYTEST_LAYER or room(module) == "selfcheck"


@pytest.mark.parametrize("module", SOURCES)
def test_only_the_pytest_layer_imports_pytest(module: str) -> None:
    drives = module in PYTEST_LAYER or room(module) in ("gates", "fixtures")
    if not drives and module not in PYTEST_EXCEPTIONS:
        assert not foreign(module) & {"pytest", "_pytest", "pluggy", "xdist"}


@pytest.mark.parametrize("module", SOURCES)
def test_frameworks_are_imported_by_their_adapters_alone(module: str) -> None:
    if not module.startswith("optimize.frameworks."):
        allowed = RUNTIMES if room(module) == COPIED else set()
        assert not foreign(module) & (FRAMEWORK_PACKAGES - allowed)


@pytest.mark.parametrize("module", SOURCES)
def test_no_module_outgrows_its_reason_to_change(module: str) -> None:
    assert len(SOURCES[module].read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("module", SOURCES)
def test_no_source_names_a_directory_of_one_machine(module: str) -> None:
    """``/tmp`` stands where the lock of the whole machine lies, and nowhere else."""
    strings = [
        node.value
        for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert not [text for text in strings if str(ROOT) in text]
    if module != "measure.exclusive":
        assert not [text for text in strings if text.startswith("/tmp")]
