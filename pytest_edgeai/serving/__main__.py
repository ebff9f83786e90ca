"""``python -m server`` in the directory of a bundle."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from .application import Server
from .bundle import Refused, open_bundle
from .runtimes import LOADERS


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return read


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM; return 0, or 2 where the bundle is not served."""
    parser = argparse.ArgumentParser(description="Serve a bundle of pytest-edgeai.")
    home = Path(__file__).resolve().parent.parent
    parser.add_argument("--bundle", type=Path, default=home, help="default: where this file lies")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=_number(0, 65535), default=8080, help="0: a free one")
    as_measured = "default: as it was measured"
    parser.add_argument("--threads", type=_number(0, 1024), help=f"0: all; {as_measured}")
    parser.add_argument("--device", help=f"in the runtime's own words; {as_measured}")
    parser.add_argument("--most-waiting", type=_number(1, 4096), default=64)
    parser.add_argument("--most-bytes", type=_number(1, 1 << 31), default=64 << 20)
    given = parser.parse_args(arguments)
    try:
        bundle = open_bundle(given.bundle)
        try:
            threads = bundle.threads if given.threads is None else given.threads
            model = LOADERS[bundle.framework](
                bundle.path, threads, given.device or bundle.device, bundle.hints
            )
        except ImportError as error:
            raise Refused(f"the runtime is missing: {error}") from None
        except Exception as error:
            text = " ".join(str(error).split())[:500]
            raise Refused(f"{bundle.path} cannot be loaded: {text}") from None
        try:
            server = Server(
                (given.host, given.port),
                bundle,
                model,
                most_waiting=given.most_waiting,
                most_bytes=given.most_bytes,
            )
        except OSError as error:
            place = f"{given.host}:{given.port}"
            raise Refused(f"{place} cannot be served: {error.strerror or error}") from None
    except Refused as refused:
        print(f"serve: {refused}", file=sys.stderr)
        return 2
    with server, server.stopped_by_signals():
        place = f"http://{given.host}:{server.server_port}"
        print(f"serving {bundle.name} {bundle.version} at {place}", flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
