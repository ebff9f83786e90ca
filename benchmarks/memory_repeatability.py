"""How well does the memory of a model repeat, in every framework?

    python -m benchmarks.memory_repeatability --olive-python OLIVE/bin/python

Measures baseline and candidate of each installed framework as the gate ``memory_cut`` does, each
repeat in a fresh process and both sides in turns, and once with mapped weights where the runtime
can map them. Models of tensors are the example's network (5.75 million parameters); language models
a random Llama of 27 million. Target: the repeats of each side spread by at most 5% of the
baseline's median, a fifth of what the gate accepts, and weights are mapped on no side unless they
are asked to be. The table of docs/statistics.md comes from it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import (
    EXAMPLE,
    LIMIT_S,
    ONE_THREAD,
    finish,
    make_subject,
    print_context,
    print_table,
    scratch,
)
from benchmarks.language_subjects import VOCABULARY, random_text
from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.judge.memory import judge_memory
from pytest_edgeai.measure.bench import Runnable, measure_memory
from pytest_edgeai.measure.language import measure_language_memory
from pytest_edgeai.measurements import memory_samples
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.optimize.frameworks.language import MEMORY_MAPPING
from pytest_edgeai.records import MemorySamples, Recipe, TensorSpec, Threshold
from pytest_edgeai.worker.host import Worker, WorkerSpec

MOST_SPREAD_RATIO = 0.05
MAPS_ALWAYS = ("olive, language model",)
LLAMA: Mapping[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 7,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
}
_MIB = 2**20

Measure = Callable[[Runnable], Mapping[str, Any]]


@dataclass(frozen=True)
class Case:
    """A baseline and a candidate in one framework.

    Attributes:
        name: what the table calls it.
        scheme: how the candidate was made.
        sides: baseline and candidate.
        measure: takes one measurement in a fresh process.
    """

    name: str
    scheme: str
    sides: tuple[Runnable, Runnable]
    measure: Measure

    def samples(self, repeats: int) -> tuple[MemorySamples, list[int]]:
        """Return the repeats of both sides in turns, and the bytes of each that were mapped."""
        answers: tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]] = ([], [])
        for _ in range(repeats):
            for side, runnable in enumerate(self.sides):
                answers[side].append(self.measure(runnable))
        mapped = [_mapped(self.measure, runnable) for runnable in self.sides]
        seen = [max(answer["mapped_weights_bytes"] for answer in side) for side in answers]
        return memory_samples(answers, (mapped[0], mapped[1])), seen


def _mapped(measure: Measure, runnable: Runnable) -> int | None:
    """Return the model memory with mapped weights; ``None`` where nothing is mapped then."""
    hints = {MEMORY_MAPPING: "on"}
    try:
        answer = measure(replace(runnable, runtime=replace(runnable.runtime, hints=hints)))
    except EdgeAIError:
        return None
    return int(answer["model_bytes"]) if answer["mapped_weights_bytes"] else None


def optimize(
    framework: str,
    interpreter: Path,
    source: Path,
    scheme: str,
    output: Path,
    *,
    architecture: str,
    inputs: Sequence[TensorSpec] = (),
    calibration: Mapping[str, Any] | None = None,
) -> Path:
    """Make one artifact in a worker and return what is loaded of it."""
    with Worker.start(
        WorkerSpec(FRAMEWORKS[framework], interpreter), time_limit_s=LIMIT_S
    ) as worker:
        answer = worker.request(
            "optimize",
            time_limit_s=LIMIT_S,
            source=str(source),
            recipe=Recipe(framework, scheme),
            architecture=architecture,
            inputs=inputs,
            calibration=calibration,
            output=str(output),
        )
    return Path(answer["path"])


def tensor_cases(interpreters: Mapping[str, Path], folder: Path) -> list[Case]:
    """Return the example's network in every framework that runs models of tensors."""
    subject = make_subject("digits", folder, optimized=False)
    calibration = folder / "calibration"
    calibration.mkdir()
    with np.load(EXAMPLE / "calibration.npz") as archive:
        for name in subject.inputs:
            np.save(calibration / f"{name}.npy", archive[name])
    arrays = {name: str(calibration / f"{name}.npy") for name in subject.inputs}
    shape = np.load(next(iter(subject.inputs.values())), mmap_mode="r").shape
    inputs = [TensorSpec(name, "float32", (None, *shape[1:])) for name in subject.inputs]

    def measure(runnable: Runnable) -> Mapping[str, Any]:
        return measure_memory(runnable, subject.samples, time_limit_s=LIMIT_S)

    def case(
        name: str, framework: str, schemes: tuple[str, str], baseline: Path | None = None
    ) -> Case:
        interpreter = interpreters[framework]
        paths = [baseline, None]
        for side, scheme in enumerate(schemes):
            paths[side] = paths[side] or optimize(
                framework,
                interpreter,
                subject.model,
                scheme,
                folder / f"{framework}-{scheme}-{name.count(',')}",
                architecture="cnn",
                inputs=inputs,
                calibration={"arrays": arrays, "batch": 1} if scheme != "convert" else None,
            )
        return Case(name, schemes[1], _runnables(framework, interpreter, paths), measure)

    cases: list[Case] = []
    for name, framework, build in (
        ("onnxruntime", "onnxruntime", lambda: subject.model),
        ("onnxruntime, external data", "onnxruntime", lambda: _externalized(subject.model, folder)),
        ("openvino", "openvino", lambda: None),
        ("olive", "olive", lambda: subject.model),
    ):
        if framework in interpreters:
            cases.append(case(name, framework, ("convert", "int8-static"), build()))
    return cases


