"""How fast is a bundle verified?

    python -m benchmarks.verify_speed --megabytes 1000

A signed bundle with one large file, a few middling and many small ones is verified and hashed with
a bare SHA-256 (``hashlib.file_digest`` of each file) in turns, its pages in the cache. Target:
verifying runs at no less than 80% of the speed of the bare hash.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import random
import sys
import time
from pathlib import Path

from benchmarks.common import Estimate, finish, print_context, print_table, scratch

LEAST_RATIO = 0.8
BLOCK_BYTES = 1 << 20
NOW = datetime.datetime(2026, 11, 22, 4, tzinfo=datetime.UTC)


def make_bundle(folder: Path, megabytes: int) -> Path:
    """Write and sign a bundle of this size."""
    from promotions import PROVENANCE, REPORTS, build, report_of, signing_key

    from pytest_edgeai.digests import digest_files
    from pytest_edgeai.promote.bundle import promote
    from pytest_edgeai.promote.certificate import certifier, predicate

    candidate, model = build(folder / "artifact")
    made = candidate.artifact
    assert made is not None
    generator = random.Random(1)
    root = made.path.parent
    sizes = {"weights.bin": 0.9, **{f"part-{n}": 0.01 for n in range(9)}}
    sizes |= {f"extra/{n}": 0.0001 for n in range(100)}
    for name, share in sizes.items():
        block = generator.randbytes(BLOCK_BYTES)
        count, rest = divmod(int(megabytes * 1e6 * share), BLOCK_BYTES)
        with (root / name).open("wb") as stream:
            for part in (*[block] * count, block[:rest]):
                stream.write(part)
    files = (*made.files, *(root / name for name in sizes))
    made = dataclasses.replace(made, files=files, sha256=digest_files(files, root))
    candidate = dataclasses.replace(candidate, artifact=made)
    key = signing_key()
    content = predicate(
        report_of(candidate, model), model, candidate, made, PROVENANCE, key, days=365
    )
    return promote(candidate, model, REPORTS, folder / "shelf", certifier(content, key))


def bare(files: list[Path]) -> float:
    """Return how long a bare SHA-256 of the files takes, in s."""
    begin = time.perf_counter()
    for file in files:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, "sha256").hexdigest()
    return time.perf_counter() - begin


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    print_context("cryptography")
    from promotions import signing_key

    from pytest_edgeai.promote.verification import verify_bundle

    key = signing_key().public
    ratios, verifying, hashing = [], [], []
    with scratch() as folder:
        bundle = make_bundle(folder, arguments.megabytes)
        files = [file for file in bundle.rglob("*") if file.is_file()]
        size_bytes = verify_bundle(bundle, key, now=NOW).size_bytes
        for number in range(arguments.repetitions):
            if number % 2:
                hashing.append(bare(files))
            begin = time.perf_counter()
            verify_bundle(bundle, key, now=NOW)
            verifying.append(time.perf_counter() - begin)
            if not number % 2:
                hashing.append(bare(files))
            ratios.append(hashing[-1] / verifying[-1])
    estimate = Estimate.of(ratios)
    speed = f"{size_bytes / 1e6 / min(verifying):.0f}"
    row = [f"{size_bytes / 1e6:.0f} MB, {len(files)} files", speed, str(estimate)]
    print_table(("bundle", "fastest MB/s", "bare SHA-256 / verifying"), [row])
    missed = [] if estimate.value >= LEAST_RATIO else [f"{estimate} of the speed of a bare hash"]
    return finish(missed, f"at least {LEAST_RATIO:.0%} of the speed of a bare SHA-256")


if __name__ == "__main__":
    sys.exit(main())
