"""At which size does quantized decoding become faster?

    python -m benchmarks.language_sizes --rounds 12

Random Llamas of 2 to 103 million parameters (206 with ``--large``), each at F32, F16, Q8_0, Q4_K_M
and Q4_0, loaded in a worker each and timed in turns, one thread: decoding a token after 128 others,
and prefill of 256 tokens. Ratios of the fastest calls, which other jobs disturbed least: above 1,
the quantized model is faster. No target; the table of docs/language-models.md comes from it.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.common import print_context, print_table, scratch
from benchmarks.language_subjects import load, optimize, random_model, random_text, vocabulary_of
from pytest_edgeai.measure.bench import close_all
from pytest_edgeai.measure.language import LanguagePlan, Phase
from pytest_edgeai.measure.latency import run_bursts

SCHEMES = ("q8_0", "q4_k_m", "q4_0")
LIMIT_S = 300.0


def make(size: str, folder: Path) -> dict[str, Path]:
    """Return the file of each precision of a random model."""
    files = {
        "f32": random_model(size, folder),
        "f16": random_model(size, folder, "float16"),
    }
    return files | {scheme: optimize(files["f32"], scheme, folder / scheme) for scheme in SCHEMES}


def fastest_ns(
    files: Mapping[str, Path], plan: LanguagePlan, rounds: Mapping[Phase, int]
) -> dict[Phase, dict[str, float]]:
    """Return the fastest call of each phase and precision, timed in turns."""
    loaded = [load(path, plan) for path in files.values()]
    found: dict[Phase, dict[str, float]] = {}
    try:
        for phase, count in rounds.items():
            measured = run_bursts(
                [model.phase(phase) for model in loaded],
                random.Random(),
                rounds=count,
                time_limit_s=LIMIT_S,
            )
            fastest = (float(min(wall_ns)) for wall_ns in measured.wall_ns)
            found[phase] = dict(zip(files, fastest, strict=True))
    finally:
        close_all(loaded)
    return found


def row_of(
    size: str, files: Mapping[str, Path], found: Mapping[Phase, Mapping[str, float]]
) -> list[str]:
    """Return the table's row of one size."""
    decode, prefill = found["decode"], found["prefill"]

    def ratios(phase: Mapping[str, float], base: str, schemes: Sequence[str] = SCHEMES) -> str:
        return " / ".join(f"{phase[base] / phase[scheme]:.1f}" for scheme in schemes)

    return [
        f"{size} ({files['f32'].stat().st_size / 1e6:.0f} MB)",
        f"{1e9 / decode['f32']:,.0f}",
        ratios(decode, "f32"),
        ratios(decode, "f16"),
        ratios(prefill, "f32"),
        ratios(prefill, "f16"),
    ]


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", action="append", help="2M, 14M, 27M …; may be repeated")
    parser.add_argument(
        "--large", action="store_true", help="with 206M, which takes 2 GB of memory"
    )
    parser.add_argument(
        "--rounds", type=int, default=12, help="turns of decoding; prefill: a third"
    )
    arguments = parser.parse_args()
    print_context("llama-cpp-python")
    sizes = arguments.size or ["2M", "14M", "27M", "103M", *(["206M"] if arguments.large else [])]
    rounds: dict[Phase, int] = {
        "decode": arguments.rounds,
        "prefill": max(3, arguments.rounds // 3),
    }
    rows = []
    for size in sizes:
        with scratch() as folder:
            files = make(size, folder)
            plan = random_text(folder, vocabulary_of(size))
            rows.append(row_of(size, files, fastest_ns(files, plan, rounds)))
    names = " / ".join(SCHEMES)
    header = ["parameters (F32)", "F32 tokens/s"]
    header += [
        f"{phase}, {names} vs {base}" for phase in ("decode", "prefill") for base in ("F32", "F16")
    ]
    print_table(header, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
