"""A planted case for every rule of advice that triggers it, and one beside it that must not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_edgeai.judge.advice_situation import Calibration, Situation
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.profile_records import (
    Bottleneck,
    BottleneckName,
    CandidateProfile,
    HostPeaks,
    OperatorTime,
    Profile,
)
from pytest_edgeai.records import (
    Accelerator,
    HostFacts,
    LatencySummary,
    MemorySamples,
    ModelFacts,
    Outcome,
    OutputSanity,
    PrecisionFacts,
    Recipe,
    RuntimeOptions,
    Stage,
    TensorSpec,
    Verdict,
)
from pytest_edgeai.sensitivity_records import LayerSensitivity, Sensitivity
from pytest_edgeai.shipped import GATES

MIB = 2**20
MODEL = "net"

HOST = HostFacts(
    hostname="box",
    system="Linux 6.1",
    architecture="x86_64",
    cpu_vendor="GenuineIntel",
    cpu_model="a processor",
    logical_cores=4,
    memory_bytes=8 * 2**30,
    simd=("avx2", "avx512_vnni"),
    virtualization="",
    sources={},
)
FACTS = ModelFacts(
    path=Path("net.onnx"),
    format="onnx",
    sha256="0" * 64,
    size_bytes=40 * MIB,
    files=(Path("net.onnx"),),
    opset=17,
    inputs=(TensorSpec("x", "float32", (None, 3, 32, 32)),),
    outputs=(TensorSpec("y", "float32", (None, 10)),),
    operators={"Conv": 8, "Gemm": 2, "Relu": 8},
    parameters=10_000_000,
    weight_elements={"float32": 10_000_000},
    architecture="convolutional",
)
TRANSFORMER = replace(
    FACTS, operators={"MatMul": 24, "Gather": 2, "Add": 30}, architecture="transformer"
)
LANGUAGE = replace(FACTS, format="gguf", operators={}, architecture="language-model")
STATIC = Recipe("onnxruntime", "int8-static")
DYNAMIC = Recipe("onnxruntime", "int8-dynamic")
OPENVINO = Recipe("openvino", "int8-static")
WEIGHTS = Recipe("openvino", "int8-weights")
Q4 = Recipe("llamacpp", "q4_k_m")
MLX = Recipe("mlx", "int4-g64")
CALIBRATION = Calibration(500, "calibration.npz", 300, 300, 0, 1.3)
INT8 = PrecisionFacts(
    weight_elements={"int8": 9_900_000, "float32": 100_000},
    quantized_operators={"Conv": 8, "Gemm": 2},
    executed_precisions={"int8": 10, "float32": 2},
    claimed_device="CPU",
    executed_devices=("CPU",),
)
SANE = OutputSanity(500, (), {}, {}, (), (), {})


def verdict(
    gate: str,
    outcome: Outcome = "fail",
    observed: float | None = 1.0,
    interval: tuple[float | None, float | None] | None = None,
    **details: Any,
) -> Verdict:
    """Return a verdict of a shipped gate at its default threshold."""
    known = GATES[gate]
    return Verdict(
        gate=gate,
        outcome=outcome,
        observed=observed,
        interval=interval,
        confidence=None if interval is None else 0.95,
        threshold=known.threshold,
        relation=known.relation,
        unit=known.unit,
        samples=100,
        reason=f"{gate} was judged",
        details=details,
    )


def verdicts(*those: Verdict) -> dict[str, Verdict]:
    return {each.gate: each for each in those}


SLOW = verdicts(verdict("speedup"), verdict("accuracy_retained", "pass", 0.99))
LOSSY = verdicts(verdict("speedup", "pass", 2.4), verdict("accuracy_retained", "fail", 0.8))
HEAVY = verdicts(verdict("memory_cut", "fail", 0.3, (0.28, 0.33)))
FINE = verdicts(verdict("speedup", "pass", 2.4), verdict("accuracy_retained", "pass", 0.99))
UNPROVEN = verdicts(verdict("precision_proof", "fail", 0.4))

SITUATION = Situation(
    model=MODEL,
    task="image-classification",
    recipe=STATIC,
    host=HOST,
    facts=FACTS,
    verdicts=FINE,
    usable={
        name: {
            scheme: framework.options.get(scheme)
            for scheme in framework.schemes
            if scheme != "convert"
        }
        for name, framework in FRAMEWORKS.items()
    },
    claimed_precision="int8",
    precision=INT8,
    artifact_bytes=10 * MIB,
    calibration=CALIBRATION,
    evaluation_samples=500,
    data_source="data.npz",
    samples_per_call=1,
    batch_is_open=True,
    baseline_framework="onnxruntime",
    multiplies_int8=True,
    sanity=SANE,
    layer_option="nodes_to_exclude",
)


def side(**changes: Any) -> Profile:
    """Return the profile of one model."""
    plain = Profile(
        framework="onnxruntime",
        runtime=RuntimeOptions(),
        calls=100,
        wall_ns=1e6,
        cpu_ns=1e6,
        profiled_wall_ns=1.1e6,
        operators=(
            OperatorTime("conv1", "QLinearConv", 100, 80_000_000, "int8"),
            OperatorTime("gemm1", "QGemm", 100, 10_000_000, "int8"),
        ),
        operators_source="onnxruntime",
        core_shares={"0": 1.0},
        minor_faults=0.0,
        major_faults=0.0,
        voluntary_switches=0.0,
        involuntary_switches=0.0,
        operators_executed=12,
        integer_share=0.95,
    )
    return replace(plain, **changes)


def profile(
    name: BottleneckName = "unknown", beneath: BottleneckName = "unknown", **changes: Any
) -> CandidateProfile:
    """Return a profile whose candidate is limited by ``name``."""
    found = Bottleneck(
        name, f"it is {name}", overhead_share=0.7, evidence={"share": 0.7}, beneath=beneath
    )
    return CandidateProfile(
        baseline=side(),
        candidate=side(**changes),
        peaks=HostPeaks(1, 1e11, 4e11, 1e10, ()),
        baseline_bottleneck=Bottleneck("compute-bound", "it computes"),
        candidate_bottleneck=found,
    )


def stage(name: Any, framework: str, p50_ns: float, threads: int = 1) -> Stage:
    return Stage(
        name=name,
        framework=framework,
        runtime=RuntimeOptions(threads),
        latency=LatencySummary(100, p50_ns, p50_ns, p50_ns, p50_ns, threads, 1),
        size_bytes=MIB,
        metric="accuracy",
        score=None,
        memory_bytes=None,
    )


def memory(
    candidate: int, *, baseline: int = 60, steady: int | None = None, **changes: Any
) -> MemorySamples:
    """Return memory in MiB."""
    return replace(
        MemorySamples(
            "linux",
            (baseline * MIB,) * 3,
            (candidate * MIB,) * 3,
            (100 * MIB,) * 3,
            (80 * MIB,) * 3,
            candidate_steady_bytes=() if steady is None else (steady * MIB,) * 3,
        ),
        **changes,
    )


def sensitivity(*noise: float) -> Sensitivity:
    layers = tuple(LayerSensitivity(f"conv{i}", each) for i, each in enumerate(noise))
    return Sensitivity("r", layers, sum(noise), 10, len(noise), 1.0, "calibration")


def options(recipe: Recipe, **changes: Any) -> Recipe:
    return replace(recipe, options=changes)


@dataclass(frozen=True)
class Case:
    """Two situations that differ in what a rule is about.

    Attributes:
        rule: the rule.
        planted: what the situation has that triggers it.
        healthy: what has to differ for it to be silent.
        turns: scheme or option that the fix changes to; empty where a person has to act.
    """

    rule: str
    planted: Mapping[str, Any]
    healthy: Mapping[str, Any]
    turns: str = ""

    @property
    def triggers(self) -> Situation:
        return replace(SITUATION, **self.planted)

    @property
    def silent(self) -> Situation:
        return replace(SITUATION, **{**self.planted, **self.healthy})


CONV_INTEGER = replace(INT8, quantized_operators={"ConvInteger": 8, "MatMulInteger": 2})
FLOAT_CONV = replace(INT8, weight_elements={"int8": 2_000_000, "float32": 8_000_000})
IN_FLOAT = replace(INT8, executed_precisions={"float32": 12})
GPU = Accelerator("gpu", "Apple", "M9", None, "system_profiler")
DECODING = memory(50, candidate_kv_cache_bytes=40 * MIB, baseline_kv_cache_bytes=40 * MIB)
OVER = {"p95": {"outcome": "fail"}}

CASES = (
    Case(
        "int8-without-vnni",
        {"recipe": OPENVINO, "verdicts": SLOW, "multiplies_int8": False},
        {"multiplies_int8": True},
        "int8-weights",
    ),
    Case(
        "dynamic-on-convolutions",
        {"recipe": DYNAMIC, "verdicts": SLOW, "precision": CONV_INTEGER},
        {"facts": TRANSFORMER},
        "int8-static",
    ),
    Case(
        "dynamic-on-convolutions",
        {"recipe": DYNAMIC, "verdicts": UNPROVEN, "precision": FLOAT_CONV},
        {"precision": INT8},
        "int8-static",
    ),
    Case(
        "unsigned-dynamic-weights",
        {
            "recipe": options(DYNAMIC, weight_type="uint8"),
            "facts": TRANSFORMER,
            "verdicts": SLOW,
            "precision": replace(INT8, weight_elements={"uint8": 9_000_000}),
        },
        {"precision": INT8},
        "int8-dynamic",
    ),
    Case(
        "qdq-not-fused",
        {
            "recipe": options(STATIC, weight_type="uint8", activation_type="int8"),
            "verdicts": SLOW,
            "precision": IN_FLOAT,
        },
        {"precision": INT8},
        "activation_type",
    ),
    Case(
        "qdq-not-fused",
        {"verdicts": SLOW, "profile": profile(integer_share=0.1)},
        {"profile": profile()},
        "int8-static",
    ),
    Case(
        "weights-only-computes-in-float",
        {
            "recipe": WEIGHTS,
            "verdicts": SLOW,
            "precision": IN_FLOAT,
            "profile": profile("compute-bound"),
        },
        {"profile": profile("memory-bound")},
        "int8-static",
    ),
    Case(
        "framework-slower-than-baseline",
        {
            "recipe": OPENVINO,
            "verdicts": SLOW,
            "stages": {
                "baseline": stage("baseline", "onnxruntime", 2e6),
                "converted": stage("converted", "openvino", 3e6),
            },
        },
        {
            "stages": {
                "baseline": stage("baseline", "onnxruntime", 2e6),
                "converted": stage("converted", "openvino", 1.9e6),
            }
        },
        "int8-static",
    ),
    Case(
        "baseline-quantized-already",
        {"verdicts": SLOW, "facts": replace(FACTS, weight_elements={"int8": 9, "float32": 1})},
        {"facts": FACTS},
    ),
    Case(
        "float-operator-dominates",
        {
            "recipe": options(STATIC, op_types=["Gemm"]),
            "verdicts": SLOW,
            "profile": profile(
                operators=(
                    OperatorTime("c", "FusedConv", 100, 90, "float32"),
                    OperatorTime("g", "QGemm", 100, 10, "int8"),
                )
            ),
        },
        {"profile": profile()},
        "op_types",
    ),
    Case(
        "float-operator-dominates",
        {
            "verdicts": SLOW,
            "profile": profile(operators=(OperatorTime("s", "Softmax", 100, 90, "float32"),)),
        },
        {
            "profile": profile(
                "overhead-bound", operators=(OperatorTime("s", "Softmax", 100, 90, "float32"),)
            )
        },
    ),
    Case(
        "float-operator-dominates",
        {
            "verdicts": SLOW,
            "profile": profile(operators=(OperatorTime("s", "Softmax", 100, 90, "float32"),)),
        },
        {"profile": profile(operators=(OperatorTime("q", "QuantizeLinear", 1, 9, "float32"),))},
    ),
    Case(
        "overhead-bound",
        {"verdicts": SLOW, "profile": profile("overhead-bound")},
        {"profile": profile("compute-bound")},
    ),
    Case(
        "overhead-bound",
        {"verdicts": SLOW, "profile": profile("contended", "overhead-bound")},
        {"profile": None},
    ),
    Case(
        "memory-bound",
        {"recipe": WEIGHTS, "verdicts": SLOW, "profile": profile("memory-bound")},
        {"profile": profile("overhead-bound")},
        "int4-weights",
    ),
    Case(
        "compute-bound-in-integers",
        {"verdicts": SLOW, "profile": profile("compute-bound")},
        {"profile": profile("compute-bound", integer_share=0.1)},
        "prune_ratio",
    ),
    Case(
        "contended-host",
        {
            "verdicts": verdicts(
                verdict("speedup", "inconclusive", contended=True, cpu_ratio=2.0, rounds=300)
            )
        },
        {"verdicts": verdicts(verdict("speedup", "inconclusive", contended=False, rounds=300))},
    ),
    Case(
        "contended-host",
        {
            "verdicts": verdicts(verdict("latency_consistency")),
            "profile": profile("contended"),
        },
        {"verdicts": SLOW},
    ),
    Case("more-threads-than-cores", {"verdicts": SLOW, "threads": 8}, {"threads": 4}, "threads"),
    Case(
        "threads-wait-for-each-other",
        {
            "verdicts": SLOW,
            "threads": 4,
            "profile": profile(runtime=RuntimeOptions(4), cpu_ns=1.2e6),
        },
        {"profile": profile(runtime=RuntimeOptions(4), cpu_ns=3.6e6)},
        "threads",
    ),
    Case(
        "cores-left-idle",
        {
            "verdicts": verdicts(verdict("latency_consistency", limits=OVER)),
            "stages": {
                "quantized": stage("quantized", "onnxruntime", 2e6),
                "accelerated": stage("accelerated", "onnxruntime", 1e6, 0),
            },
        },
        {
            "stages": {
                "quantized": stage("quantized", "onnxruntime", 2e6),
                "accelerated": stage("accelerated", "onnxruntime", 2.1e6, 0),
            }
        },
        "threads",
    ),
    Case(
        "reads-from-disk-in-calls",
        {"verdicts": SLOW, "profile": profile(major_faults=3.0)},
        {"profile": profile(major_faults=float("nan"))},
    ),
    Case("not-profiled", {"verdicts": SLOW}, {"profile": profile()}),
    Case(
        "accelerator-unused",
        {
            "recipe": Q4,
            "facts": LANGUAGE,
            "verdicts": SLOW,
            "host": replace(HOST, accelerators=(GPU,)),
            "accelerated_by": {"mlx": ("Apple",)},
        },
        {"host": HOST},
    ),
    Case(
        "device-not-used",
        {"verdicts": UNPROVEN, "precision": replace(INT8, claimed_device="GPU")},
        {"precision": replace(INT8, claimed_device="GPU", executed_devices=("GPU.0",))},
    ),
    Case(
        "metal-off",
        {
            "recipe": MLX,
            "facts": LANGUAGE,
            "verdicts": verdicts(verdict("speedup", "proxy", outcome_on_proxy="fail")),
        },
        {"precision": replace(INT8, executed_devices=("GPU",))},
    ),
    Case(
        "versions-known-to-fail",
        {
            "recipe": Recipe("olive", "int4-genai"),
            "verdicts": verdicts(
                replace(
                    verdict("speedup", "error", None),
                    reason="No module named 'onnxruntime_genai.models.quantized_model'",
                )
            ),
            "versions": {"olive-ai": "0.13.0", "onnxruntime-genai": "0.18.0"},
        },
        {"versions": {"olive-ai": "0.13.0", "onnxruntime-genai": "0.14.0"}},
    ),
    Case(
        "types-refused",
        {
            "recipe": options(STATIC, activation_type="int8", weight_type="uint8"),
            "verdicts": verdicts(
                replace(
                    verdict("speedup", "error", None),
                    reason="quantization doesn't support data format:activation_type=QInt8",
                )
            ),
        },
        {"verdicts": verdicts(verdict("speedup", "error", None))},
        "int8-static",
    ),
    Case(
        "slow-start",
        {"verdicts": verdicts(verdict("recovery", scenarios={"killed": {"counted_s": 1e4}}))},
        {
            "verdicts": verdicts(
                verdict("recovery", scenarios={"killed": {"counted_s": 1e4, "wrong": ["x"]}})
            )
        },
    ),
    Case(
        "calibration-cut-short",
        {"verdicts": LOSSY, "calibration": replace(CALIBRATION, calls_available=500)},
        {"calibration": CALIBRATION},
        "calibration_calls",
    ),
    Case(
        "few-calibration-samples",
        {"verdicts": LOSSY, "calibration": Calibration(12, "calibration.npz", 12, 12, 0, 1.2)},
        {"calibration": CALIBRATION},
    ),
    Case(
        "calibration-not-finite",
        {"verdicts": LOSSY, "calibration": replace(CALIBRATION, not_finite=3)},
        {"calibration": replace(CALIBRATION, not_finite=None)},
    ),
    Case(
        "calibration-outliers",
        {"verdicts": LOSSY, "calibration": replace(CALIBRATION, outlier_ratio=40.0)},
        {"calibration": replace(CALIBRATION, outlier_ratio=None)},
        "calibrate_method",
    ),
    Case(
        "calibration-outliers",
        {
            "recipe": OPENVINO,
            "verdicts": LOSSY,
            "calibration": replace(CALIBRATION, outlier_ratio=40.0),
        },
        {"verdicts": FINE},
    ),
    Case(
        "per-channel-missing",
        {"recipe": options(STATIC, per_channel=False), "verdicts": LOSSY},
        {"recipe": STATIC},
        "per_channel",
    ),
    Case(
        "per-channel-missing",
        {"verdicts": LOSSY, "log": ("quantized per tensor",)},
        {"log": ("quantized without adjusting weights for int32 biases",)},
    ),
    Case(
        "weight-range-and-vnni",
        {"verdicts": LOSSY, "multiplies_int8": False},
        {"multiplies_int8": None},
        "reduce_range",
    ),
    Case(
        "weight-range-and-vnni",
        {"verdicts": LOSSY, "recipe": options(STATIC, reduce_range=True)},
        {"multiplies_int8": False},
        "int8-static",
    ),
    Case(
        "static-ranges-in-a-transformer",
        {"verdicts": LOSSY, "facts": TRANSFORMER},
        {"facts": FACTS},
        "int8-dynamic",
    ),
    Case(
        "static-ranges-in-a-transformer",
        {
            "recipe": options(OPENVINO, model_type="none"),
            "verdicts": LOSSY,
            "facts": TRANSFORMER,
        },
        {"recipe": options(OPENVINO, model_type="transformer")},
        "model_type",
    ),
    Case(
        "class-lost",
        {
            "verdicts": verdicts(verdict("output_sanity", "fail", 1.0)),
            "sanity": replace(SANE, collapsed_classes=("7",)),
        },
        {"sanity": SANE},
    ),
    Case(
        "class-lost",
        {
            "verdicts": verdicts(
                verdict(
                    "slice_retained",
                    "fail",
                    0.2,
                    divisions={"class": {"cat": {"decision": "fail"}, "dog": {"decision": "pass"}}},
                )
            ),
        },
        {"calibration": None},
    ),
    Case(
        "outputs-not-finite",
        {
            "recipe": replace(MLX, options={"dtype": "float16"}),
            "verdicts": verdicts(verdict("output_sanity", "fail", 1.0)),
            "sanity": replace(SANE, nan_outputs={"y": 12}),
        },
        {"sanity": replace(SANE, nan_outputs={"y": 0})},
        "dtype",
    ),
    Case(
        "sensitive-layers",
        {"verdicts": LOSSY, "sensitivity": sensitivity(9.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)},
        {"sensitivity": sensitivity(*[1.0] * 8)},
        "nodes_to_exclude",
    ),
    Case(
        "no-layer-to-blame",
        {"recipe": OPENVINO, "verdicts": LOSSY, "sensitivity": sensitivity(*[1.0] * 8)},
        {"sensitivity": sensitivity(9.0, *[0.1] * 7)},
        "int8-weights",
    ),
    Case(
        "too-few-bits",
        {
            "recipe": Q4,
            "facts": LANGUAGE,
            "verdicts": LOSSY,
            "precision": replace(INT8, weight_elements={"q4_k": 9, "q6_k": 1}),
        },
        {"verdicts": FINE},
        "q8_0",
    ),
    Case(
        "too-few-bits",
        {
            "recipe": Recipe("mlx", "int8-g64"),
            "facts": LANGUAGE,
            "verdicts": LOSSY,
            "precision": replace(INT8, weight_elements={"int8": 9}),
        },
        {"recipe": OPENVINO},
    ),
    Case(
        "float-weights-left",
        {
            "facts": TRANSFORMER,
            "verdicts": UNPROVEN,
            "precision": replace(INT8, weight_elements={"int8": 50, "float32": 50}),
        },
        {"precision": INT8},
        "op_types",
    ),
    Case(
        "layers-left-out",
        {
            "recipe": options(STATIC, nodes_to_exclude=["fc"]),
            "verdicts": UNPROVEN,
            "precision": FLOAT_CONV,
        },
        {"recipe": STATIC},
        "int8-static",
    ),
    Case(
        "memory-is-not-the-weights",
        {"verdicts": HEAVY, "memory": memory(80, baseline=120)},
        {"memory": memory(40)},
    ),
    Case(
        "file-is-not-the-weights",
        {
            "verdicts": verdicts(verdict("artifact_size", "fail", 4881.0)),
            "precision": replace(INT8, weight_elements={"int8": 1280, "float32": 4}),
            "artifact_bytes": 4881,
        },
        {"artifact_bytes": 2000},
    ),
    Case(
        "compiling-holds-memory",
        {"recipe": OPENVINO, "verdicts": HEAVY, "memory": memory(50, steady=15)},
        {"memory": memory(50, steady=45)},
        "int8-weights",
    ),
    Case(
        "batch-holds-memory",
        {"verdicts": HEAVY, "memory": memory(45), "samples_per_call": 32},
        {"samples_per_call": 1},
    ),
    Case(
        "context-too-long",
        {"recipe": Q4, "facts": LANGUAGE, "verdicts": HEAVY, "memory": DECODING}
        | {"context_length": 4096},
        {"memory": replace(DECODING, candidate_kv_cache_bytes=5 * MIB)},
    ),
    Case(
        "weights-not-mapped",
        {
            "verdicts": verdicts(verdict("memory_footprint")),
            "memory": memory(50, candidate_mapped_bytes=20 * MIB),
        },
        {"memory": memory(50, candidate_mapped_bytes=45 * MIB)},
    ),
    Case(
        "rows-fall-back",
        {
            "recipe": Q4,
            "facts": replace(LANGUAGE, row_elements={288: 80, 768: 20}),
            "verdicts": UNPROVEN,
        },
        {"facts": replace(LANGUAGE, row_elements={256: 80, 768: 20})},
        "q4_0",
    ),
    Case(
        "more-seconds-would-decide",
        {"verdicts": verdicts(verdict("speedup", "inconclusive", rounds=300, further_rounds=500))},
        {"verdicts": verdicts(verdict("speedup", "inconclusive", rounds=300, further_rounds=None))},
    ),
    Case(
        "more-samples-would-decide",
        {"verdicts": verdicts(verdict("accuracy_retained", "inconclusive", samples_needed=1200))},
        {"verdicts": verdicts(verdict("accuracy_retained", "inconclusive", samples_needed=None))},
    ),
)
