"""inference-doctor: its ``compare-runs`` on repeated runs that are measured here.

It measures nothing itself; its advice is followed: five runs a side, interleaved. A run is the time
of 100 calls after a warm-up; both models stay loaded, as servers do. The time of a call goes in as
the time to the first token, the latency that its normalized format has: its mean for the question
of speed, its 99th percentile as well where the tail is asked for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.contest.drivers.exchange import (
    WARM_UP_CALLS,
    Outcome,
    Request,
    Said,
    run_tool,
    said,
    serve,
)
from benchmarks.contest.planted.planted_session import open_session

RUNS = 5
CALLS = 100
_OUTCOMES: Mapping[int, Outcome] = {0: "pass", 1: "fail", 2: "inconclusive"}


def judge(request: Request) -> Mapping[str, Said]:
    """Measure interleaved runs, write them in its format, and ask it."""
    import numpy as np

    feeds = {"x": np.load(request.inputs)[:1]}
    files = {"baseline": request.baseline, "candidate": request.candidate}
    sessions = {side: open_session(model) for side, model in files.items()}
    for session in sessions.values():
        for _ in range(WARM_UP_CALLS):
            session.run(None, feeds)
    for number in range(RUNS):
        for side, session in sessions.items():
            times_ms = [_call_ms(session, feeds) for _ in range(CALLS)]
            place = request.folder / side / f"repetition-{number}.json"
            place.parent.mkdir(exist_ok=True)
            place.write_text(json.dumps(_run(times_ms)), encoding="utf-8")
    words = ["compare-runs", "--baseline", "baseline", "--candidate", "candidate"]
    words += ["--metric", "ttft_mean_ms", "--regression-percent", f"{request.slower_percent:g}"]
    if request.kind == "stability":
        words += ["--metric", "ttft_p99_ms"]
    done = run_tool(["-m", "inference_doctor", *words, "--json"], request.folder)
    return {"": said(done, _OUTCOMES, word="confidence interval")}


def _call_ms(session: Any, feeds: Mapping[str, Any]) -> float:
    begin = time.perf_counter()
    session.run(None, feeds)
    return 1e3 * (time.perf_counter() - begin)


def _run(times_ms: list[float]) -> dict[str, Any]:
    import numpy as np

    return {
        "schema_version": "1",
        "environment": {"gpu": "none", "model": "planted", "vllm_version": None, "image": None},
        "benchmark_parameters": {"calls": CALLS},
        "metrics": {
            "ttft_ms": {
                "mean": float(np.mean(times_ms)),
                "median": float(np.median(times_ms)),
                "p95": float(np.percentile(times_ms, 95)),
                "p99": float(np.percentile(times_ms, 99)),
            },
            "requests": {"successful": CALLS, "failed": 0},
        },
    }


if __name__ == "__main__":
    serve(judge)
