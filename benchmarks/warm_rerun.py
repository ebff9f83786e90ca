"""With artifacts cached, what does a run of the gates take beside measuring and evaluating?

    python -m benchmarks.warm_rerun --repetitions 5

Gates a copy of the shipped example again and again. The time inside the steps that measure (workers
that start and load the models, rounds in turns, turns of the gates of stability, rounds of the
stages, memory in fresh processes) and that evaluate accuracy is taken from within
(``benchmarks/step_times.py``), the wall time of the whole process from outside; what remains is the
interpreter, imports, pytest, hashing, reading and comparing data, statistics, reports, and the end
of workers and process. The target is a remainder of less than 10% of the wall time, at the median
of the repetitions; the remainder with the loading counted in stands beside it. Plugins that only
this project's own tests need are switched off.
``--profile`` prints where the test process spends its time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import EXAMPLE, ROOT, finish, print_context, print_table, scratch

LARGEST_SHARE = 0.10
LOADING = "loading models into workers"
TEST_PLUGINS = ("anyio", "hypothesispytest", "xdist", "xdist.looponfail", "rerunfailures")


def run(folder: Path, target: str, *before: str) -> tuple[float, dict[str, float]]:
    """Gate once; return the wall seconds and the seconds inside each step."""
    times = folder / "steps.json"
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "EDGE_STEP_TIMES": str(times), "PYTHONPATH": path}
    # Installed packages come with their bytecode; a checkout writes it in the first run.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    absent = (word for name in TEST_PLUGINS for word in ("-p", f"no:{name}"))
    words = (f"--edge-target={target}", "-q", "-p", "benchmarks.step_times", *absent)
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *before, "-m", "pytest", *words, "-p", "no:cacheprovider"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    wall_s = time.perf_counter() - begin
    if done.returncode not in (0, 1):
        raise SystemExit(f"the run broke off:\n{(done.stdout + done.stderr)[-3000:]}")
    return wall_s, json.loads(times.read_text(encoding="utf-8"))


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="cross")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="of one further run")
    arguments = parser.parse_args()
    print_context("pytest", "openvino", "onnxruntime")
    with scratch() as folder:
        project = folder / "digits"
        project.mkdir()
        for name in ("edgeai.toml", "digits.onnx", "test.npz", "calibration.npz"):
            shutil.copy(EXAMPLE / name, project / name)
        cold_s, _ = run(project, arguments.target)
        runs = [run(project, arguments.target) for _ in range(arguments.repetitions)]
        if arguments.profile:
            profile = folder / "profile"
            run(project, arguments.target, "-m", "cProfile", "-o", str(profile))
            script = "import pstats, sys; pstats.Stats(sys.argv[1]).sort_stats('cumtime')"
            subprocess.run([sys.executable, "-c", f"{script}.print_stats(80)", str(profile)])
    rest = [(wall_s - sum(steps.values())) / wall_s for wall_s, steps in runs]
    wall_s = statistics.median(wall_s for wall_s, _ in runs)
    rows = [
        [step, f"{statistics.median(steps[step] for _, steps in runs):.2f}"] for step in runs[0][1]
    ]
    rest_s = statistics.median(wall_s - sum(steps.values()) for wall_s, steps in runs)
    rows.append(["everything else", f"{rest_s:.2f}"])
    rows.append(["whole run", f"{wall_s:.2f}"])
    rows.append(["first run, nothing cached", f"{cold_s:.2f}"])
    print_table(("step", "median s"), rows)
    share = statistics.median(rest)
    print(f"everything else: {share:.1%} (of the runs: {min(rest):.1%} to {max(rest):.1%})")
    loading = statistics.median(steps[LOADING] / wall_s for wall_s, steps in runs)
    print(f"loading models into workers: {loading:.1%}")
    missed = [f"{share:.1%} beside measuring and evaluating"] if share >= LARGEST_SHARE else []
    return finish(missed, f"less than {LARGEST_SHARE:.0%} beside measuring and evaluating")


if __name__ == "__main__":
    sys.exit(main())
