"""Workers without a network: what they try is seen, named and refused, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networked_frameworks import CALL_THAT_CONNECTS, HOST, NAME, PORT

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.errors import FrameworkMissing, ModelError
from pytest_edgeai.judge.no_network import judge_no_network, uncertified
from pytest_edgeai.measure.bench import Runnable, Samples
from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.measure.language import LanguagePlan
from pytest_edgeai.measure.network import TIMED_CALLS, Trial, watch_network
from pytest_edgeai.optimize.frameworks.catalogue import LLAMACPP, MLX, ONNXRUNTIME, OPENVINO
from pytest_edgeai.privacy_records import NetworkWatch
from pytest_edgeai.records import RuntimeOptions, Threshold
from pytest_edgeai.selfcheck.planted import FEATURES
from pytest_edgeai.worker.host import Worker, WorkerSpec

PLACE = f"{HOST}:{PORT}"
SAMPLES = 12
ZERO = Threshold(0.0, "at_most")
ONE_THREAD = RuntimeOptions(threads=1)
Watch = Callable[..., NetworkWatch]


def probe_guards(log: Path) -> list[str]:
    """Return the guards that this machine permits, as a worker of its own finds them."""
    spec = WorkerSpec(framework("call_harmless"), Path(sys.executable), network_log=log)
    with Worker.start(spec, time_limit_s=30):
        first = json.loads(log.read_text("utf-8").splitlines()[0])
    guards: list[str] = first["guards"]
    return guards


def framework(name: str) -> FrameworkDescriptor:
    """Return what describes a framework of ``networked_frameworks``."""
    return FrameworkDescriptor(
        name="networked",
        implementation=f"networked_frameworks:{name}",
        install="",
        distributions=("numpy",),
        formats=("onnx",),
        schemes={"convert": "float32"},
    )


@pytest.fixture(scope="module")
def guards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The guards that this machine permits."""
    return probe_guards(tmp_path_factory.mktemp("probe") / "log.jsonl")


@pytest.fixture
def watch(tmp_path: Path, guards: list[str]) -> Watch:
    """Return a function that watches a planted framework; skips where nothing can be watched."""
    if "kernel" not in guards:
        pytest.skip("this machine permits no system call filter; run on Linux 5.6 or newer")
    np.save(tmp_path / "x.npy", np.zeros((SAMPLES, FEATURES), np.float32))

    def run(name: str, **changes: Any) -> NetworkWatch:
        runnable = Runnable(framework(name), Path(sys.executable), tmp_path / "m", ONE_THREAD)
        samples = Samples({"x": str(tmp_path / "x.npy")}, SAMPLES, Batching(1, fixed=True))
        trial = replace(Trial(runnable, samples, None, None, 60.0), **changes)
        return watch_network(trial, tmp_path / "trial", lambda what, done: None)

    return run


@pytest.mark.parametrize("step", ["import", "load", "call"])
@pytest.mark.parametrize(
    ("way", "kind", "to"),
    [
        ("python", "connect", PLACE),
        ("native", "connect", PLACE),
        ("datagram", "send", PLACE),
        ("message", "send", PLACE),
        ("lookup", "lookup", NAME),
        ("native-lookup", "lookup", NAME),
    ],
)
def test_an_attempt_is_named_with_its_step(
    watch: Watch, step: str, way: str, kind: str, to: str
) -> None:
    seen = watch(f"{step}_{way}")
    shown = "inference" if step == "call" else step
    assert (shown, kind, to) in [(a.step, a.kind, a.to) for a in seen.attempts]
    assert {a.step for a in seen.attempts} == {shown}
    assert seen.proved
    verdict = judge_no_network(seen, ZERO)
    assert verdict.outcome == "fail"
    assert to in verdict.reason
    assert f"at {shown}" in verdict.reason


def test_what_a_child_process_tries_is_named(watch: Watch) -> None:
    (attempt,) = watch("load_child").attempts
    assert (attempt.to, attempt.protocol) == (PLACE, "TCP")
    assert attempt.by.startswith("python")


def test_an_open_port_is_an_attempt(watch: Watch) -> None:
    (attempt,) = watch("import_listening").attempts
    assert (attempt.kind, attempt.to) == ("listen", f"0.0.0.0:{PORT}")


def test_a_model_that_needs_the_network_says_whom(watch: Watch) -> None:
    seen = watch("needs_python")
    verdict = judge_no_network(seen, ZERO)
    assert verdict.outcome == "fail"
    assert f"connected to {PLACE} (TCP) at load" in verdict.reason
    assert "the license server does not answer" in verdict.reason


def test_a_model_that_fails_by_itself_is_no_attempt(watch: Watch) -> None:
    with pytest.raises(ModelError, match="license server"):
        watch("needs_harmless")


@pytest.mark.parametrize("step", ["import", "load", "call"])
def test_what_stays_on_the_machine_passes(watch: Watch, step: str) -> None:
    seen = watch(f"{step}_harmless")
    assert seen.attempts == ()
    assert seen.local_sockets == ("/nowhere/local.socket",)
    assert not uncertified(seen)
    assert (seen.samples, seen.calls) == (SAMPLES, TIMED_CALLS + CALL_THAT_CONNECTS)
    assert judge_no_network(seen, ZERO).outcome == "pass"


def test_a_budget_bounds_the_samples(watch: Watch) -> None:
    seen = watch("call_harmless", budget_s=1e-9)
    assert (seen.samples, seen.proved) == (1, True)


