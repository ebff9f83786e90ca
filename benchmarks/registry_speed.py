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
import gc
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator

from benchmarks.common import finish, print_context, print_table, scratch
from pytest_edgeai.promote.oci_index import render_index
from pytest_edgeai.promote.registry import Registry
from pytest_edgeai.promote.registry_layout import Layout, PlainLayout
from pytest_edgeai.promote.registry_log import NO_PARENT, Entry, render_entry
from pytest_edgeai.promote.registry_oci import MANIFEST_TYPE, OciLayout

LIST_LIMIT_S = 0.2
CHANGE_LIMIT_S = 0.1
LAYOUTS: dict[str, tuple[type[Layout], str]] = {
    "plain": (PlainLayout, ""),
    "oci": (OciLayout, "oci:"),
}
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
    (registry.directory / "head.json").write_bytes(lines[-1])
    if isinstance(registry.layout, OciLayout):
        fill_index(registry, last.values(), entries)
        return
    for entry in last.values():
        pointer = registry.layout.pointer(entry.pair)
        pointer.parent.mkdir(parents=True)
        current = {"bundle": entry.bundle}
        named = {"model": entry.model, "target": entry.target, "current": current}
        pointer.write_text(json.dumps({**named, "sequence": entry.sequence}))


def fill_index(registry: Registry, last: Iterable[Entry], entries: int) -> None:
    """Name a manifest for each entry in the index, and what is current of each model."""
    path = registry.directory / "index.json"
    index = json.loads(path.read_bytes())

    def add(**annotations: str) -> None:
        names = {"reference": "org.opencontainers.image.ref.name"}
        digest = hashlib.sha256(annotations["bundle"].encode()).hexdigest()
        index["manifests"].append(
            {
                "mediaType": MANIFEST_TYPE,
                "digest": f"sha256:{digest}",
                "size": 4513,
                "artifactType": "application/vnd.pytest-edgeai.bundle.v1",
                "annotations": {
                    names.get(name, f"pytest-edgeai.{name}"): value
                    for name, value in annotations.items()
                },
            }
        )

    for number in range(1, entries + 1):
        bundle = hashlib.sha256(str(number).encode()).hexdigest()
        add(reference=f"bundle-{bundle}", bundle=bundle)
    for each in last:
        add(
            reference=f"current--{each.model}--{each.target}",
            bundle=each.bundle,
            sequence=str(each.sequence),
            model=each.model,
            target=each.target,
            candidate=each.candidate,
        )
    path.write_bytes(render_index(index))


def listing(address: str, cpu_s: list[float]) -> float:
    """Return how long the command takes, in s, and add its CPU time to ``cpu_s``."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pytest_edgeai", "registry", "list", address],
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
    parser.add_argument("--layout", choices=LAYOUTS, default="plain")
    arguments = parser.parse_args()
    print_context("cryptography", "filelock")
    from promotions import signed_bundle, signing_key

    @contextlib.contextmanager
    def timed(title: str) -> Iterator[None]:
        # As the command does.
        gc.disable()
        begin, begin_cpu = time.perf_counter(), time.process_time()
        yield
        seconds.setdefault(title, []).append(time.perf_counter() - begin)
        cpu.setdefault(title, []).append(time.process_time() - begin_cpu)
        gc.enable()

    key = signing_key()
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    with scratch() as folder:
        bundles = [signed_bundle(folder, key, content) for content in (b"one", b"two")]
        layout, prefix = LAYOUTS[arguments.layout]
        for models in (arguments.entries, arguments.entries // 100):
            registry = Registry(folder / f"registry-{models}", layout, create=True)
            fill(registry, arguments.entries, models)
            title = f"list, {arguments.entries} entries of {models} models"
            seconds[title] = [
                listing(f"{prefix}{registry.directory}", cpu.setdefault(title, []))
                for _ in range(arguments.repetitions)
            ]
        for _ in range(arguments.repetitions):
            for bundle in bundles:
                with registry.staged(bundle, key.public, now=NOW) as staged, timed("promote"):
                    registry.commit(staged, now=NOW)
            # With nothing read before, as in the command.
            with timed("rollback"):
                Registry(registry.directory, layout).rollback("digits", "intel", now=NOW)
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
