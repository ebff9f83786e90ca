"""The server of a bundle for edge servers: its source, what it installs, and its container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from pytest_edgeai.records import Artifact, artifact_root

SERVER = "server"
REQUIREMENTS = f"{SERVER}/requirements.txt"
DOCKERFILE = "Dockerfile"
PORT = 8080
EDGE_SERVERS = frozenset({"intel", "nvidia", "cross", "enterprise"})
"""Targets whose devices run a container."""
_SOURCES = "pytest_edgeai.serving"


@dataclass(frozen=True)
class Served:
    """How artifacts of one framework are served.

    Attributes:
        distributions: what has to be installed, each with the distribution whose version it takes.
        command: what starts the server, after the interpreter, as arguments.
        ready: path that answers 200 once it serves.
        own: whether it is the server of the bundle rather than the framework's.
    """

    distributions: Mapping[str, str]
    command: tuple[str, ...]
    ready: str
    own: bool = True


_OWN = (SERVER, "--host", "0.0.0.0", "--port", str(PORT))
_READY = "/v2/health/ready"
SERVED: Mapping[str, Served] = {
    "onnxruntime": Served({"onnxruntime": "onnxruntime", "numpy": "numpy"}, _OWN, _READY),
    "olive": Served({"onnxruntime": "onnxruntime", "numpy": "numpy"}, _OWN, _READY),
    "openvino": Served({"openvino": "openvino", "numpy": "numpy"}, _OWN, _READY),
    "llamacpp": Served(
        {"llama-cpp-python[server]": "llama-cpp-python"},
        ("llama_cpp.server", "--host", "0.0.0.0", "--port", str(PORT), "--model"),
        "/v1/models",
        own=False,
    ),
}
"""Frameworks whose artifacts are served, by the server of the bundle or by their own."""


def server_documents(
    artifact: Artifact, target: str, *, generates_text: bool, versions: Mapping[str, str]
) -> dict[str, str]:
    """Return the server's files by their names in the bundle; none where it has no server.

    Args:
        artifact: what is served.
        target: only edge servers run a container.
        generates_text: whether it is a language model, which only a framework's own server serves.
        versions: distribution to its version; without one it is left open.
    """
    served = served_by(artifact, target, generates_text=generates_text)
    if served is None:
        return {}
    wanted = {
        name: versions.get(of) or artifact.versions.get(of)
        for name, of in served.distributions.items()
    }
    documents = {
        REQUIREMENTS: "".join(f"{n}=={v}\n" if v else f"{n}\n" for n, v in wanted.items()),
        DOCKERFILE: _dockerfile(served, artifact, versions.get("python", "")),
    }
    return documents | (server_sources() if served.own else {})


def server_sources() -> dict[str, str]:
    """Return the source of the server by its names in the bundle."""
    folder = resources.files(_SOURCES)
    return {
        f"{SERVER}/{file.name}": file.read_text("utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".py")
    }


def served_by(artifact: Artifact, target: str, *, generates_text: bool) -> Served | None:
    """Return what serves an artifact on a target; ``None`` where nothing does."""
    served = SERVED.get(artifact.framework)
    if target not in EDGE_SERVERS or served is None or served.own == generates_text:
        return None
    return served


def _dockerfile(served: Served, artifact: Artifact, python_version: str) -> str:
    """Return a multi-stage build: a base, the runtime, and what serves, without build tools."""
    version = ".".join(python_version.split(".")[:2]) or "3.12"
    main = artifact.path.relative_to(artifact_root(artifact.path)).as_posix()
    command = [*served.command] if served.own else [*served.command, f"artifact/{main}"]
    arguments = ", ".join(f'"{word}"' for word in ("/opt/runtime/bin/python", "-m", *command))
    probe = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{PORT}{served.ready}')"
    # A framework without a wheel is compiled in the second stage alone.
    install = "apt-get install --no-install-recommends -y build-essential cmake"
    tools = "" if served.own else f"RUN apt-get update && {install}\n"
    return f"""\
FROM python:{version}-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

FROM base AS runtime
{tools}COPY {REQUIREMENTS} /tmp/requirements.txt
RUN python -m venv /opt/runtime \\
 && /opt/runtime/bin/pip install --no-cache-dir -r /tmp/requirements.txt

FROM base AS production
RUN useradd --system --uid 10001 edge
COPY --from=runtime /opt/runtime /opt/runtime
WORKDIR /bundle
COPY . .
USER 10001
EXPOSE {PORT}
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \\
  CMD ["/opt/runtime/bin/python", "-c", "{probe}"]
ENTRYPOINT [{arguments}]
"""
