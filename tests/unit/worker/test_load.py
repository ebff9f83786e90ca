from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.errors import MeasurementError, ModelError
from pytest_edgeai.worker.load import MESSAGES, Recorder, RunDelay, finish, read_summary
from pytest_edgeai.worker.load_operations import LoadOperations, Requests

SUMMARY = """================================================
MLPerf Results Summary
================================================
SUT name : PyFastSUT
Scenario : Server
Completed samples per second    : 485.26
Result is : INVALID
  Performance constraints satisfied : NO
Recommendations:
 * Reduce target QPS to improve latency.
99.00 percentile latency (ns)   : 54483062

No warnings encountered during test.
"""
TRACE = (
    '{"traceEvents":[\n'
    '{"name":"Latency","ph": "C","pid":1,"ts":20.5,"args":{ "issue_delay":651}},\n'
    '{"name":"Sample","cat":"default","ph":"b","pid":1,"id":1,"ts":20.500,"args":{"sample_seq":1,'
    '"query_seq":1,"sample_idx":4,"issue_start_ns":650,"complete_ns":5000}},\n'
    '{"name":"Sample","cat":"default","ph":"e", "pid":1,"id":1,"ts":25.500},\n'
    '{"name":"Sample","cat":"default","ph":"b","pid":1,"id":0,"ts":10.250,"args":{"sample_seq":0,'
    '"query_seq":0,"sample_idx":9,"issue_start_ns":-20,"complete_ns":4000}},\n'
)


def test_the_summary_is_read_line_by_line() -> None:
    summary = read_summary(SUMMARY)
    assert summary["Result is"] == "INVALID"
    assert summary["99.00 percentile latency (ns)"] == "54483062"
    assert summary["Performance constraints satisfied"] == "NO"
    assert "Recommendations" not in summary


def test_a_call_that_raises_is_noted_and_nothing_leaves_the_callback() -> None:
    def call(index: int) -> None:
        if index == 3:
            raise SystemExit("gone")
        if index > 10:
            raise ValueError(f"sample {index}\nis broken")

    recorder = Recorder(call)
    for index in (0, 3, 11, 11, *range(20, 40)):
        recorder(index, index)
    assert recorder.failed[:4] == [False, True, True, True]
    assert recorder.messages["SystemExit: gone"] == 1
    assert recorder.messages["ValueError: sample 11 is broken"] == 2
    assert len(recorder.messages) == MESSAGES
    assert len(recorder.wall_ns) == len(recorder.cpu_ns) == len(recorder.preemptions) == 24
    recorder.run_all([0, 3])
    assert recorder.failed[-2:] == [False, True]
    assert len(recorder.wall_ns) == len(recorder.cpu_ns) == len(recorder.sequence) == 26


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts waits for a core")
def test_a_sleep_is_no_wait_for_a_core() -> None:
    delay = RunDelay()
    if delay.read() < 0:
        pytest.skip("this kernel has no schedstat")
    recorder = Recorder(lambda index: time.sleep(0.05), delay.read)
    recorder(0, 0)
    delay.close()
    assert 0 <= recorder.delay_ns[0] <= recorder.wall_ns[0] - 45_000_000
    assert delay.read() == -1


def test_the_trace_is_read_in_the_order_of_the_queries_and_removed(tmp_path: Path) -> None:
    (tmp_path / "mlperf_log_summary.txt").write_text(SUMMARY, "utf-8")
    (tmp_path / "mlperf_log_trace.json").write_text(TRACE, "utf-8")
    first, second = Recorder(lambda index: None), Recorder(lambda index: None)
    first(9, 1)
    second(4, 0)
    first.wall_ns, second.wall_ns = [11], [10]
    answer = finish(tmp_path, [first, second], 1.5, {"token_ns": np.ones((2, 3))})
    assert answer["seconds"] == 1.5
    assert answer["summary"]["Scenario"] == "Server"
    with np.load(answer["arrays"]) as arrays:
        assert arrays["wall_ns"].tolist() == [10, 11]
        assert arrays["scheduled_ns"].tolist() == [0, 10250]
        assert arrays["issue_delay_ns"].tolist() == [-20, 650]
        assert arrays["latency_ns"].tolist() == [4000, 5000]
        assert arrays["token_ns"].shape == (2, 3)
    assert not (tmp_path / "mlperf_log_trace.json").exists()


class Counting:
    """A language model that knows 10 tokens and has a context of 8; every decode is counted."""

    vocabulary, context_tokens = 10, 8

    def __init__(self) -> None:
        self.bound: list[int] = []
        self.decoded = 0

    def bind_decode(self, tokens: Any) -> Callable[[], object]:
        self.bound.append(len(tokens))

        def decode() -> None:
            self.decoded += 1
            if self.decoded == 5:
                raise RuntimeError("no")

        return decode


def test_a_request_is_timed_token_by_token() -> None:
    model: Any = Counting()
    requests = Requests(model, np.zeros((2, 4), np.int32), 3)
    announced: list[int] = []
    requests(0, lambda: announced.append(model.decoded))
    with pytest.raises(RuntimeError, match="no"):
        requests(1, lambda: announced.append(model.decoded))
    assert announced == [1, 4]
    assert model.bound == [4, 4]
    assert np.isfinite(requests.token_ns[0]).all()
    assert np.isnan(requests.token_ns[1]).tolist() == [False, True, True]


def test_a_prompt_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.zeros((2, 8), np.int32))
    model: Any = Counting()
    operations = LoadOperations(lambda handle: model, lambda handle: model)
    with pytest.raises(ModelError, match="leaves no room"):
        operations.stage_requests("model", str(tmp_path / "ids.npy"), 8, 3)
    assert operations.stage_requests("model", str(tmp_path / "ids.npy"), 4, 3) == {"staged": 2}


def test_nothing_is_driven_before_it_is_staged(tmp_path: Path) -> None:
    pytest.importorskip("mlperf_loadgen", reason="run: pip install mlcommons-loadgen")
    model: Any = None
    operations = LoadOperations(lambda handle: model, lambda handle: model)
    with pytest.raises(MeasurementError, match="no queries are staged"):
        operations.drive(["model"], "Server", {}, str(tmp_path))


@pytest.mark.parametrize(
    ("scenario", "settings", "words"),
    [("Cloud", {}, "no scenario 'Cloud'"), ("Server", {"target": 1}, "no setting 'target'")],
)
def test_what_loadgen_does_not_know_is_named(
    scenario: str, settings: dict[str, int], words: str
) -> None:
    loadgen = pytest.importorskip("mlperf_loadgen", reason="run: pip install mlcommons-loadgen")
    from pytest_edgeai.worker.load import make_settings

    with pytest.raises(MeasurementError, match=words):
        make_settings(loadgen, scenario, settings)
