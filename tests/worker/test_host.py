"""Workers in real processes: what they answer, how they fail, and that nothing of them is left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import textwrap
import threading
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.errors import (
    EdgeAIError,
    FrameworkMissing,
    MeasurementError,
    ModelError,
    UserError,
    WorkerFailure,
)
from pytest_edgeai.records import Recipe, RuntimeOptions, TensorSpec
from pytest_edgeai.worker.channel import ThreadedChannel
from pytest_edgeai.worker.host import MEMORY_ENVIRONMENT, Worker, WorkerSpec, probe

RUNTIME = RuntimeOptions()
MakeSpec = Callable[..., WorkerSpec]


def load(worker: Worker, behavior: str, time_limit_s: float = 30) -> Any:
    return worker.request(
        "load", time_limit_s=time_limit_s, handle="model", path=behavior, runtime=RUNTIME
    )


def facts_of(worker: Worker) -> dict[str, str]:
    inputs = load(worker, "anything")["inputs"]
    return dict(spec["name"].split("=", 1) for spec in inputs)


# -- what a worker does


def test_start_tells_versions_and_where_it_runs(worker: Worker) -> None:
    assert worker.alive
    assert worker.pid != os.getpid()
    assert worker.python_version == sys.version.split()[0]
    assert worker.versions == {"numpy": np.__version__}


def test_time_calls_returns_one_entry_per_call(worker: Worker, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((5, 2), np.float32))
    load(worker, "healthy")
    arrays = {"x": tmp_path / "x.npy"}
    worker.request("prepare", time_limit_s=9, handle="model", arrays=arrays, first=0, batch=2)
    timed = worker.request("time_calls", time_limit_s=9, handle="model", calls=4)
    assert [len(timed[key]) for key in ("wall_ns", "cpu_ns", "preemptions")] == [4, 4, 4]
    assert min(timed["wall_ns"]) > 0
    assert min(timed["preemptions"]) >= 0


@pytest.mark.parametrize("model", ["dynamic-batch", "fixed-batch"])
def test_evaluate_covers_all_samples_in_order(worker: Worker, tmp_path: Path, model: str) -> None:
    x = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.save(tmp_path / "x.npy", x)
    load(worker, model)
    done = worker.request(
        "evaluate",
        time_limit_s=9,
        handle="model",
        arrays={"x": tmp_path / "x.npy"},
        samples=7,
        batch=3,
        output=tmp_path / "out",
    )
    np.testing.assert_array_equal(np.load(done["outputs"]["y"]), x * 2)
    assert 0 < done["run_seconds"] <= done["seconds"]


def test_optimize_reports_progress_and_reads_calibration(worker: Worker, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((6, 2), np.float32))
    seen: list[tuple[str, float]] = []
    made = worker.request(
        "optimize",
        time_limit_s=9,
        on_progress=lambda what, fraction: seen.append((what, fraction)),
        **optimize_arguments(tmp_path),
    )
    assert Path(made["path"]).read_text() == "12.0"
    assert made["log"] == ["added", "faulty-convert"]
    assert seen == [("adding", 0.0), ("adding", 1 / 3), ("adding", 2 / 3)]


def test_optimize_without_an_artifact_is_an_error(worker: Worker, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((6, 2), np.float32))
    arguments = optimize_arguments(tmp_path, write=False)
    with pytest.raises(ModelError, match=r"made no model total\.txt"):
        worker.request("optimize", time_limit_s=9, **arguments)


def optimize_arguments(folder: Path, **options: object) -> dict[str, Any]:
    return {
        "source": folder / "source.onnx",
        "recipe": Recipe("faulty", "convert", options),
        "architecture": "other",
        "inputs": [TensorSpec("x", "float32", (None, 2))],
        "calibration": {"arrays": {"x": folder / "x.npy"}, "batch": 2},
        "output": folder / "made",
    }


def test_execution_and_unload(worker: Worker) -> None:
    load(worker, "healthy")
    facts = worker.request("execution", time_limit_s=9, handle="model")
    assert facts == {
        "executed_precisions": {"float32": 1},
        "executed_devices": ["CPU"],
        "weight_elements": {},
        "quantized_operators": {},
    }
    worker.request("unload", time_limit_s=9, handle="model")
    with pytest.raises(WorkerFailure, match="no model is loaded as 'model'"):
        worker.request("execution", time_limit_s=9, handle="model")


def test_memory_is_measured_in_a_fresh_process_only(worker: Worker, tmp_path: Path) -> None:
    load(worker, "healthy")
    np.save(tmp_path / "x.npy", np.ones((1, 2), np.float32))
    with pytest.raises(MeasurementError, match="done nothing before"):
        worker.request("measure_memory", time_limit_s=9, **memory_arguments(tmp_path))


def test_memory_environment_reaches_the_worker(make_spec: MakeSpec) -> None:
    spec = make_spec("WhereAmI", **MEMORY_ENVIRONMENT)
    with Worker.start(spec, time_limit_s=30) as worker:
        assert "MALLOC_MMAP_THRESHOLD_" in facts_of(worker)["environment"].split()


def memory_arguments(folder: Path) -> dict[str, Any]:
    return {
        "path": "healthy",
        "runtime": RUNTIME,
        "arrays": {"x": folder / "x.npy"},
        "first": 0,
        "batch": 1,
        "calls": 2,
    }


def test_two_workers_live_at_once(make_spec: MakeSpec) -> None:
    with (
        Worker.start(make_spec(), time_limit_s=30) as first,
        Worker.start(make_spec(), time_limit_s=30) as second,
    ):
        assert first.pid != second.pid
        for _ in range(3):
            assert load(first, "healthy")["outputs"] == load(second, "healthy")["outputs"]
        with pytest.raises(WorkerFailure):
            load(first, "segfault")
        assert second.alive
        load(second, "healthy")


def test_worker_over_threads(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, is_running: Callable[[int], bool]
) -> None:
    """The channel of Windows, over the pipes of this platform."""
    monkeypatch.setattr("pytest_edgeai.worker.launch.open_channel", ThreadedChannel)
    threads = threading.active_count()
    with Worker.start(make_spec(), time_limit_s=30) as worker:
        for behavior in ("healthy", "garbage", "flood", "healthy"):
            assert load(worker, behavior)["outputs"][0]["name"] == "y"
        with pytest.raises(WorkerFailure, match="ValueError: the framework says"):
            load(worker, "exception")
        with pytest.raises(WorkerFailure, match=r"no answer within 0\.3 s"):
            load(worker, "hang", time_limit_s=0.3)
    assert not is_running(worker.pid)
    assert threading.active_count() == threads


# -- how it fails


@pytest.mark.parametrize(
    ("behavior", "message", "tail"),
    [
        ("segfault", "killed by SIGSEGV", "Fatal Python error: Segmentation fault"),
        ("killed", "killed by SIGKILL", ""),
        ("exit", "exited with code 7", ""),
    ],
)
def test_crash_is_named(worker: Worker, behavior: str, message: str, tail: str) -> None:
    with pytest.raises(WorkerFailure, match=message) as caught:
        load(worker, behavior)
    assert str(caught.value).startswith("faulty worker, load: ")
    assert tail in caught.value.output_tail
    assert not worker.alive
    with pytest.raises(WorkerFailure, match=f"not running: it {message}"):
        load(worker, "healthy")


@pytest.mark.parametrize("behavior", ["hang", "hang-with-interpreter-lock"])
def test_hang_ends_at_the_time_limit(
    worker: Worker, behavior: str, is_running: Callable[[int], bool]
) -> None:
    with pytest.raises(WorkerFailure, match=re.escape("no answer within 0.3 s")):
        load(worker, behavior, time_limit_s=0.3)
    assert not is_running(worker.pid)
    assert not worker.alive


@pytest.mark.parametrize(
    ("behavior", "kind", "message"),
    [
        ("exception", WorkerFailure, "faulty worker, load: ValueError: the framework says"),
        ("memory", WorkerFailure, "ran out of memory (MemoryError: 4096 GiB asked for)"),
        ("model-error", ModelError, "here: unfit; allowed: fit ones. Try another"),
        ("user-error", UserError, "there: wrong"),
        ("sys-exit", WorkerFailure, "SystemExit: the framework wants to go"),
        ("missing-import", WorkerFailure, "No module named 'a_module_that_nobody_has'"),
    ],
)
def test_exception_crosses_and_the_worker_survives(
    worker: Worker, behavior: str, kind: type[EdgeAIError], message: str
) -> None:
    with pytest.raises(EdgeAIError, match=re.escape(message)) as caught:
        load(worker, behavior)
    assert type(caught.value) is kind
    load(worker, "healthy")


def test_traceback_of_an_exception_is_in_the_output(worker: Worker) -> None:
    with pytest.raises(WorkerFailure) as caught:
        load(worker, "exception")
    assert "about to fail" in caught.value.output_tail
    assert "_exception" in caught.value.output_tail
    assert caught.value.output_tail.endswith("ValueError: the framework says\nno")


def test_garbage_on_stdout_does_not_reach_the_protocol(worker: Worker) -> None:
    for _ in range(3):
        assert load(worker, "garbage")["outputs"][0]["name"] == "y"
    tail = worker.output_tail()
    assert "hello" in tail
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", tail)


def test_garbage_before_the_bootstrap(make_spec: MakeSpec, tmp_path: Path) -> None:
    code = "import os; os.write(1, bytes(range(256)) * 300); os.write(2, b'early bird\\n')"
    (tmp_path / "sitecustomize.py").write_text(code)
    with Worker.start(make_spec(PYTHONPATH=str(tmp_path)), time_limit_s=30) as worker:
        load(worker, "healthy")
        assert "early bird" in worker.output_tail()


def test_flood_of_output_is_drained_and_capped(worker: Worker) -> None:
    load(worker, "flood", time_limit_s=60)
    tail = worker.output_tail()
    assert tail.endswith("the last line")
    assert len(tail) <= 64 * 1024


def test_import_error_of_an_installed_framework(make_spec: MakeSpec) -> None:
    with pytest.raises(WorkerFailure, match=r"libfaulty\.so\.1: cannot open shared object"):
        Worker.start(make_spec("CannotImport"), time_limit_s=30)


def test_import_error_of_a_missing_framework(make_spec: MakeSpec) -> None:
    spec = make_spec("CannotImport", distributions=("numpy", "not-there-at-all"))
    with pytest.raises(FrameworkMissing, match="run: pip install faulty") as caught:
        Worker.start(spec, time_limit_s=30)
    assert sys.executable in str(caught.value)


def test_missing_distribution_alone_is_no_error(make_spec: MakeSpec) -> None:
    spec = make_spec(distributions=("numpy", "not-there-at-all"))
    with (
        Worker.start(spec, time_limit_s=30) as worker,
        pytest.raises(FrameworkMissing, match="a_module_that_nobody_has"),
    ):
        load(worker, "missing-import")


def test_crash_while_importing(make_spec: MakeSpec) -> None:
    with pytest.raises(WorkerFailure, match="faulty worker, start: killed by SIGSEGV"):
        Worker.start(make_spec("CrashesOnImport"), time_limit_s=30)


def test_hang_while_importing(make_spec: MakeSpec) -> None:
    with pytest.raises(WorkerFailure, match=r"no answer within 2 s"):
        Worker.start(make_spec("HangsOnImport"), time_limit_s=2)


def test_implementation_that_does_not_exist(make_spec: MakeSpec) -> None:
    with pytest.raises(WorkerFailure, match="has no attribute 'Nonexistent'"):
        Worker.start(make_spec("Nonexistent"), time_limit_s=30)


def test_interrupt_ends_the_worker(
    worker: Worker, tmp_path: Path, is_running: Callable[[int], bool]
) -> None:
    np.save(tmp_path / "x.npy", np.ones((6, 2), np.float32))

    def interrupt(what: str, fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.request(
            "optimize", time_limit_s=9, on_progress=interrupt, **optimize_arguments(tmp_path)
        )
    assert not is_running(worker.pid)
    with pytest.raises(WorkerFailure, match="it was interrupted"):
        load(worker, "healthy")


# -- interpreters


def test_probe_imports_nothing(make_spec: MakeSpec) -> None:
    spec = make_spec("CrashesOnImport", distributions=("numpy", "not-there-at-all"))
    found = probe(spec, time_limit_s=30)
    assert found.python_version == sys.version.split()[0]
    assert found.versions == {"numpy": np.__version__}
    assert found.missing == ("not-there-at-all",)


@pytest.mark.parametrize("name", ["nothing-here", "not-executable", "not-python", "prints"])
def test_wrong_interpreter_names_the_key(make_spec: MakeSpec, tmp_path: Path, name: str) -> None:
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    script(tmp_path / "not-python", "#!/bin/sh\nexit 3\n")
    script(tmp_path / "prints", "#!/bin/sh\necho I am no Python >&2\nexit 3\n")
    spec = make_spec(interpreter=tmp_path / name)
    for attempt in (probe, Worker.start):
        with pytest.raises(UserError) as caught:
            attempt(spec, time_limit_s=30)
        assert str(caught.value).startswith("[frameworks.faulty] python: ")
        assert "allowed: the path of a Python 3.11 or newer" in str(caught.value)
        if name == "prints":
            assert "exited with code 3 (I am no Python)" in str(caught.value)


def test_old_python_is_refused(make_spec: MakeSpec, tmp_path: Path) -> None:
    code = f"""\
    #!{sys.executable}
    import json, os, struct, sys, time
    hello = {{"type": "hello", "python_version": "3.8.1", "version_info": [3, 8, 1],
              "executable": "x", "pid": os.getpid()}}
    body = json.dumps(hello).encode()
    os.write(int(sys.argv[-2]), struct.pack("!I", len(body)) + body)
    time.sleep(100)
    """
    script(tmp_path / "python3.8", textwrap.dedent(code))
    with pytest.raises(UserError, match=r"is Python 3\.8\.1, which is too old"):
        Worker.start(make_spec(interpreter=tmp_path / "python3.8"), time_limit_s=30)


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """The Python of a virtual environment that has NumPy and nothing else."""
    folder = tmp_path / "venv"
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    ours = Path(np.__file__).parents[1]
    for found in ours.glob("numpy*"):
        (Path(site) / found.name).symlink_to(found, target_is_directory=True)
    return python


def test_interpreter_without_this_package(make_spec: MakeSpec, other_python: Path) -> None:
    plain = subprocess.run([other_python, "-I", "-c", "import pytest_edgeai"], capture_output=True)
    assert plain.returncode != 0
    with Worker.start(make_spec("WhereAmI", interpreter=other_python), time_limit_s=60) as worker:
        facts = facts_of(worker)
        assert Path(facts["executable"]) == other_python
        assert Path(facts["module"]) == Path(__file__).with_name("faulty_frameworks.py")
        # Only the two modules are lent: no folder of this interpreter is on the other's path.
        assert str(Path(__file__).parent) not in facts["path"].split(os.pathsep)
        assert str(Path(np.__file__).parents[1]) not in facts["path"].split(os.pathsep)
        assert worker.versions == {"numpy": np.__version__}


def test_interpreter_without_numpy(make_spec: MakeSpec, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=os.name != "nt")
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    spec = make_spec(interpreter=python)
    assert probe(spec, time_limit_s=30).missing == ("numpy",)
    with pytest.raises(FrameworkMissing, match="No module named 'numpy'"):
        Worker.start(spec, time_limit_s=30)


def test_working_directory_shadows_nothing(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "json", "protocol", "pytest_edgeai"):
        (tmp_path / f"{name}.py").write_text("raise SystemError('shadowed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with Worker.start(make_spec("WhereAmI"), time_limit_s=30) as worker:
        facts = facts_of(worker)
    assert Path(facts["package"]).parent.name == "pytest_edgeai"
    assert "OMP_NUM_THREADS" not in facts["environment"].split()
    folder = Path(facts["package"]).parent / "worker"
    assert str(folder) not in facts["path"].split(os.pathsep)


# -- nothing is left


def test_close_is_idempotent_and_reaps(
    make_spec: MakeSpec, is_running: Callable[[int], bool]
) -> None:
    worker = Worker.start(make_spec(), time_limit_s=30)
    worker.close()
    worker.close()
    assert not is_running(worker.pid)
    assert not worker.alive
    with pytest.raises(ChildProcessError):
        os.waitpid(worker.pid, os.WNOHANG)


def test_grandchild_dies_with_the_worker(
    worker: Worker, wait_until_gone: Callable[[int], bool], is_running: Callable[[int], bool]
) -> None:
    load(worker, "grandchild")
    grandchild = int(worker.output_tail().split()[-1])
    assert is_running(grandchild)
    worker.close()
    assert wait_until_gone(grandchild)


def test_grandchild_dies_with_a_crashed_worker(
    worker: Worker, wait_until_gone: Callable[[int], bool]
) -> None:
    load(worker, "grandchild")
    grandchild = int(worker.output_tail().split()[-1])
    with pytest.raises(WorkerFailure):
        load(worker, "segfault")
    assert wait_until_gone(grandchild)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
def test_no_descriptor_and_no_folder_is_leaked(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    with Worker.start(make_spec(), time_limit_s=30) as worker:
        load(worker, "healthy")
        assert list(tmp_path.iterdir())
    with pytest.raises(WorkerFailure):
        Worker.start(make_spec("CrashesOnImport"), time_limit_s=30)
    with pytest.raises(UserError):
        Worker.start(make_spec(interpreter=tmp_path / "nowhere"), time_limit_s=30)
    with Worker.start(make_spec(), time_limit_s=30) as worker, pytest.raises(WorkerFailure):
        load(worker, "hang", time_limit_s=0.2)
    assert descriptors() == before
    assert list(tmp_path.iterdir()) == []


PARENT = """\
import os, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.records import RuntimeOptions
from pytest_edgeai.worker.host import Worker, WorkerSpec
framework = FrameworkDescriptor("faulty", "faulty_frameworks:Faulty", "", ("numpy",), (), {{}})