def test_it_is_watched_as_long_as_asked(watch: Watch) -> None:
    assert watch("call_harmless", watch_s=4.0).watched_s >= 4.0


def test_the_watch_ends_with_its_worker(
    watch: Watch, tmp_path: Path, wait_until_gone: Callable[[int], bool]
) -> None:
    import psutil

    spec = WorkerSpec(
        framework("call_harmless"), Path(sys.executable), network_log=tmp_path / "log.jsonl"
    )
    with Worker.start(spec, time_limit_s=30) as worker:
        children = psutil.Process(worker.pid).children()
        assert len(children) == 1
    assert wait_until_gone(children[0].pid)


HOOKED = """
import os, sys, socket
sys.path[:0] = {paths!r}
from pytest_edgeai.worker.isolation import audit_hook
import networked_frameworks
log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(audit_hook(lambda line: os.write(log, line)))
networked_frameworks.WAYS[{way!r}]()
"""


@pytest.mark.parametrize(
    ("way", "attempt"),
    [
        ("python", ("connect", PLACE)),
        ("datagram", ("send", PLACE)),
        ("message", ("send", PLACE)),
        ("lookup", ("lookup", NAME)),
        ("listening", ("listen", f"0.0.0.0:{PORT}")),
        ("harmless", None),
    ],
)
def test_the_guard_of_python_names_what_python_tries(
    tmp_path: Path, way: str, attempt: tuple[str, str] | None
) -> None:
    """It refuses before the system is asked, so this test leaves the network alone."""
    if sys.platform == "win32" and way in ("message", "harmless"):
        pytest.skip("Windows has neither sendmsg nor Unix sockets")
    log = tmp_path / "log.jsonl"
    root = Path(__file__).parents[2]
    paths = [str(root), str(root / "tests")]
    code = HOOKED.format(paths=paths, log=str(log), way=way)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert {(line["kind"], line["to"]) for line in lines} == ({attempt} if attempt else set())


UNPRIVILEGED = """
import ctypes, json, os, struct, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from pytest_edgeai.worker.isolation import isolate
from pytest_edgeai.worker.network import probe_network
header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
assert ctypes.CDLL(None).capset(header, ctypes.create_string_buffer(24)) == 0
before = os.getuid(), os.getgid()
isolate(Path({log!r}))
print(json.dumps([probe_network(), before == (os.getuid(), os.getgid())]))
sys.stdout.flush()
os._exit(0)
"""


def test_it_needs_no_privilege(guards: list[str], tmp_path: Path) -> None:
    if "kernel" not in guards:
        pytest.skip("this machine permits no system call filter; run on Linux 5.6 or newer")
    log = tmp_path / "log.jsonl"
    code = UNPRIVILEGED.format(root=str(Path(__file__).parents[2]), log=str(log))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == [{"refused": True}, True], done.stderr
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert "kernel" in lines[0]["guards"]
    assert ("connect", "192.0.2.1:9") in [(line["kind"], line["to"]) for line in lines]


def healthy(trial: Trial, folder: Path) -> NetworkWatch:
    """Watch a real framework, or skip where it is missing."""
    try:
        seen = watch_network(trial, folder, lambda what, done: None)
    except FrameworkMissing as missing:
        pytest.skip(str(missing))
    if "kernel" not in seen.guards:
        pytest.skip("this machine permits no system call filter; run on Linux 5.6 or newer")
    return seen


@pytest.mark.parametrize("descriptor", [ONNXRUNTIME, OPENVINO], ids=lambda each: each.name)
def test_healthy_runtimes_of_tensors_pass(
    convolution: Any, tmp_path: Path, descriptor: FrameworkDescriptor
) -> None:
    model = convolution()
    arrays = {name: str(path) for name, path in model.arrays.items()}
    samples = Samples(arrays, len(model.expected), Batching(4, fixed=False))
    runnable = Runnable(descriptor, Path(sys.executable), model.path, ONE_THREAD)
    seen = healthy(Trial(runnable, samples, None, None, 60.0), tmp_path / "trial")
    verdict = judge_no_network(seen, ZERO)
    assert (verdict.outcome, verdict.samples) == ("pass", len(model.expected)), verdict.reason


@pytest.mark.parametrize("descriptor", [LLAMACPP, MLX], ids=lambda each: each.name)
def test_healthy_language_runtimes_pass(tmp_path: Path, descriptor: FrameworkDescriptor) -> None:
    lm = pytest.importorskip("language_models")
    config = lm.llama_config(intermediate_size=128, num_hidden_layers=2)
    if descriptor is MLX:
        path = lm.write_huggingface(tmp_path / "model", config)
    else:
        pytest.importorskip("gguf", reason=LLAMACPP.install)
        path = lm.write_gguf(
            tmp_path / "model.gguf", parameters=400_000, hidden=64, vocabulary=512, context=64
        )
    np.save(tmp_path / "ids.npy", lm.random_tokens(config, 64).reshape(2, 32))
    plan = LanguagePlan(str(tmp_path / "ids.npy"), 2, 32, 16)
    runnable = Runnable(descriptor, Path(sys.executable), path, ONE_THREAD)
    samples = Samples({}, 2, Batching(1, fixed=True))
    seen = healthy(Trial(runnable, samples, plan, None, 60.0, watch_s=5.0), tmp_path / "trial")
    verdict = judge_no_network(seen, ZERO)
    assert (verdict.outcome, verdict.samples) == ("pass", 2), verdict.reason
