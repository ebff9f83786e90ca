"""Plain loops of the runtimes, each run as a process of its own that imports nothing of ours.

``python bare_loops.py time RUNTIME MODEL CALLS INPUT.npy`` prints the wall times of CALLS calls
with the first sample, in ns, after a warm-up; ``... evaluate RUNTIME MODEL OUT.npy INPUT.npy``
runs every sample once, stores the first output of all, and prints the seconds. The two loops are
what somebody writes who has this one model and nothing else in mind.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

WARM_UP_CALLS = 20


def onnxruntime_session(model: str) -> tuple[Any, str]:
    """Return a session of one thread and its input's name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session, session.get_inputs()[0].name


def openvino_model(model: str) -> Any:
    """Return a compiled model of one thread and one stream, not pinned, in full precision."""
    import openvino

    return openvino.Core().compile_model(
        model,
        "CPU",
        {
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": 1,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32",
        },
    )


def runner(runtime: str, model: str) -> Callable[[Any], Any]:
    """Return a function from one batch to the first output."""
    if runtime == "onnxruntime":
        session, name = onnxruntime_session(model)
        return lambda batch: session.run(None, {name: batch})[0]
    compiled = openvino_model(model)
    request = compiled.create_infer_request()
    return lambda batch: request.infer(batch)[0]


def time_loop(runtime: str, model: str, calls: int, samples: Any) -> list[int]:
    """Return the wall times of ``calls`` calls with the first sample."""
    run, batch = runner(runtime, model), samples[:1]
    for _ in range(WARM_UP_CALLS):
        run(batch)
    times = []
    for _ in range(calls):
        begin = time.perf_counter_ns()
        run(batch)
        times.append(time.perf_counter_ns() - begin)
    return times


def evaluate(runtime: str, model: str, output: str, samples: Any) -> float:
    """Run every sample alone, store the first outputs, return the seconds that it took."""
    run = runner(runtime, model)
    begin = time.perf_counter()
    results = [run(samples[index : index + 1]) for index in range(len(samples))]
    np.save(output, np.concatenate(results))
    return time.perf_counter() - begin


def main() -> None:
    """See the module."""
    what, runtime, model, argument, path = sys.argv[1:6]
    samples = np.load(path)
    if what == "time":
        print(json.dumps(time_loop(runtime, model, int(argument), samples)))
    else:
        print(json.dumps(evaluate(runtime, model, argument, samples)))


if __name__ == "__main__":
    main()
