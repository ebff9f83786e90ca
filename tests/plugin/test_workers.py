"""Frameworks that crash, hang, lack memory, chat or are absent: one clear failed gate each."""

from __future__ import annotations

import time

import pytest
from edge_runs import GATES, QUICK, Place

CONTRIBUTED = """
from pytest_edgeai.descriptors import FrameworkDescriptor

def pytest_edgeai_frameworks():
    return [FrameworkDescriptor("odd", "odd_framework:{kind}", "pip install odd", {needs},
                                ("onnx",), {{"convert": "float32", "int8-static": "int8"}})]
"""
ODD_FRAMEWORK = '''
import ctypes
import os
import shutil
import subprocess
import sys
import time

from pytest_edgeai.optimize.frameworks.base import OptimizeResult
from pytest_edgeai.optimize.frameworks.onnxruntime import OnnxRuntime


class Copies(OnnxRuntime):
    """Says that it quantizes, and copies."""

    def optimize(self, request, progress):
        return OptimizeResult(shutil.copy(request.source, request.output / "model.onnx"))

    def is_candidate(self, path):
        return "artifacts" in str(path)

    def load(self, path, runtime):
        if self.is_candidate(path):
            self.misbehave()
        return super().load(path, runtime)

    def misbehave(self):
        pass


class Crashes(Copies):
    def misbehave(self):
        print("these were its last words", flush=True)
        ctypes.string_at(0)


class Hangs(Copies):
    def misbehave(self):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        print("waiting for a license server", child.pid, flush=True)
        time.sleep(1000)


class LacksMemory(Copies):
    def misbehave(self):
        print("asking for 4 PiB", flush=True)
        raise MemoryError("4 PiB")


class Chats(Copies):
    def misbehave(self):
        for _ in range(200):
            os.write(1, bytes(range(256)) + b"\\n")
        print('{"type": "result", "id": 1, "value": null}', flush=True)


class CannotImport(Copies):
    def __init__(self):
        print("looking for the driver", flush=True)
        raise ImportError("libodd.so.1: cannot open shared object file")


class CrashesInOptimize(Copies):
    def optimize(self, request, progress):
        os.abort()
'''


def contribute(place: Place, kind: str, needs: tuple[str, ...] = ("onnxruntime",)) -> None:
    place.write(QUICK)
    place.pytester.makeconftest(CONTRIBUTED.format(kind=kind, needs=needs))
    place.pytester.makepyfile(odd_framework=ODD_FRAMEWORK)


@pytest.mark.parametrize(
    ("kind", "reason", "tail"),
    [
        ("Crashes", "SIGSEGV", "these were its last words"),
        ("LacksMemory", "MemoryError", "asking for 4 PiB"),
        ("CannotImport", "libodd.so.1: cannot open shared object file", "looking for the driver"),
        ("CrashesInOptimize", "SIGABRT", "Fatal Python error: Aborted"),
    ],
)
def test_a_failure_is_one_line_with_the_tail_once(
    place: Place, kind: str, reason: str, tail: str
) -> None:
    contribute(place, kind)
    run = place.run("--edge-framework=odd", own_cache=True)
    # artifact_size needs the artifact, and no model that runs
    skipped = 2 if kind in ("Crashes", "LacksMemory") else 1
    assert (run.code, run.outcomes) == (1, {"failed": len(GATES) - skipped, "skipped": skipped})
    assert not [line for line in run.text.splitlines() if line.startswith("Traceback")]
    failed = [gate for gate in run.candidate()["gates"] if gate["outcome"] == "error"]
    assert len(failed) == len(GATES) - skipped
    assert all("could not be measured" in gate["reason"] for gate in failed)
    assert all(reason in gate["reason"] for gate in failed)
    assert all(gate["observed"] is None for gate in failed)
    assert run.text.count(f"  {tail}\n") == 1, "the tail stands at the first failed gate alone"
    assert "(the worker's last output: see accuracy_retained)" in run.text
    assert run.candidate()["promotion_blocked_by"] == [gate["name"] for gate in failed]


def test_a_hang_ends_within_the_time_limit_with_everything_it_started(place: Place) -> None:
    contribute(place, "Hangs")
    started = time.monotonic()
    run = place.run("--edge-framework=odd", "--edge-time-limit=3", own_cache=True)
    assert time.monotonic() - started < 45, "the load is not tried again for each gate"
    assert run.code == 1
    reasons = {g["reason"] for g in run.candidate()["gates"] if g["outcome"] == "error"}
    assert len(reasons) == 1
    assert "no answer within 3 s" in reasons.pop()
    (line,) = {x for x in run.text.splitlines() if x.startswith("  waiting for a license server")}
    assert not _alive(int(line.split()[-1]))


def _alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_garbage_on_standard_output_disturbs_nothing(place: Place) -> None:
    contribute(place, "Chats")
    run = place.run("--edge-framework=odd", "-k", "sanity or accuracy", own_cache=True)
    assert (run.code, run.verdicts()) == (0, {"accuracy_retained": "pass", "output_sanity": "pass"})


def test_a_model_that_only_says_it_is_quantized_fails(place: Place) -> None:
    contribute(place, "Copies")
    run = place.run("--edge-framework=odd", "-k", "precision or sanity", own_cache=True)
    assert (run.code, run.outcomes["failed"]) == (1, 1)
    assert run.verdicts() == {"output_sanity": "pass", "precision_proof": "fail"}


ABSENT = ("a-distribution-that-nobody-has",)


def test_a_named_framework_that_is_absent_is_a_failure_that_says_how_to_install(
    place: Place,
) -> None:
    contribute(place, "Copies", ABSENT)
    run = place.run("--edge-framework=odd", "--edge-junit=edge.xml", "--edge-markdown=edge.md")
    assert (run.code, run.outcomes) == (1, {"failed": len(GATES)})
    said = "odd is not installed (missing: a-distribution-that-nobody-has); run: pip install odd"
    assert said in run.text
    assert "DO NOT SHIP: linear odd-int8-static was not made: odd is not installed" in run.text
    assert said in (place.path / "edge.md").read_text("utf-8").replace("&#95;", "_")
    assert said in (place.path / "edge.xml").read_text("utf-8")
    assert "<failure" in (place.path / "edge.xml").read_text("utf-8")


def test_an_absent_framework_that_nobody_named_is_skipped(place: Place) -> None:
    contribute(place, "Copies", ABSENT)
    recipes = '\n[[models.linear.recipes]]\nframework = "odd"\nscheme = "int8-static"\n'
    place.write(QUICK + recipes)
    run = place.run("-rs", "--edge-junit=edge.xml")
    assert (run.code, run.outcomes) == (0, {"skipped": len(GATES)})
    assert "run: pip install odd" in run.text
    assert "<failure" not in (place.path / "edge.xml").read_text("utf-8")
    assert run.candidate()["promoted"] is False


def test_the_shipped_frameworks_name_their_extra(place: Place) -> None:
    place.write()
    place.pytester.makeconftest(
        """
        import dataclasses
        from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS

        def pytest_edgeai_frameworks():
            return [dataclasses.replace(framework, distributions=("nobody-has-this",))
                    for framework in FRAMEWORKS.values()]
        """
    )
    run = place.run("-rs", "--edge-framework=all")
    assert (run.code, run.outcomes) == (0, {"skipped": 2 * len(GATES)})
    for extra in ("onnx", "intel"):
        assert f'run: pip install "pytest-edgeai[{extra}]"' in run.text
