"""pytest-benchmark: save the baseline, then run the candidate with ``--benchmark-compare-fail``.

Its own calibration and its own second per benchmark. Two of its documented expressions are asked
at once, ``min:10%`` and ``mean:10%``; what it prints tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.contest.drivers.exchange import Request, Said, run_tool, said, serve

VARIANTS = ("min", "mean")
_TEST = """
import os, sys
sys.path.insert(0, os.environ["CONTEST_PLANTED"])
import numpy as np
from planted_session import open_session


def test_latency(benchmark):
    session = open_session(os.environ["CONTEST_MODEL"])
    feeds = {"x": np.load(os.environ["CONTEST_INPUTS"])[:1]}
    benchmark(session.run, None, feeds)
"""


def judge(request: Request) -> Mapping[str, Said]:
    """Run pytest twice."""
    (request.folder / "test_latency.py").write_text(_TEST, encoding="utf-8")
    common = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_latency.py"]
    shared = {"CONTEST_PLANTED": str(request.planted), "CONTEST_INPUTS": str(request.inputs)}
    saved = run_tool(
        [*common, "--benchmark-save=baseline"],
        request.folder,
        {**shared, "CONTEST_MODEL": str(request.baseline)},
    )
    if saved.returncode:
        reason = f"saving the baseline: {said(saved, {}).reason}"
        return {variant: Said("error", reason) for variant in VARIANTS}
    limits = [f"{variant}:{request.slower_percent:g}%" for variant in VARIANTS]
    done = run_tool(
        [*common, "--benchmark-compare", "--benchmark-compare-fail", *limits],
        request.folder,
        {**shared, "CONTEST_MODEL": str(request.candidate)},
    )
    text = done.stdout + done.stderr
    answers = {}
    for variant in VARIANTS:
        mark = f"Field '{variant}' has failed"
        if mark in text:
            answers[variant] = Said("fail", said(done, {}, word=mark).reason)
        elif done.returncode == 0 or "has failed PercentageRegressionCheck" in text:
            answers[variant] = Said("pass")
        else:
            answers[variant] = said(done, {})
    return answers


if __name__ == "__main__":
    serve(judge)
