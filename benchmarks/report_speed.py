"""How long does it take to render the page of a session with many candidates?

    python -m benchmarks.report_speed --candidates 100

A planted session of one model: every candidate has all gates, stages, timings, a profile and
advice. Each repetition is a process of its own, so that importing the plotting library counts.
Targets: 100 candidates take under 2 s, and the page is under 2 MB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.common import finish, print_context, print_table
from pytest_edgeai.advice_records import Advice
from pytest_edgeai.facts import HostFacts
from pytest_edgeai.profile_records import (
    Bottleneck,
    CandidateProfile,
    HostPeaks,
    OperatorTime,
    Profile,
)
from pytest_edgeai.records import (
    Artifact,
    LatencySummary,
    Outcome,
    Recipe,
    RuntimeOptions,
    Stage,
    Verdict,
)
from pytest_edgeai.report.content import CandidateReport, HostReport, ModelReport, Report
from pytest_edgeai.report.page_content import CandidateFiles, Latencies, PageContent

LIMIT_S = 2.0
LIMIT_BYTES = 2_000_000
GATES = (
    "accuracy_retained",
    "speedup",
    "memory_cut",
    "artifact_size",
    "latency_consistency",
    "latency_tail",
    "latency_drift",
    "memory_growth",
    "output_sanity",
    "slice_retained",
    "precision_proof",
)
_STAGES = (("baseline", 4.1), ("converted", 3.7), ("quantized", 1.5), ("accelerated", 0.9))


def planted(count: int) -> PageContent:
    """Return a session of ``count`` candidates, every third of which is blocked."""
    rng = np.random.default_rng(5)
    path = Path("model.onnx")
    artifact = Artifact(path, (path,), "openvino", "int8", "3f" * 32, 5_900_000, "ab" * 32, True,
                        3.0, {"openvino": "2026.4.1"}, ("quantized 14 layers",))  # fmt: skip
    candidates = []
    files = {}
    for number in range(count):
        speed = 1.0 + 3.0 * rng.random()
        verdicts = tuple(_verdict(gate, speed, blocked=number % 3 == 0) for gate in GATES)
        profile = _profile()
        candidate = CandidateReport(
            f"openvino-int8-static-{number}", "intel",
            Recipe("openvino", "int8-static", {"subset_size": number}), artifact,
            tuple(_stage(name, ms) for name, ms in _STAGES), verdicts, GATES, False,
            ("speedup",) if number % 3 == 0 else (), profile=profile,
            advice=tuple(
                Advice(f"rule-{n}", "it is slow", "79% of the time is in Reorder",
                       "fuse the layers", ("[models.digits]", "threads = 2"))
                for n in range(3)
            ),
        )  # fmt: skip
        candidates.append(candidate)
        calls = (4e6 * np.exp(rng.gamma(1, 0.05, (2, 400)))).astype(np.int64)
        files[("digits", "intel", candidate.id)] = CandidateFiles(Latencies(calls[0], calls[1]))
    model = ModelReport(
        "digits", "d1" * 32, "image-classification", "onnxruntime", Path("digits.onnx"),
        _stage("baseline", 4.1), tuple(candidates),
    )  # fmt: skip
    facts = HostFacts(
        hostname="planted", system="Linux", architecture="x86_64", cpu_vendor="AuthenticAMD",
        cpu_model="AMD EPYC", logical_cores=2, memory_bytes=8 * 2**30, simd=("avx2",),
        virtualization="kvm", sources={},
    )  # fmt: skip
    report = Report(
        "2026-11-22T12:00:00+00:00", "0", (HostReport(facts, "intel", False),),
        ("--edge-target=intel",), {}, (model,), Path("evidence"), "9a" * 32,
    )  # fmt: skip
    return PageContent(report, files)


def _verdict(gate: str, speed: float, *, blocked: bool) -> Verdict:
    if gate == "speedup":
        outcome: Outcome = "fail" if blocked else "pass"
        return Verdict(gate, outcome, speed, (speed * 0.97, speed * 1.03), 0.95, 1.5, "at_least",
                       "ratio", 212, f"{speed:.2f}x the baseline's speed")  # fmt: skip
    if gate == "slice_retained":
        classes = {str(n): {"samples": 54, "baseline": 0.99, "candidate": 0.98, "retained": 0.99,
                            "decision": "pass"} for n in range(10)}  # fmt: skip
        return Verdict(gate, "pass", 0.99, None, None, 0.5, "more_than", "ratio", 540, "kept",
                       details={"divisions": {"classes": classes}})  # fmt: skip
    share = 0.96 + 0.01 * speed
    return Verdict(gate, "pass", share, (share - 0.02, share + 0.02), 0.95, 0.9, "at_least",
                   "ratio", 540, "98.0% of the baseline's is certain")  # fmt: skip


def _stage(name: str, ms: float) -> Stage:
    latency = LatencySummary(400, ms * 1e6, ms * 1.1e6, ms * 1.3e6, ms * 1e6, 1, 1)
    return Stage(name, "openvino", RuntimeOptions(), latency, 5_900_000, "accuracy", 0.98,  # type: ignore[arg-type]
                 19_000_000, 11_000_000)  # fmt: skip


def _profile() -> CandidateProfile:
    operators = tuple(OperatorTime(f"conv_{n}", "Conv", 50, 10**6 * (20 - n)) for n in range(14))
    side = Profile("openvino", RuntimeOptions(), 50, 4e6, 4e6, 4.4e6, operators, "the profiler",
                   {"0": 1.0}, 3.0, 0.0, 1.0, 2.5)  # fmt: skip
    limit = Bottleneck("memory-bound", "it reads 8.1 GB/s of 10 GB/s", 4e10, 8e8, 50.0, 0.6, 0.8)
    peaks = HostPeaks(1, 6e10, 2.4e11, 1e10, ("a product of matrices",))
    return CandidateProfile(side, side, peaks, limit, limit)


def once(count: int) -> dict[str, float]:
    """Return seconds of wall and CPU time of importing and rendering, and the page's bytes."""
    content = planted(count)
    wall, cpu = time.perf_counter(), time.process_time()
    from pytest_edgeai.report.html import render_html

    imported = time.perf_counter()
    page = render_html(content)
    done = time.perf_counter()
    return {
        "import_s": imported - wall,
        "render_s": done - imported,
        "cpu_s": time.process_time() - cpu,
        "bytes": len(page.encode()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(options.candidates)))
        return 0
    print_context()
    command = [sys.executable, "-m", "benchmarks.report_speed", "--once",
               f"--candidates={options.candidates}"]  # fmt: skip
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(options.repeats)
    ]
    medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    whole = statistics.median(run["import_s"] + run["render_s"] for run in runs)
    size = max(run["bytes"] for run in runs)
    cells = [f"{medians[key]:.2f} s" for key in ("import_s", "render_s", "cpu_s")]
    print_table(
        ["candidates", "import", "render", "both", "CPU time of both", "page"],
        [[str(options.candidates), *cells[:2], f"{whole:.2f} s", cells[2], f"{size / 1e6:.2f} MB"]],
    )
    missed = []
    if whole >= LIMIT_S:
        missed.append(f"rendering takes {whole:.2f} s")
    if size >= LIMIT_BYTES:
        missed.append(f"the page has {size:,} bytes")
    return finish(missed, f"under {LIMIT_S:g} s and under {LIMIT_BYTES:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
