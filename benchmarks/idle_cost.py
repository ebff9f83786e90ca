"""What the plugin costs a pytest run that does not use it, as a share of pytest's own start-up.

``pytest --collect-only`` runs in an empty directory with the plugin and with ``-p no:edgeai``, in
turns and in random order. The share is the median of the differences of paired runs over the median
without the plugin, in user plus system CPU time, with a bootstrap interval. The goal is below 1%::

    python benchmarks/idle_cost.py --rounds 200

The other plugins of the environment stay on, as they are for a user (pytest-benchmark is always
there);
``--alone`` switches the usual ones off. Run it on a quiet machine, with the interpreter of an
environment that has the wheel, and of one with an editable install.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile

OTHERS = ("benchmark", "xdist", "xdist.looponfail", "rerunfailures", "hypothesispytest")
ARGUMENTS = ("-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider")


def cpu_seconds(python: str, options: tuple[str, ...], directory: str) -> float:
    """Run pytest once and return the user and system CPU time of the process."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    for name in list(environment):
        if name.startswith(("PYTEST", "COV_")):
            del environment[name]
    command = [python, *ARGUMENTS, *options]
    process = subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    with process.stderr as stream:
        said = stream.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 5:  # nothing collected
        raise SystemExit(f"{' '.join(command)} failed:\n{said.decode()}")
    return usage.ru_utime + usage.ru_stime


def interval(
    differences: list[float], base: list[float], generator: random.Random
) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of the share, resampling pairs."""
    shares = []
    for _ in range(2000):
        chosen = generator.choices(range(len(base)), k=len(base))
        median = statistics.median(differences[i] for i in chosen)
        shares.append(median / statistics.median(base[i] for i in chosen))
    cuts = statistics.quantiles(shares, n=40)
    return cuts[0], cuts[-1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=200, help="pairs of runs (default: 200)")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the plugin")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of the runs")
    parser.add_argument("--alone", action="store_true", help="switch usual other plugins off")
    chosen = parser.parse_args()
    generator = random.Random(chosen.seed)
    off = [word for name in OTHERS for word in ("-p", f"no:{name}")] if chosen.alone else []
    sides: dict[str, tuple[str, ...]] = {
        "with": (*off,),
        "without": (*off, "-p", "no:edgeai"),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as directory:
        for side in sides:
            cpu_seconds(chosen.python, sides[side], directory)
        for _ in range(chosen.rounds):
            for side in generator.sample(list(sides), k=2):
                seconds[side].append(cpu_seconds(chosen.python, sides[side], directory))
    differences = [a - b for a, b in zip(seconds["with"], seconds["without"], strict=True)]
    base = statistics.median(seconds["without"])
    low, high = interval(differences, seconds["without"], generator)
    fastest = min(seconds["with"]) - min(seconds["without"])
    print(f"pytest without the plugin: {base * 1e3:.1f} ms CPU (median of {chosen.rounds})")
    print(f"the plugin adds {statistics.median(differences) * 1e3:.2f} ms")
    print(f"share: {statistics.median(differences) / base:.2%} [{low:.2%}, {high:.2%}]")
    print(f"share of the fastest runs: {fastest / min(seconds['without']):.2%}")


if __name__ == "__main__":
    main()
