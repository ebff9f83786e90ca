"""How fast does a registry with many entries answer?

    python -m benchmarks.registry_speed --entries 10000

A registry is filled with entries of many models, whose bundles are not there, and one model that is
real. Targets: ``pytest-edgeai registry list`` of 10,000 entries takes under 200 ms, the start of
the process included; a promotion (beside verifying and copying) and a rollback take effect in under
100 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import finish, print_context, print_table, scratch
from pytest_edgeai.promote.registry import Registry
from pytest_edgeai.promote.registry_log import NO_PARENT, Entry, render_entry

LIST_LIMIT_S = 0.2
CHANGE_LIMIT_S = 0.1
NOW = datetime.datetime(2026, 11, 22, 4, tzinfo=datetime.UTC)


def fill(registry: Registry, entries: int, models: int) -> None:
    """Write a log of so many promotions of so many models, and a pointer for each model."""
    lines, parent, before = [], NO_PARENT, dict[str, str]()
    last: dict[str, Entry] = {}
    for number in range(1, entries + 1):
        name = f"model-{number % models}"
        bundle = hashlib.sha256(str(number).encode()).hexdigest()
        entry = Entry(
            number, NOW.isoformat(), "promote", name, "intel", "openvino-int8-static", bundle,
            before.get(name), bundle, "2027-11-22T03:00:00+00:00", parent,
        )  # fmt: skip
        line = render_entry(entry)
        parent = hashlib.sha256(line[:-1]).hexdigest()
        lines.append(line)
        before[name] = bundle
        last[name] = entry
    (registry.directory / "log.jsonl").write_bytes(b"".join(lines))
    for entry in last.values():
        pointer = registry.pointer_path(entry.pair)
        pointer.parent.mkdir(parents=True)
        pointer.write_text(json.dumps({"sequence": entry.sequence}))


def listing(directory: Path, cpu_s: list[float]) -> float:
    """Return how long the command takes, in s, and add its CPU time to ``cpu_s``."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pytest_edgeai", "registry", "list", str(directory)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    taken_s = time.perf_counter() - begin
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s.append(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)
    return taken_s


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=11)
    arguments = parser.parse_args()
    print_context("cryptography", "filelock")
    from promotions import signed_bundle, signing_key

    @contextlib.contextmanager
    def timed(title: str) -> Iterator[None]:
        begin, begin_cpu = time.perf_counter(), time.process_time()
        yield
        seconds.setdefault(title, []).append(time.perf_counter() - begin)
        cpu.setdefault(title, []).append(time.process_time() - begin_cpu)

    key = signing_key()
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    with scratch() as folder:
        bundles = [signed_bundle(folder, key, content) for content in (b"one", b"two")]
        for models in (arguments.entries, arguments.entries // 100):
            registry = Registry(folder / f"registry-{models}", create=True)
            fill(registry, arguments.entries, models)
            title = f"list, {arguments.entries} entries of {models} models"
            seconds[title] = [
                listing(registry.directory, cpu.setdefault(title, []))
                for _ in range(arguments.repetitions)
            ]
        for _ in range(arguments.repetitions):
            for bundle in bundles:
                with registry.staged(bundle, key.public, now=NOW) as staged, timed("promote"):
                    registry.commit(staged, now=NOW)
            with timed("rollback"):
                # As the command does: with nothing read before.
                Registry(registry.directory).rollback("digits", "intel", now=NOW)
    rows, missed = [], []
    for title, times in seconds.items():
        median = statistics.median(times)
        limit = LIST_LIMIT_S if title.startswith("list") else CHANGE_LIMIT_S
        used = statistics.median(cpu[title])
        shown = f"{median * 1e3:.0f} ({max(times) * 1e3:.0f})"
        rows.append([title, shown, f"{used * 1e3:.0f}", f"{limit * 1e3:.0f}"])
        if median >= limit:
            missed.append(f"{title}: {median * 1e3:.0f} ms")
    print_table(("what", "median ms (longest)", "CPU ms", "limit ms"), rows)
    return finish(missed, "a registry of many entries answers at once")


if __name__ == "__main__":
    sys.exit(main())
