"""The HTTP server: health, metadata, metrics and inference."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .bundle import Bundle
from .metrics import Metrics
from .protocol import BadRequest, read_request, render_outputs
from .runtimes import Feeds, Model

_READ_LIMIT_S = 30.0


class Server(ThreadingHTTPServer):
    """Answers one inference at a time, and refuses what would wait too long in line."""

    daemon_threads = False
    block_on_close = True

    def __init__(
        self,
        address: tuple[str, int],
        bundle: Bundle,
        model: Model,
        *,
        most_waiting: int,
        most_bytes: int,
    ) -> None:
        """Serve ``model`` at ``address``; port 0 takes a free one."""
        self.bundle = bundle
        self.model = model
        self.most_bytes = most_bytes
        self.metrics = Metrics(f'model="{bundle.name}",version="{bundle.version}"')
        self.connections: set[socket.socket] = set()
        self._turn = threading.Lock()
        self._line = threading.BoundedSemaphore(most_waiting)
        super().__init__(address, Handler)

    def infer(self, feeds: Feeds) -> Mapping[str, Any]:
        """Run the model.

        Raises:
            BadRequest: too many requests wait (503), or the runtime refused these inputs (400).
        """
        if not self._line.acquire(blocking=False):
            raise BadRequest("too many requests wait; try again", 503)
        try:
            with self._turn:
                return self.model.run(feeds)
        except (MemoryError, SystemError):
            raise
        except Exception as error:
            words = " ".join(str(error).split())[:500]
            raise BadRequest(f"the runtime refused these inputs: {words}") from None
        finally:
            self._line.release()

    @contextlib.contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end :meth:`serve_forever` once what was begun is answered."""

        def stop(number: int, frame: Any) -> None:
            threading.Thread(target=self.shutdown, daemon=True).start()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        yield
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                # Who waits for a next request gets none; who waits for an answer still does.
                connection.shutdown(socket.SHUT_RD)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = _READ_LIMIT_S
    # Otherwise each answer waits 40 ms for the client's delayed acknowledgement of its headers.
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        """Keep the connection, so that the end of the server ends its waiting."""
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        """Forget the connection."""
        self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        """Answer health, metadata and metrics."""
        bundle, model = self.server.bundle, self.server.model
        place = f"/v2/models/{bundle.name}"
        version = f"{place}/versions/{bundle.version}"
        if self.path in (
            *("/v2/health/live", "/v2/health/ready"),
            *(f"{place}/ready", f"{version}/ready"),
        ):
            self._answer(200, b"{}")
        elif self.path in ("/v2", "/v2/"):
            self._describe(name="pytest-edgeai serve", version="2", extensions=[])
        elif self.path in (place, version):
            self._describe(
                name=bundle.name,
                versions=[bundle.version],
                platform=bundle.framework,
                inputs=[tensor.metadata() for tensor in model.inputs],
                outputs=[tensor.metadata() for tensor in model.outputs],
            )
        elif self.path == "/metrics":
            self._answer(200, self.server.metrics.render().encode(), "text/plain; version=0.0.4")
        else:
            self._fail(f"there is no {self.path}", 404)

    def do_POST(self) -> None:
        """Answer an inference request."""
        begin = time.perf_counter()
        bundle = self.server.bundle
        place = f"/v2/models/{bundle.name}"
        known = (f"{place}/infer", f"{place}/versions/{bundle.version}/infer")
        try:
            body = self._body()
            if self.path not in known:
                raise BadRequest(f"there is no {self.path}; post to {known[0]}", 404)
            model = self.server.model
            request = read_request(body, model.inputs, model.outputs)
            answer = render_outputs(bundle, self.server.infer(request.feeds), request)
        except BadRequest as error:
            self.server.metrics.count(error.status, time.perf_counter() - begin)
            self._fail(str(error), error.status)
            return
        self.server.metrics.count(200, time.perf_counter() - begin)
        self._answer(200, answer)

    def _body(self) -> bytes:
        text = self.headers.get("Content-Length", "")
        if not text.isdigit():
            self.close_connection = True
            raise BadRequest("no Content-Length", 411)
        if int(text) > self.server.most_bytes:
            # What is not read would be taken for the next request.
            self.close_connection = True
            raise BadRequest(f"more than {self.server.most_bytes} bytes", 413)
        return self.rfile.read(int(text))

    def _describe(self, **about: Any) -> None:
        self._answer(200, json.dumps(about).encode())

    def _fail(self, what: str, status: int) -> None:
        self._answer(status, json.dumps({"error": what}).encode())

    def _answer(self, status: int, content: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Stay quiet: what is asked may be private, and ``/metrics`` counts it."""