def language_cases(interpreters: Mapping[str, Path], folder: Path) -> list[Case]:
    """Return a random Llama in every framework that generates text."""
    from language_models import llama_config, write_huggingface

    source = write_huggingface(folder / "llama", llama_config(**LLAMA), tokenizer=False)
    plan = random_text(folder, VOCABULARY)

    def measure(runnable: Runnable) -> Mapping[str, Any]:
        return measure_language_memory(runnable, plan, time_limit_s=LIMIT_S)

    cases: list[Case] = []
    for framework, scheme in (
        ("llamacpp", "q4_k_m"),
        ("mlx", "int4-g64"),
        ("openvino", "int4-weights"),
        ("olive", "int4-genai"),
    ):
        if framework not in interpreters:
            continue
        interpreter = interpreters[framework]
        paths = [
            optimize(
                framework,
                interpreter,
                source,
                each,
                folder / f"{framework}-text-{each}",
                architecture="language-model",
            )
            for each in ("convert", scheme)
        ]
        name = f"{framework}, language model"
        cases.append(Case(name, scheme, _runnables(framework, interpreter, paths), measure))
    return cases


def _runnables(
    framework: str, interpreter: Path, paths: Sequence[Path | None]
) -> tuple[Runnable, Runnable]:
    runtime = replace(ONE_THREAD, device=FRAMEWORKS[framework].device)
    made = [Runnable(FRAMEWORKS[framework], interpreter, path, runtime) for path in paths if path]
    return made[0], made[1]


def _externalized(model: Path, folder: Path) -> Path:
    """Return the same model with its weights in a file beside it."""
    import onnx

    path = folder / "external" / "model.onnx"
    path.parent.mkdir()
    onnx.save(onnx.load(model), path, save_as_external_data=True, location="model.data")
    return path


def row_of(case: Case, samples: MemorySamples, seen: Sequence[int]) -> list[str]:
    """Return what the table shows of a case."""
    sides = (
        (samples.baseline_bytes, samples.baseline_steady_bytes, samples.baseline_mapped_bytes),
        (samples.candidate_bytes, samples.candidate_steady_bytes, samples.candidate_mapped_bytes),
    )
    verdict = judge_memory(samples, Threshold(0.5, "at_least"))
    low, high = verdict.interval or (float("nan"), float("nan"))
    steady = [side[1] for side in sides]
    cut_steady = 1 - median(steady[1]) / median(steady[0]) if all(steady) else float("nan")
    mapped = ["–" if side[2] is None else f"{side[2] / _MIB:.1f}" for side in sides]
    return [
        case.name,
        case.scheme,
        *(_spread(side[0]) for side in sides),
        f"{verdict.observed or 0:.1%} ({low or 0:.1%} to {high or 0:.1%})",
        *(_spread(side[1]) for side in sides),
        f"{cut_steady:.1%}",
        " → ".join(mapped) if set(mapped) != {"–"} else "–",
        " → ".join(f"{size / _MIB:.1f}" for size in seen) if any(seen) else "none",
    ]


def _spread(values: Sequence[int]) -> str:
    if not values:
        return "–"
    middle = median(values)
    return f"{middle / _MIB:.1f} ({(max(values) - min(values)) / middle:.1%})"


def shortcomings(case: Case, samples: MemorySamples, seen: Sequence[int]) -> list[str]:
    """Return what misses the target."""
    missed: list[str] = []
    middle = median(samples.baseline_bytes)
    for side in (samples.baseline_bytes, samples.candidate_bytes):
        spread = (max(side) - min(side)) / middle
        if spread > MOST_SPREAD_RATIO:
            missed.append(f"{case.name}: the repeats spread by {spread:.1%}")
    if any(seen) and case.name not in MAPS_ALWAYS:
        missed.append(f"{case.name}: {max(seen) / _MIB:.1f} MiB of weights are mapped")
    return missed


def main() -> int:
    """Run it.

    Returns:
        1 where the target is missed.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    for name in FRAMEWORKS:
        parser.add_argument(f"--{name}-python", type=Path, help=f"the interpreter that has {name}")
    options = vars(parser.parse_args())
    interpreters: dict[str, Path] = {}
    versions: dict[str, str] = {}
    for name, descriptor in FRAMEWORKS.items():
        interpreter = options[f"{name}_python"] or Path(sys.executable)
        try:
            with Worker.start(WorkerSpec(descriptor, interpreter), time_limit_s=LIMIT_S) as worker:
                versions |= worker.versions
            interpreters[name] = interpreter
        except EdgeAIError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    print_context()
    print(", ".join(f"{name} {version}" for name, version in sorted(versions.items())))
    rows: list[list[str]] = []
    missed: list[str] = []
    with scratch() as folder:
        for case in (*tensor_cases(interpreters, folder), *language_cases(interpreters, folder)):
            samples, seen = case.samples(options["repeats"])
            rows.append(row_of(case, samples, seen))
            print(" | ".join(rows[-1]), file=sys.stderr)
            missed += shortcomings(case, samples, seen)
    header = ["framework", "candidate", "baseline, MiB (spread)", "candidate, MiB (spread)"]
    header += ["cut", "baseline steady", "candidate steady", "steady cut"]
    header += ["with mapped weights", "mapped while gating"]
    print_table(header, rows)
    return finish(missed, f"spreads of at most {MOST_SPREAD_RATIO:.0%}, nothing mapped unasked")


if __name__ == "__main__":
    sys.exit(main())
