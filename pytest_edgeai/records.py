"""The frozen records that flow from the manifest to the report, and their JSON form.

Units stand in the names: ``_ns`` nanoseconds, ``_s`` seconds, ``_bytes`` bytes, ``_ratio`` a plain
quotient. Arrays are NumPy arrays whose dtype and shape each field states.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

JSON: TypeAlias = Any
Int64Array: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

Outcome: TypeAlias = Literal["pass", "fail", "inconclusive", "proxy", "not_applicable", "error"]
Relation: TypeAlias = Literal["more_than", "at_least", "at_most"]
Architecture: TypeAlias = Literal[
    "convolutional", "transformer", "recurrent", "mixture-of-experts", "language-model", "other"
]
ModelFormat: TypeAlias = Literal["onnx", "openvino", "gguf", "huggingface"]

PROMOTABLE_OUTCOMES: frozenset[Outcome] = frozenset({"pass", "not_applicable"})


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: name in the model.
        dtype: NumPy dtype name (``float32``, ``int64`` ...), or ``str`` for string tensors.
        shape: one entry per axis; ``None`` where the axis is dynamic.
        has_shape: False where the model states no shape; ``shape`` is then empty and says nothing.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    has_shape: bool = True


@dataclass(frozen=True)
class LanguageModelFacts:
    """What the metadata of a GGUF file or a Hugging Face ``config.json`` says about a network.

    ``None`` or an empty string means that the metadata do not say.

    Attributes:
        family: the architecture as the format names it (``llama``, ``qwen2`` ...).
        is_known: whether the format's own tools know the family; True where there is no list.
        context_length: longest sequence, in tokens, that the model was made for.
        vocabulary: number of tokens of the embedding.
        hidden_size: width of the residual stream.
        layers: number of blocks.
        heads: attention heads of a block; ``None`` too where blocks differ.
        kv_heads: heads of the keys and values, likewise.
        head_size: width of one head.
        experts: experts of a mixture-of-experts layer, 0 without.
        experts_per_token: experts that one token is routed to, 0 without.
        tokenizer: the tokenizer that comes with the weights: its kind (``gpt2``, ``llama``) in a
            GGUF file, its file (``tokenizer.json`` ...) in a directory; empty: there is none.
        has_chat_template: whether a chat template comes with it.
        tied_embeddings: whether the output layer shares the weights of the embedding.
    """

    family: str
    is_known: bool = True
    context_length: int | None = None
    vocabulary: int | None = None
    hidden_size: int | None = None
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_size: int | None = None
    experts: int = 0
    experts_per_token: int = 0
    tokenizer: str = ""
    has_chat_template: bool = False
    tied_embeddings: bool = False

    @property
    def kv_cache_elements_per_token(self) -> int | None:
        """Keys and values that one token adds to the cache: 2 x layers x KV heads x head size."""
        if not (self.layers and self.kv_heads and self.head_size):
            return None
        return 2 * self.layers * self.kv_heads * self.head_size


@dataclass(frozen=True)
class ModelFacts:
    """What a model file says about itself, read without running it.

    Attributes:
        path: the model file, or the directory of a Hugging Face model.
        format: ``onnx``, ``openvino``, ``gguf`` or ``huggingface``.
        sha256: hex digest over the model file and its external data files, in order of name.
        size_bytes: model file plus external data.
        files: the model file and every external data file it refers to.
        opset: version of the default operator set, 0 where the format has none.
        inputs: inputs that a caller must feed (initializers excluded).
        outputs: outputs in the model's order.
        operators: operator type to number of nodes, subgraphs and functions included.
        parameters: number of elements of all weights.
        weight_elements: weight dtype name to number of elements; quantized GGUF tensors go by
            their ggml type in lower case (``q4_k``).
        architecture: the class that the default recipes are chosen by.
        quantization: the scheme that the weights are stored in as the format names it (``q4_k_m``,
            ``gptq-int4``, ``mlx-int4-g64``); empty where it names none.
        dynamic_inputs: names of inputs with an axis that is not fixed.
        flops_per_inference: floating-point operations of one inference at batch 1, or of one
            generated token for a language model; one multiply-accumulate counts as two. ``None``
            where the file alone does not tell.
        bytes_per_inference: bytes that the same inference moves; ``None`` likewise.
        workload_note: what the two figures are, or why they are not known.
        language: facts of a GGUF or Hugging Face model; ``None`` for the other formats.
        notes: what a reader should know before using the model, one sentence each.
    """

    path: Path
    format: ModelFormat
    sha256: str
    size_bytes: int
    files: tuple[Path, ...]
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    parameters: int
    weight_elements: Mapping[str, int]
    architecture: Architecture
    quantization: str = ""
    dynamic_inputs: tuple[str, ...] = ()
    flops_per_inference: int | None = None
    bytes_per_inference: int | None = None
    workload_note: str = ""
    language: LanguageModelFacts | None = None
    notes: tuple[str, ...] = ()

    @property
    def arithmetic_intensity(self) -> float | None:
        """FLOPs per byte moved, as in the roofline model; ``None`` where either is unknown."""
        if self.flops_per_inference is None or not self.bytes_per_inference:
            return None
        return self.flops_per_inference / self.bytes_per_inference


@dataclass(frozen=True)
class Accelerator:
    """A processor beside the CPU that can run models.

    Attributes:
        kind: ``gpu``, ``npu`` (the neural engines of phones and laptops) or ``tpu``.
        vendor: ``NVIDIA``, ``Intel``, ``AMD``, ``Apple``, ``Qualcomm`` or ``Google``.
        name: marketing name where the interface gives it, else what identifies the device.
        memory_bytes: memory of its own; ``None`` where it shares the host's or none is stated.
        source: the interface that it was found through.
    """

    kind: Literal["gpu", "npu", "tpu"]
    vendor: str
    name: str
    memory_bytes: int | None
    source: str


@dataclass(frozen=True)
class HostFacts:
    """The machine that measures; an empty string or ``None`` means unknown.

    Attributes:
        hostname: network name of the machine.
        system: ``Linux``, ``Darwin`` or ``Windows``, with its release.
        architecture: machine architecture as the kernel names it (``x86_64``, ``aarch64`` ...).
        cpu_vendor: ``GenuineIntel``, ``AuthenticAMD``, ``Apple``, ``ARM`` ...
        cpu_model: marketing name.
        logical_cores: cores this process may run on.
        memory_bytes: physical memory, or the container's limit where that is lower.
        simd: the features that decide INT8 speed (``avx2``, ``avx512_vnni``, ``avx_vnni``,
            ``amx_int8``, ``asimddp``, ``i8mm`` ...).
        virtualization: hypervisor or container where one is recognised.
        sources: fact name to the interface that it was read from.
        accelerators: processors beside the CPU, as the system's own interfaces list them.
        power_source: ``mains`` or ``battery``.
        battery_percent: charge of the battery; ``None`` without one.
        cpu_limit: CPUs that the container's quota allows; ``None`` without a quota.
        memory_limit_bytes: memory that the container may use; ``None`` without a limit below the
            physical memory.
    """

    hostname: str
    system: str
    architecture: str
    cpu_vendor: str
    cpu_model: str
    logical_cores: int
    memory_bytes: int | None
    simd: tuple[str, ...]
    virtualization: str
    sources: Mapping[str, str]
    accelerators: tuple[Accelerator, ...] = ()
    power_source: str = ""
    battery_percent: int | None = None
    cpu_limit: float | None = None
    memory_limit_bytes: int | None = None


@dataclass(frozen=True)
class Recipe:
    """One way to make a candidate: a framework, a scheme and its options.

    Attributes:
        framework: name of the framework.
        scheme: what is done to the weights and activations, e.g. ``int8-static``.
        options: options of the scheme, as plain JSON values.
        label: distinguishes recipes of the same framework and scheme; empty by default.
        reason: why this recipe was planned, for the reader of the plan.
    """

    framework: str
    scheme: str
    options: Mapping[str, JSON] = field(default_factory=dict)
    label: str = ""
    reason: str = ""

    @property
    def id(self) -> str:
        """Stable name of the candidate that this recipe makes: ``openvino-int8-static``."""
        return "-".join(part for part in (self.framework, self.scheme, self.label) if part)


@dataclass(frozen=True)
class RuntimeOptions:
    """How a runtime executes an artifact.

    Attributes:
        threads: threads inside one operator; 0 leaves the choice to the runtime.
        device: the runtime's own device name (``CPU``, ``GPU`` ...).
        hints: runtime properties passed through as they are.
    """

    threads: int = 1
    device: str = "CPU"
    hints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """One optimised model on disk.

    Attributes:
        path: the file that the framework loads; its companions lie beside it.
        files: every file of the artifact.
        framework: the framework that runs it.
        claimed_precision: the precision its scheme promises (``int8``, ``float32`` ...).
        sha256: hex digest over the names and bytes of ``files``.
        size_bytes: sum over ``files``.
        key: content address: hex digest over model bytes, recipe, calibration bytes, versions.
        from_cache: whether this session found it in the cache.
        seconds: how long making it took.
        versions: distribution name to version of every tool that made it.
        log: what the framework reported while making it, one line each.
    """

    path: Path
    files: tuple[Path, ...]
    framework: str
    claimed_precision: str
    sha256: str
    size_bytes: int
    key: str
    from_cache: bool
    seconds: float
    versions: Mapping[str, str]
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class PrecisionFacts:
    """What an artifact and its runtime really contain and execute.

    Attributes:
        weight_elements: dtype name to number of weight elements stored on disk.
        quantized_operators: operators (by type) that compute on quantised weights or activations,
            as the artifact declares them.
        executed_precisions: precision name to number of executed operators, as the *runtime*
            reports it after compiling; empty where the runtime cannot tell.
        claimed_device: the device that was asked for.
        executed_devices: the devices that the runtime says it executes on.
    """

    weight_elements: Mapping[str, int]
    quantized_operators: Mapping[str, int]
    executed_precisions: Mapping[str, int]
    claimed_device: str
    executed_devices: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class PairedTimings:
    """Interleaved timings of baseline and candidate; every array has shape ``(rounds,)``.

    Attributes:
        baseline_wall_ns: int64, ``perf_counter_ns`` around one baseline call.
        candidate_wall_ns: int64, the same for the candidate.
        baseline_cpu_ns: int64, ``process_time_ns`` around it; ``None`` where CPU time says nothing.
        candidate_cpu_ns: int64, the same for the candidate.
        baseline_preemptions: int64, involuntary context switches during the call.
        candidate_preemptions: int64, the same for the candidate.
        baseline_first: bool, whether the baseline ran first in the round.
        attempt: int64, index of the attempt that the round belongs to.
    """

    baseline_wall_ns: Int64Array
    candidate_wall_ns: Int64Array
    baseline_cpu_ns: Int64Array | None
    candidate_cpu_ns: Int64Array | None
    baseline_preemptions: Int64Array
    candidate_preemptions: Int64Array
    baseline_first: BoolArray
    attempt: Int64Array

    @property
    def rounds(self) -> int:
        """Number of completed rounds."""
        return len(self.baseline_wall_ns)


@dataclass(frozen=True)
class MemorySamples:
    """Peak memory of fresh processes, one entry per repeat.

    Attributes:
        definition: how the figure was taken, e.g. ``linux-peak-growth-less-code-pages``; figures of
            different definitions are never compared.
        baseline_bytes: model memory of the baseline.
        candidate_bytes: model memory of the candidate.
        baseline_footprint_bytes: absolute peak of the baseline's process.
        candidate_footprint_bytes: absolute peak of the candidate's process.
    """

    definition: str
    baseline_bytes: tuple[int, ...]
    candidate_bytes: tuple[int, ...]
    baseline_footprint_bytes: tuple[int, ...]
    candidate_footprint_bytes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class PairedQuality:
    """Per-sample results of baseline and candidate on the same evaluation samples.

    Attributes:
        metric: name of the metric.
        kind: ``proportion`` (scores are 0 or 1) or ``loss`` (non-negative, lower is better).
        baseline_scores: float64, shape ``(samples,)``.
        candidate_scores: float64, shape ``(samples,)``.
        classes: the class of each sample, shape ``(samples,)``, any dtype; ``None`` without classes.
    """

    metric: str
    kind: Literal["proportion", "loss"]
    baseline_scores: NDArray[np.float64]
    candidate_scores: NDArray[np.float64]
    classes: NDArray[Any] | None


@dataclass(frozen=True)
class OutputSanity:
    """What the outputs of baseline and candidate look like over all evaluation samples.

    Attributes:
        samples: number of samples that both were run on.
        contract_breaches: differences in output names, ranks, shapes or dtypes, one sentence each.
        nan_outputs: candidate output name to number of NaN elements where the baseline had a number.
        inf_outputs: candidate output name to number of infinite elements, likewise.
        constant_outputs: candidate outputs that never vary although the baseline's do.
        collapsed_classes: classes whose recall fell to zero although the baseline recalled some.
        class_support: class to number of evaluation samples.
    """

    samples: int
    contract_breaches: tuple[str, ...]
    nan_outputs: Mapping[str, int]
    inf_outputs: Mapping[str, int]
    constant_outputs: tuple[str, ...]
    collapsed_classes: tuple[str, ...]
    class_support: Mapping[str, int]


@dataclass(frozen=True)
class LatencySummary:
    """Latency of one model in one configuration, from a plain loop after warm-up.

    Attributes:
        samples: number of timed calls.
        p50_ns: median wall time.
        p95_ns: 95th percentile of wall time.
        p99_ns: 99th percentile of wall time.
        cpu_p50_ns: median CPU time of the process; ``None`` where CPU time says nothing.
        threads: threads that the runtime was given.
        batch: samples per call.
    """

    samples: int
    p50_ns: float
    p95_ns: float
    p99_ns: float
    cpu_p50_ns: float | None
    threads: int
    batch: int


@dataclass(frozen=True)
class Stage:
    """One step on the way from the baseline to what ships.

    Attributes:
        name: ``baseline``, ``converted``, ``quantized`` or ``accelerated``.
        framework: the framework that ran it.
        runtime: how it was run.
        latency: its latency.
        size_bytes: size of the model that was run.
        metric: name of the metric.
        score: the metric over the evaluation data; ``None`` where it was not evaluated.
        memory_bytes: model memory, median of the repeats; ``None`` where it was not measured.
    """

    name: Literal["baseline", "converted", "quantized", "accelerated"]
    framework: str
    runtime: RuntimeOptions
    latency: LatencySummary
    size_bytes: int
    metric: str
    score: float | None
    memory_bytes: int | None


@dataclass(frozen=True)
class Threshold:
    """The limit of a gate, and where it was set.

    Attributes:
        value: the limit; ``None`` where the gate has none.
        relation: how the observed value must stand to it.
        origin: ``default``, ``edgeai.toml``, ``--edge-threshold``, ``marker`` ...
    """

    value: float | None
    relation: Relation
    origin: str = "default"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one gate for one candidate.

    Attributes:
        gate: name of the gate.
        outcome: what was decided.
        observed: point estimate of what the gate judges; ``None`` where nothing was observed.
        interval: lower and upper bound of ``observed``; an open side is ``None``.
        confidence: two-sided confidence of ``interval``.
        threshold: the limit; ``None`` where the gate has none.
        relation: how ``observed`` must stand to ``threshold``.
        threshold_origin: where the limit was set.
        unit: ``ratio``, ``bytes``, ``ns``, ``classes`` ...
        samples: number of independent observations behind the verdict.
        reason: why, in one plain sentence.
        advice: what the user can do next; empty after a pass.
        details: further figures for the report, as plain JSON values.
    """

    gate: str
    outcome: Outcome
    observed: float | None
    interval: tuple[float | None, float | None] | None
    confidence: float | None
    threshold: float | None
    relation: Relation
    unit: str
    samples: int
    reason: str
    advice: str = ""
    threshold_origin: str = "default"
    details: Mapping[str, JSON] = field(default_factory=dict)


def to_json(value: Any) -> JSON:
    """Return ``value`` as plain JSON types: paths as POSIX strings, arrays as lists, NaN as null.

    Raises:
        TypeError: for a value that has no JSON form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [to_json(item) for item in items]
    if isinstance(value, np.ndarray):
        return [to_json(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    raise TypeError(f"no JSON form for {type(value).__name__}")
