"""Start an interpreter as a worker: its environment, its pipes, and where it finds its code."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.errors import UserError
from pytest_edgeai.worker.channel import Channel, open_channel

BOOTSTRAP = Path(__file__).with_name("__main__.py")

# What an interpreter and the libraries below it need to work at all. Everything else that could
# change a measurement (OMP_NUM_THREADS, MALLOC_*, LD_PRELOAD) or break another interpreter
# (PYTHONPATH, PYTHONHOME, VIRTUAL_ENV) stays out, unless the specification names it.
_KEPT = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"),
        *("SYSTEMROOT", "WINDIR", "COMSPEC", "PATHEXT", "SYSTEMDRIVE", "PROGRAMDATA"),
        *("PROGRAMFILES", "PROGRAMFILES(X86)", "USERPROFILE", "APPDATA", "LOCALAPPDATA"),
        *("NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE", "PROCESSOR_IDENTIFIER"),
        *("CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
        *("NVIDIA_DRIVER_CAPABILITIES", "ROCR_VISIBLE_DEVICES", "OCL_ICD_VENDORS"),
    )
)
_KEPT_PREFIXES = ("LC_", "XDG_", "HF_")

NO_TELEMETRY: Mapping[str, str] = {
    "ORT_DISABLE_TELEMETRY": "1",
    "OLIVE_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
}
"""Switches off what frameworks report about their users, in every worker. ONNX Runtime 1.31 writes
an identifier below the home directory as soon as it is imported, before its own switch can be
called. OpenVINO and NNCF know no variable; their adapter keeps openvino_telemetry out."""


@dataclass(frozen=True)
class WorkerSpec:
    """Which framework to run, and in which interpreter.

    Attributes:
        framework: the framework to import.
        interpreter: path of a Python 3.11 or newer that has the framework and NumPy.
        environment: further variables of the worker's environment.
        network_log: cuts the worker off from the network and has every attempt to reach one written
            to this file, see :func:`pytest_edgeai.worker.isolation.isolate`; ``None`` for neither.
    """

    framework: FrameworkDescriptor
    interpreter: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    network_log: Path | None = None


def worker_environment(
    inherited: Mapping[str, str], extra: Mapping[str, str], scratch: Path
) -> dict[str, str]:
    """Return the environment of a worker.

    Args:
        inherited: the parent's environment, of which only an allowlist is kept.
        extra: variables that are set as they are.
        scratch: folder for temporary files, removed with the worker.
    """
    kept = {
        name: value
        for name, value in inherited.items()
        if name.upper() in _KEPT or name.upper().startswith(_KEPT_PREFIXES)
    }
    folders = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    python = {"PYTHONIOENCODING": "utf-8:backslashreplace"}
    return {**kept, **folders, **python, **NO_TELEMETRY, **extra}


def locate(descriptor: FrameworkDescriptor) -> dict[str, dict[str, object]]:
    """Return where the top-level module of the framework's implementation lies.

    Nothing is imported for it. An empty table means that the worker must find the module by itself.

    Returns:
        module name to ``{"origin": file or None, "search": package folders or None}``.
    """
    name = descriptor.implementation.partition(":")[0].partition(".")[0]
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module without a specification, such as __main__
        spec = None
    if spec is None or name == __name__.partition(".")[0]:
        return {}
    search = spec.submodule_search_locations
    return {
        name: {
            "origin": spec.origin if spec.has_location else None,
            "search": None if search is None else [os.fspath(folder) for folder in search],
        }
    }


def shared_path(interpreter: Path) -> list[str]:
    """Return the parent's import path where ``interpreter`` is the parent's own, else nothing.

    Compared without following links: a virtual environment's Python links to that of its maker.
    """
    own = Path(sys.executable).absolute()
    if os.path.normcase(interpreter.absolute()) != os.path.normcase(own):
        return []
    return [str(Path(entry).absolute()) for entry in sys.path if entry]


@dataclass
class Launched:
    """A started interpreter, before it has said anything.

    Attributes:
        process: the interpreter; on POSIX the leader of a session of its own.
        channel: the pipes.
        lifeline: a descriptor whose closing ends the worker; only this process holds it.
        scratch: folder of the worker's temporary files.
    """

    process: subprocess.Popen[bytes]
    channel: Channel
    lifeline: int
    scratch: Path

    def release(self) -> None:
        """Close the pipes and remove the temporary files of a process that is dead."""
        self.channel.close()
        if self.lifeline >= 0:
            _lifelines.discard(self.lifeline)
            os.close(self.lifeline)
            self.lifeline = -1
        shutil.rmtree(self.scratch, ignore_errors=True)


_lifelines: set[int] = set()


def _close_lifelines() -> None:
    """Let a forked copy of this process hold nobody alive."""
    for descriptor in _lifelines:
        os.close(descriptor)
    _lifelines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_lifelines)


def launch(spec: WorkerSpec) -> Launched:
    """Start ``spec.interpreter`` with the bootstrap.

    Raises:
        UserError: there is no such interpreter, or it cannot be executed.
    """
    scratch = Path(tempfile.mkdtemp(prefix=f"pytest-edgeai-worker-{os.getpid()}-"))
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(shutil.rmtree, scratch, ignore_errors=True)
        pipes = [_pipe(on_failure) for _ in range(4)]
        (requests_in, requests_out), (answers_in, answers_out) = pipes[0], pipes[1]
        (lifeline_in, lifeline_out), (output_in, output_out) = pipes[2], pipes[3]
        theirs = (requests_in, answers_out, lifeline_in)
        try:
            process = _spawn(spec, theirs, output_out, scratch)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                f"cannot start {spec.interpreter}: {reason}",
                where=where_interpreter(spec),
                allowed="the path of a Python 3.11 or newer",
            ) from error
        on_failure.pop_all()
    for descriptor in (*theirs, output_out):
        os.close(descriptor)
    channel = open_channel(answers_in, requests_out, output_in)
    _lifelines.add(lifeline_out)
    return Launched(process, channel, lifeline_out, scratch)


def where_interpreter(spec: WorkerSpec) -> str:
    """Return the manifest key that names the interpreter."""
    return f"[frameworks.{spec.framework.name}] python"


def _pipe(on_failure: contextlib.ExitStack) -> tuple[int, int]:
    read, write = os.pipe()
    on_failure.callback(os.close, read)
    on_failure.callback(os.close, write)
    return read, write


def _spawn(
    spec: WorkerSpec, descriptors: tuple[int, int, int], output: int, scratch: Path
) -> subprocess.Popen[bytes]:
    environment = worker_environment(os.environ, spec.environment, scratch)

    def command(numbers: tuple[int, ...]) -> list[str]:
        # Unbuffered, and with a traceback of fatal signals: the last words before a crash count.
        options = ["-u", "-X", "faulthandler"]
        words = [str(number) for number in numbers]
        if spec.network_log is not None:
            words.append(str(spec.network_log))
        return [str(spec.interpreter), *options, str(BOOTSTRAP), *words]

    if sys.platform == "win32":
        import msvcrt

        handles = tuple(msvcrt.get_osfhandle(descriptor) for descriptor in descriptors)
        for handle in handles:
            os.set_handle_inheritable(handle, True)
        startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": list(handles)})
        return subprocess.Popen(
            command(handles),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            startupinfo=startup,
            creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
        )
    return subprocess.Popen(
        command(descriptors),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        pass_fds=descriptors,
        start_new_session=True,
    )
