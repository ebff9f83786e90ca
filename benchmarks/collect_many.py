"""How long does collecting a manifest with 200 models take?

    python -m benchmarks.collect_many --models 200

Runs ``pytest --edge-target=cross --collect-only -q`` in a process of its own, on a manifest of
distinct small classifiers with a ``.npz`` each, and on one whose entries are all the shipped
example (20 MB of weights, which collecting must not read). The target is 2 s of wall time for the
whole process, pytest's own start included, in the quickest of the repetitions: a quiet moment of a
shared machine. CPU seconds stand beside it, and pytest's own start on an empty test file.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import EXAMPLE, finish, print_context, print_table, scratch

LIMIT_S = 2.0


def make_distinct(folder: Path, models: int) -> Path:
    """Write ``models`` classifiers with their data and a manifest; return its folder."""
    from models import linear_classifier, write_project

    projects = [
        linear_classifier(folder / f"m{index}", name=f"m{index}", n=200, seed=index)
        for index in range(models)
    ]
    write_project(folder, projects)
    return folder


def make_large(folder: Path, models: int) -> Path:
    """Write a manifest whose entries are all the shipped example; return its folder."""
    folder.mkdir()
    entry = "\n".join(
        f'{key} = "{(EXAMPLE / file).as_posix()}"'
        for key, file in (
            ("path", "digits.onnx"),
            ("data", "test.npz"),
            ("calibration", "calibration.npz"),
        )
    )
    tables = [
        f'[models.m{index}]\ntask = "image-classification"\n{entry}\n' for index in range(models)
    ]
    (folder / "edgeai.toml").write_text("\n".join(tables), encoding="utf-8")
    return folder


def collect(folder: Path, options: Sequence[str]) -> tuple[float, float, str]:
    """Collect once; return wall seconds, CPU seconds and pytest's last line."""
    before = os.times()
    begin = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *options,
            "--collect-only",
            "-q",
            "-p",
            "no:cacheprovider",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    wall_s = time.perf_counter() - begin
    after = os.times()
    if done.returncode:
        raise SystemExit(f"collecting failed:\n{(done.stdout + done.stderr)[-2000:]}")
    cpu_s = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    return wall_s, cpu_s, done.stdout.strip().splitlines()[-1]


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    print_context("pytest")
    missed: list[str] = []
    with scratch() as folder:
        empty = folder / "empty"
        empty.mkdir()
        (empty / "test_nothing.py").write_text("def test_nothing():\n    pass\n", encoding="utf-8")
        gates = ["--edge-target=cross"]
        cases = {
            "pytest alone": (empty, list[str]()),
            "distinct small models": (make_distinct(folder / "small", arguments.models), gates),
            "entries of the example": (make_large(folder / "large", arguments.models), gates),
        }
        runs: dict[str, list[tuple[float, float, str]]] = {name: [] for name in cases}
        for _ in range(arguments.repetitions):
            for name, (where, options) in cases.items():
                runs[name].append(collect(where, options))
    rows = []
    for name, results in runs.items():
        walls = sorted(wall for wall, _, _ in results)
        cpu_s = min(cpu for _, cpu, _ in results)
        median_s = walls[len(walls) // 2]
        collected = results[0][2].split(" in ")[0]
        rows.append([name, collected, f"{walls[0]:.2f}", f"{median_s:.2f}", f"{cpu_s:.2f}"])
        if walls[0] >= LIMIT_S:
            missed.append(f"{name}: {walls[0]:.2f} s")
    print_table(("manifest", "pytest says", "fastest s", "median s", "CPU s"), rows)
    return finish(missed, f"{arguments.models} models collected in under {LIMIT_S:g} s")


if __name__ == "__main__":
    sys.exit(main())
