"""The server of a bundle, started as a container starts it, and asked over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import dynamic_batch, float16_classifier, int64_classifier, require, several_inputs
from models import string_output as string_model
from networks import small_cnn
from promotions import bundle_of

from pytest_edgeai.digests import digest_files
from pytest_edgeai.records import Artifact

ort = require("onnxruntime", "onnx")
DATATYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "int64": "INT64",
}


@dataclass
class Client:
    """A served bundle."""

    process: subprocess.Popen[str]
    connection: http.client.HTTPConnection
    name: str

    def get(self, path: str) -> tuple[int, str]:
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        return answer.status, answer.read().decode()

    def post(self, body: bytes, path: str = "") -> tuple[int, Any]:
        self.connection.request("POST", path or f"/v2/models/{self.name}/infer", body)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def infer(self, feeds: dict[str, Any], **more: Any) -> tuple[int, Any]:
        inputs = [
            {
                "name": name,
                "datatype": DATATYPES[array.dtype.name],
                "shape": list(array.shape),
                "data": array.tolist(),
            }
            for name, array in feeds.items()
        ]
        return self.post(json.dumps({"inputs": inputs, **more}).encode())


def artifact_of(path: Path, framework: str = "onnxruntime") -> Artifact:
    return Artifact(
        path=path,
        files=(path,),
        framework=framework,
        claimed_precision="float32",
        sha256=digest_files([path], path.parent),
        size_bytes=path.stat().st_size,
        key="ab" * 32,
        from_cache=False,
        seconds=1.0,
        versions={framework: "1"},
    )


@contextlib.contextmanager
def serving(bundle: Path, *arguments: str) -> Iterator[Client]:
    command = [sys.executable, "-m", "server", "--port", "0", *arguments]
    process = subprocess.Popen(
        command, cwd=bundle, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        match = re.fullmatch(r"serving (\S+) [0-9a-f]{12} at http://127\.0\.0\.1:(\d+)\n", line)
        assert match, line + process.stderr.read()
        connection = http.client.HTTPConnection("127.0.0.1", int(match[2]), timeout=20)
        with contextlib.closing(connection):
            yield Client(process, connection, match[1])
    finally:
        process.kill()
        process.communicate()


def refusal(bundle: Path, *arguments: str) -> str:
    """Return the one line with which a bundle is not served."""
    command = [sys.executable, "-m", "server", "--port", "0", *arguments]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served")
    project = dynamic_batch(place)
    return bundle_of(artifact_of(project.model), place / "promoted")


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[Client]:
    with serving(bundle) as client:
        yield client


@pytest.mark.parametrize("framework", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "make", [dynamic_batch, several_inputs, int64_classifier, float16_classifier, small_cnn]
)
def test_it_answers_as_the_runtime_does(
    make: Callable[[Path], Any], framework: str, tmp_path: Path
) -> None:
    require(framework, "intel")
    project = make(tmp_path)
    session = ort.InferenceSession(str(project.model), providers=["CPUExecutionProvider"])
    with np.load(project.data) as data:
        feeds = {node.name: data[node.name][:1] for node in session.get_inputs()}
    expected = session.run(None, feeds)
    with serving(bundle_of(artifact_of(project.model, framework), tmp_path / "p")) as client:
        status, answer = client.infer(feeds, id="a")
        assert (status, answer["id"]) == (200, "a"), answer
        for node, value in zip(session.get_outputs(), expected, strict=True):
            (given,) = [each for each in answer["outputs"] if each["name"] == node.name]
            array = np.asarray(given["data"]).reshape(given["shape"])
            tolerance = 2e-3 if value.dtype == np.float16 else 1e-4
            np.testing.assert_allclose(array, value, rtol=tolerance, atol=tolerance)


def test_a_model_that_answers_in_strings(tmp_path: Path) -> None:
    project = string_model(tmp_path)
    with serving(bundle_of(artifact_of(project.model), tmp_path / "p")) as client:
        _, text = client.get(f"/v2/models/{client.name}")
        (given,) = json.loads(text)["inputs"]
        with np.load(project.data) as data:
            status, answer = client.infer({given["name"]: data[given["name"]][:2]})
    assert status == 200
    assert "BYTES" in {each["datatype"] for each in answer["outputs"]}


def test_health_metadata_and_metrics(client: Client) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{client.name}/ready"):
        assert client.get(path)[0] == 200
    status, text = client.get(f"/v2/models/{client.name}")
    about = json.loads(text)
    assert (status, about["platform"]) == (200, "onnxruntime")
    (version,) = about["versions"]
    assert client.get(f"/v2/models/{client.name}/versions/{version}")[0] == 200
    assert [each["shape"][0] for each in about["inputs"]] == [-1]
    assert client.get("/v2/models/other")[0] == 404
    before = counted(client)
    client.post(b"")
    assert counted(client).get("400", 0) == before.get("400", 0) + 1


def counted(client: Client) -> dict[str, int]:
    found = re.findall(r'requests_total\{.*status="(\d+)"\} (\d+)', client.get("/metrics")[1])
    return {status: int(count) for status, count in found}


def wrong(**changed: Any) -> bytes:
    given = {"name": "x", "datatype": "FP32", "shape": [1, 8], "data": [0.0] * 8, **changed}
    return json.dumps({"inputs": [given]}).encode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is no JSON"),
        (b"\xff", "the body is no JSON"),
        (b"[" * 100_000, "the body is no JSON"),
        (b"null", "is a list of tensors with names"),
        (b'["a"]', "is a list of tensors with names"),
        (b'{"inputs": 3}', "is a list of tensors with names"),
        (b'{"inputs": [3]}', "is a list of tensors with names"),
        (b'{"inputs": [{"name": "x"}, {"name": "x"}]}', '"inputs" names a tensor twice'),
        (wrong(name="y"), "the model takes ['NAME']"),
        (wrong(datatype="INT64"), "it takes FP32"),
        (wrong(shape=[1, 9]), "it takes [-1, N]"),
        (wrong(shape=[-1, 8]), "it takes [-1, N]"),
        (wrong(shape="all"), "it takes [-1, N]"),
        (wrong(data=[0.0]), "has 1 numbers"),
        (wrong(data=["a"] * 8), "has no data that is FP32"),
        (wrong(data=[float("nan")] * 8), "has no data that is FP32"),
        (wrong(data=[[0.0], [1.0, 2.0]]), "has no data that is FP32"),
        (wrong(data=None), "has no data that is FP32"),
    ],
)
def test_a_wrong_request_is_refused_and_the_next_one_answered(
    client: Client, body: bytes, words: str
) -> None:
    (given,) = json.loads(client.get(f"/v2/models/{client.name}")[1])["inputs"]
    name, width = given["name"], given["shape"][1]
    body = body.replace(b'"x"', json.dumps(name).encode()).replace(
        b"[1, 8]", f"[1, {width}]".encode()
    )
    status, answer = client.post(body)
    assert status == 400
    assert words.replace("NAME", name).replace("N]", f"{width}]") in answer["error"]
    assert client.infer({name: np.zeros((2, width), np.float32)})[0] == 200


def test_what_is_too_large_or_elsewhere_is_refused(bundle: Path) -> None:
    with serving(bundle, "--most-bytes", "10") as client:
        assert client.post(b" " * 11)[0] == 413
        assert client.post(b"{}", "/v2/models/other/infer")[0] == 404


def test_a_number_that_an_integer_cannot_hold_is_not_rounded(tmp_path: Path) -> None:
    project = int64_classifier(tmp_path)
    with serving(bundle_of(artifact_of(project.model), tmp_path / "p")) as client:
        (given,) = json.loads(client.get(f"/v2/models/{client.name}")[1])["inputs"]
        shape = [1, *given["shape"][1:]]
        data = [1.5] * int(np.prod(shape))
        one = {"name": given["name"], "datatype": "INT64", "shape": shape, "data": data}
        status, answer = client.post(json.dumps({"inputs": [one]}).encode())
    assert (status, "no data that is INT64" in answer["error"]) == (400, True)


def test_it_ends_when_it_is_told_to_with_a_connection_open(bundle: Path) -> None:
    with serving(bundle) as client:
        assert client.get("/v2/health/live")[0] == 200
        client.process.send_signal(signal.SIGTERM)
        assert client.process.wait(timeout=10) == 0


def test_a_changed_artifact_is_not_served(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    (model,) = (copy / "artifact").iterdir()
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    assert "is not what was promoted" in refusal(copy)
    model.unlink()
    assert "cannot be read: No such file" in refusal(copy)
    (copy / "bundle.json").write_text("{}")
    assert "bundle.json cannot be read" in refusal(copy)


def test_what_it_cannot_serve_is_said(bundle: Path, client: Client, tmp_path: Path) -> None:
    assert "cannot be served: Address already in use" in refusal(
        bundle, "--port", str(client.connection.port)
    )
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    assert "cannot be loaded" in refusal(bundle_of(artifact_of(broken), tmp_path / "p"))
    other = bundle_of(artifact_of(broken), tmp_path / "q")
    description = json.loads((other / "bundle.json").read_text())
    description["artifact"]["framework"] = "tvm"
    (other / "bundle.json").write_text(json.dumps(description))
    assert "this server runs onnxruntime, openvino, olive" in refusal(other)


def test_only_an_edge_server_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights")
    phone = bundle_of(artifact_of(path), tmp_path / "p", target="arm-mobile")
    assert not (phone / "server").exists()
    assert json.loads((phone / "deployment.json").read_text())["server"] is None
    chat = bundle_of(
        replace(artifact_of(path), framework="llamacpp"),
        tmp_path / "q",
        task="text-generation",
    )
    dockerfile = (chat / "Dockerfile").read_text()
    assert '"llama_cpp.server"' in dockerfile
    assert '"--model", "artifact/model.onnx"]' in dockerfile
    assert sorted(p.name for p in (chat / "server").iterdir()) == ["requirements.txt"]


def test_the_container_installs_what_was_measured(bundle: Path) -> None:
    assert (bundle / "server" / "requirements.txt").read_text() == "onnxruntime==1\nnumpy\n"
    dockerfile = (bundle / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+) AS (\S+)$", dockerfile, re.MULTILINE) == [
        ("python:3.11-slim", "base"),
        ("base", "runtime"),
        ("base", "production"),
    ]
    said = json.loads((bundle / "deployment.json").read_text())["server"]
    assert said["port"] == 8080
    for name in (said["dockerfile"], said["requirements"]):
        assert (bundle / name).is_file()
    (words,) = re.findall(r"^ENTRYPOINT (.+)$", dockerfile, re.MULTILINE)
    assert json.loads(words)[1:3] == ["-m", "server"]


def test_the_outputs_that_are_asked_for_are_answered(client: Client) -> None:
    about = json.loads(client.get(f"/v2/models/{client.name}")[1])
    (given,), (answered,) = about["inputs"], about["outputs"]
    feeds = {given["name"]: np.zeros((1, given["shape"][1]), np.float32)}
    status, answer = client.infer(feeds, outputs=[{"name": answered["name"]}])
    assert (status, [each["name"] for each in answer["outputs"]]) == (200, [answered["name"]])
    status, answer = client.infer(feeds, outputs=[{"name": "nope"}])
    assert status == 400
    assert f'output "nope" is asked for; the model has [{answered["name"]!r}]' in answer["error"]


def test_only_answers_count_as_latency(client: Client) -> None:
    def latencies() -> int:
        return int(re.findall(r"inference_seconds_count\{.*\} (\d+)", client.get("/metrics")[1])[0])

    before = latencies()
    client.post(b"{}")
    assert latencies() == before


def test_a_device_that_the_runtime_lacks_is_refused(bundle: Path) -> None:
    assert 'no device "FOO"' in refusal(bundle, "--device", "FOO")