def start():
    worker = Worker.start(WorkerSpec(framework, Path(sys.executable)), time_limit_s=30)
    worker.request(
        "load", time_limit_s=30, handle="m", path="grandchild", runtime=RuntimeOptions()
    )
    print(worker.pid, worker.output_tail().split()[-1], flush=True)
    return worker

worker = start()
{then}
"""


@pytest.mark.parametrize(
    "then",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "sys.exit(0)",
        "raise KeyboardInterrupt",
        # While the worker is stuck and holds its interpreter lock.
        "signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))\n"
        "signal.alarm(1)\n"
        "worker.request('load', time_limit_s=60, handle='m', path='hang-with-interpreter-lock', "
        "runtime=RuntimeOptions())",
        # A worker that another thread started outlives that thread, and not the process.
        "import threading\n"
        "thread = threading.Thread(target=lambda: globals().update(other=start()))\n"
        "thread.start(); thread.join()\n"
        "assert other.alive and other.request('unload', time_limit_s=9, handle='x') == {}\n"
        "os.kill(os.getpid(), signal.SIGKILL)",
        # A forked copy of the parent holds nothing open that keeps a worker alive.
        "if os.fork() == 0:\n"
        "    import time\n"
        "    os.close(1); os.close(2); time.sleep(40); os._exit(0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)",
    ],
    ids=[
        "killed",
        "exits",
        "interrupted",
        "killed-while-stuck",
        "killed-after-thread",
        "killed-after-fork",
    ],
)
def test_nothing_outlives_the_parent(
    then: str, tmp_path: Path, wait_until_gone: Callable[[int], bool]
) -> None:
    package = Path(__file__).parents[2]
    code = PARENT.format(path=[str(package), str(Path(__file__).parent)], then=then)
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    pids = [int(word) for word in ran.stdout.split()]
    assert len(pids) == (4 if "thread" in then else 2), ran.stderr
    assert "AssertionError" not in ran.stderr
    for pid in pids:
        assert wait_until_gone(pid)
