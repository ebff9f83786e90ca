"""Servers of two versions on this machine, and what asks them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.worker.launch import worker_environment

START_LIMIT_S = 120.0
ANSWER_LIMIT_S = 30.0
STOP_LIMIT_S = 10.0
_SERVING = re.compile(r"serving .* at http://127\.0\.0\.1:(\d+)\n")
_DTYPES = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BYTES": np.str_}


@dataclass
class ServedVersion:
    """A server process of one version.

    Attributes:
        name: what it is called in errors.
        process: the process.
        port: where it listens.
        planted_delay_s: further seconds before each of its answers; a planted fault.
    """

    name: str
    process: subprocess.Popen[str]
    port: int
    planted_delay_s: float = 0.0

    def __post_init__(self) -> None:
        """Prepare one connection, which stays open between requests."""
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=ANSWER_LIMIT_S
        )
        self._model = ""

    def metadata(self) -> dict[str, Any]:
        """Return what it says of its model.

        Raises:
            MeasurementError: it does not answer.
        """
        status, content = self._request("GET", f"/v2/models/{self.name}", None)
        if status != 200:
            raise MeasurementError(f"the server of the {self.name} does not describe its model")
        said: dict[str, Any] = json.loads(content)
        return said

    def ask(self, body: bytes) -> tuple[bool, float]:
        """Send one request; return whether it was answered, and the seconds that took."""
        begin = time.perf_counter()
        status, _ = self._request("POST", f"/v2/models/{self.name}/infer", body)
        return status == 200, time.perf_counter() - begin

    def answer(self, body: bytes) -> dict[str, NDArray[Any]]:
        """Return output name to array.

        Raises:
            MeasurementError: it refused the request; names its reason.
        """
        status, content = self._request("POST", f"/v2/models/{self.name}/infer", body)
        said = json.loads(content or b"{}")
        if status != 200:
            reason = said.get("error", "it gave no answer")
            raise MeasurementError(f"the server of the {self.name} refused a request: {reason}")
        return {
            each["name"]: np.asarray(each["data"], dtype=_DTYPES.get(each["datatype"])).reshape(
                each["shape"]
            )
            for each in said["outputs"]
        }

    def _request(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Return status and content; status 0 where there was no answer."""
        if self.planted_delay_s:
            time.sleep(self.planted_delay_s)
        try:
            self._connection.request(method, path, body)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, b""

    def kill(self) -> None:
        """End the process at once, as a crash does."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()


@contextlib.contextmanager
def served(name: str, interpreter: Path, folder: Path) -> Iterator[ServedVersion]:
    """Serve the bundle in ``folder`` by the server that it brings, on a free port of this host.

    Args:
        name: the model's name in the bundle.
        interpreter: a Python that has the runtime.
        folder: the bundle.

    Raises:
        MeasurementError: it did not serve; names the server's own reason.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        environment = worker_environment(os.environ, {}, Path(scratch))
        log = Path(scratch) / "stderr"
        with log.open("w", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [str(interpreter), "-m", "server", "--port", "0"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
            )
        try:
            port = _port(process)
            if port is None:
                process.kill()
                process.wait()
                said = log.read_text("utf-8", "replace").strip().splitlines()
                reason = said[-1] if said else f"nothing was said within {START_LIMIT_S:g} s"
                raise MeasurementError(f"the {name} could not be served: {reason}")
            version = ServedVersion(name, process, port)
            try:
                yield version
            finally:
                version.close()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _port(process: subprocess.Popen[str]) -> int | None:
    """Return the port that a server says it serves at; ``None`` where it says nothing in time."""
    timer = threading.Timer(START_LIMIT_S, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        match = _SERVING.fullmatch(process.stdout.readline())
        return int(match[1]) if match else None
    finally:
        timer.cancel()


def request_body(inputs: list[dict[str, Any]], feeds: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a request of the Open Inference Protocol.

    Args:
        inputs: the inputs as the server describes them.
        feeds: input name to array.
    """
    tensors = [
        {
            "name": each["name"],
            "datatype": each["datatype"],
            "shape": list(feeds[each["name"]].shape),
            "data": feeds[each["name"]].ravel().tolist(),
        }
        for each in inputs
    ]
    return json.dumps({"inputs": tensors}).encode()
