"""Who takes part: what is installed, what each can be asked, and how it is set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata

from benchmarks.contest.cases import Case

TORCH = "torch==2.13.0"
_NO_ACCURACY = "it times calls; it evaluates no outputs"
_NO_SPEED = "it measures accuracy alone"
_NO_ARTIFACTS = "it opens no artifact"
_WHOLE_PERCENT = "it takes whole percentages, and 2.5% are asked"
_NO_MEMORY = "it measures no memory"


@dataclass(frozen=True)
class Contestant:
    """A tool, or a habit.

    Attributes:
        name: what tables call it.
        driver: module that runs it, in its own environment.
        requirements: what is installed for it, pinned; empty for this project itself.
        shown: distribution whose version the page states; empty for none.
        variants: what it answers in one trial; one unnamed answer by default.
        cannot: kind of case, or name of one, to why it cannot be asked.
        got: what it is given to run.
        setup: how it is set up for the question.
    """

    name: str
    driver: str
    requirements: tuple[str, ...] = ()
    shown: str = ""
    variants: tuple[str, ...] = ("",)
    cannot: Mapping[str, str] = field(default_factory=dict)
    got: str = "the ONNX file, in ONNX Runtime on one thread"
    setup: str = ""

    def why_not(self, case: Case) -> str:
        """Return why it cannot be asked about a case; empty if it can."""
        return self.cannot.get(case.name, self.cannot.get(case.kind, ""))

    def title(self, variant: str) -> str:
        """Return the name of one of its variants."""
        return f"{self.name} ({variant})" if variant else self.name


def runtime() -> tuple[str, ...]:
    """Return the pins of what every environment has: the versions that this project runs with."""
    return tuple(f"{name}=={metadata.version(name)}" for name in ("onnxruntime", "numpy"))


CONTESTANTS: tuple[Contestant, ...] = (
    Contestant(
        "pytest-edgeai",
        "ours",
        shown="pytest-edgeai",
        setup="`no_slower` (the gate of `--edge-against`) with interleaved rounds of two workers, "
        "at most 20 s; `latency_tail`, `latency_drift` and `memory_growth` at their defaults, at "
        "most 20 s more; `accuracy_retained`, `output_sanity`, `slice_retained`; "
        "`precision_proof`, the cache and the promotion for artifacts",
    ),
    Contestant(
        "edgegate",
        "edgegate",
        requirements=("edgegate[host]==0.2.0",),
        shown="edgegate",
        cannot={
            "metric-nan": "its accuracy is top-1, no metric can be given",
            "artifact": "it records the model's hash and compares nothing with it; its `precision` "
            "is what its configuration says",
        },
        got="the ONNX file, in ONNX Runtime with its own session options",
        setup="`edgegate run`, then `edgegate run --check --baseline`; "
        "`latency_p99_regression_pct: 10`, its floor lowered from 0.5 to 0.02 ms; "
        "`memory_regression_pct: 10`; `accuracy_drop_max` = 5% of the baseline's accuracy, "
        "`accuracy_min: 0.5`",
    ),
    Contestant(
        "pytest-benchmark",
        "pytest_benchmark",
        requirements=("pytest-benchmark==5.3.1", "pytest==9.2.0"),
        shown="pytest-benchmark",
        variants=("min", "mean"),
        cannot={
            "outputs": _NO_ACCURACY,
            "metric": _NO_ACCURACY,
            "draws": _NO_ACCURACY,
            "artifact": _NO_ARTIFACTS,
            "leak": _NO_MEMORY,
            "same-close": _WHOLE_PERCENT,
            "slower-5-close": _WHOLE_PERCENT,
        },
        got="`session.run` of the ONNX file, in ONNX Runtime on one thread",
        setup="`--benchmark-save`, then `--benchmark-compare --benchmark-compare-fail min:10% "
        "mean:10%`, its own calibration and length",
    ),
    Contestant(
        "pytest-torch",
        "pytest_torch",
        requirements=("pytest-torch==1.1.1", "pytest==9.2.0", TORCH),
        shown="pytest-torch",
        cannot={
            "artifact": _NO_ARTIFACTS,
        },
        got="a callable around the ONNX file, in ONNX Runtime on one thread; leaks are tensors",
        setup="`perf_baseline` with `latency_tolerance=0.10` (its default: 0.25) and no slack; "
        "`torch_memory_leak`; `metric_baseline` with `tolerance` = 5% of the baseline's accuracy "
        "and `minimum` 0.5, `check_inference_contract`; `--torch-perf-strict`, "
        "`--torch-metrics-strict`",
    ),
    Contestant(
        "inference-doctor",
        "inference_doctor",
        requirements=("inference-doctor==0.4.1",),
        shown="inference-doctor",
        cannot={
            "outputs": _NO_ACCURACY,
            "metric": _NO_ACCURACY,
            "draws": _NO_ACCURACY,
            "artifact": _NO_ARTIFACTS,
            "leak": _NO_MEMORY,
        },
        got="the times of 5 interleaved runs a side of 100 calls of the ONNX file",
        setup="`compare-runs --metric ttft_mean_ms --regression-percent 10` (its default), 90% "
        "confidence; with `ttft_p99_ms` where the tail is asked for",
    ),
    Contestant(
        "quant-regress",
        "quant_regress",
        requirements=("quant-regress==1.1.0", TORCH),
        shown="quant-regress",
        cannot={
            "broken-baseline": "",
            "speed": _NO_SPEED,
            "stability": _NO_SPEED,
            "artifact": "it takes no artifact: its command line quantizes Hugging Face models by "
            "itself, and refuses those that it did not change",
        },
        got="the answers of the ONNX file, one prompt a sample, through its library",
        setup="`QuantHarness.compare` with `max_drop_points` = 5% of the baseline's accuracy, "
        "`min_accuracy=0.5`",
    ),
    Contestant(
        "mean of 100",
        "naive",
        cannot={
            "artifact": _NO_ARTIFACTS,
            "leak": _NO_MEMORY,
        },
        setup="100 calls of one model, then of the other, after 10 to warm up; the ratio of the "
        "means, and of the accuracies",
    ),
)

BY_NAME: Mapping[str, Contestant] = {contestant.name: contestant for contestant in CONTESTANTS}
