"""A session to make reports of: two models, four candidates, and most of what can happen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pytest_edgeai.records import (
    Artifact,
    HostFacts,
    LatencySummary,
    Recipe,
    RuntimeOptions,
    Stage,
    Verdict,
)
from pytest_edgeai.report.content import CandidateReport, HostReport, ModelReport, Report

HOST = HostFacts(
    hostname="ci-runner-7",
    system="Linux 6.8.0",
    architecture="x86_64",
    cpu_vendor="AuthenticAMD",
    cpu_model="AMD EPYC 7B13",
    logical_cores=2,
    memory_bytes=8 * 2**30,
    simd=("avx2", "avx512_vnni"),
    virtualization="kvm",
    sources={"cpu_model": "/proc/cpuinfo"},
)
GATES = (
    "accuracy_retained",
    "speedup",
    "memory_cut",
    "artifact_size",
    "latency_consistency",
    "output_sanity",
    "precision_proof",
)


def stage(name: str, framework: str, p50_ms: float, mib: float, memory_mib: float) -> Stage:
    """Return one measured stage."""
    return Stage(
        name=name,  # type: ignore[arg-type]
        framework=framework,
        runtime=RuntimeOptions(),
        latency=LatencySummary(
            samples=400,
            p50_ns=p50_ms * 1e6,
            p95_ns=p50_ms * 1.1e6,
            p99_ns=p50_ms * 1.3e6,
            cpu_p50_ns=p50_ms * 0.99e6,
            threads=2 if name == "accelerated" else 1,
            batch=1,
        ),
        size_bytes=int(mib * 2**20),
        metric="accuracy",
        score=0.9815,
        memory_bytes=int(memory_mib * 2**20),
        steady_bytes=int(memory_mib * 2**19),
    )


def artifact(framework: str) -> Artifact:
    """Return an artifact record; its files need not exist."""
    path = Path("cache/3f/model.xml")
    return Artifact(
        path=path,
        files=(path, path.with_suffix(".bin")),
        framework=framework,
        claimed_precision="int8",
        sha256="3f" * 32,
        size_bytes=5_900_000,
        key="ab" * 32,
        from_cache=True,
        seconds=11.5,
        versions={"openvino": "2025.3.0", "nncf": "2.18.0"},
    )


def passing_verdicts() -> tuple[Verdict, ...]:
    """Return the seven shipped gates, all passed."""
    return (
        Verdict("accuracy_retained", "pass", 0.9981, (0.9872, 1.0087), 0.95, 0.95, "more_than",
                "ratio", 540, "98.0% of the baseline's accuracy is certain."),
        Verdict("speedup", "pass", 2.746, (2.61, 2.90), 0.95, 1.5, "at_least", "ratio", 212,
                "At least 2.61x as fast.", threshold_origin="edgeai.toml"),
        Verdict("memory_cut", "pass", 0.6123, (0.58, 0.6411), 0.95, 0.5, "at_least", "ratio", 5,
                "Uses 61% less memory."),
        Verdict("artifact_size", "pass", 5_900_000, None, None, 8 * 2**20, "at_most", "bytes", 1,
                "5.63 MiB.", threshold_origin="edgeai.toml"),
        Verdict("latency_consistency", "pass", 1.04, (0.98, 1.096), 0.95, 1.1, "at_most", "ratio",
                212, "p95 holds."),
        Verdict("output_sanity", "pass", 0, None, None, 0, "at_most", "classes", 540, "Sane."),
        Verdict("precision_proof", "pass", 0.9893, None, None, 0.8, "at_least", "share", 12,
                "98.9% of the weights are int8."),
    )  # fmt: skip


def typical_report() -> Report:
    """Return a session of two models and four candidates in which most things happen."""
    passed = passing_verdicts()
    by_gate = {verdict.gate: verdict for verdict in passed}
    failing = (
        by_gate["accuracy_retained"],
        dataclasses.replace(
            by_gate["speedup"],
            outcome="fail",
            observed=1.312,
            interval=(1.27, 1.356),
            reason="The candidate is 1.31x as fast as the baseline, and at most 1.36x; 1.5x is "
            "required.",
            advice="Dynamic quantization leaves convolutions in FP32: try the int8-static scheme.",
        ),
        dataclasses.replace(
            by_gate["memory_cut"],
            outcome="inconclusive",
            observed=0.5012,
            interval=(0.4711, 0.5307),
            reason="The interval contains the limit after 5 repeats.",
            advice="About 22 repeats would decide: raise --edge-budget to 90.",
        ),
        dataclasses.replace(
            by_gate["latency_consistency"],
            outcome="not_applicable",
            observed=None,
            interval=None,
            threshold=None,
            reason="The candidate has no tail to judge below 100 samples.",
        ),
    )
    broken = tuple(
        Verdict(gate, "error", None, None, None, None, "at_least", "ratio", 0,
                "openvino worker, optimize: killed by signal 9 (out of memory) after 41 s.",
                advice="Give it more memory, or lower calibration samples with [models.digits] "
                "calibration_samples = 64.")
        for gate in GATES
    )  # fmt: skip
    proxied = (
        by_gate["accuracy_retained"],
        dataclasses.replace(
            by_gate["speedup"],
            outcome="proxy",
            reason="Measured on an AuthenticAMD host, which says nothing certain about Intel.",
            advice="Measure on an Intel host, or accept the proxy with --edge-allow-proxy.",
        ),
        *passed[2:],
    )
    stages = (
        stage("converted", "openvino", 3.71, 22.1, 41.0),
        stage("quantized", "openvino", 1.497, 5.63, 18.7),
        stage("accelerated", "openvino", 0.861, 5.63, 19.1),
    )
    digits = ModelReport(
        name="digits",
        sha256="d1" * 32,
        task="image-classification",
        baseline_framework="onnxruntime",
        baseline_path=Path("models/digits.onnx"),
        baseline_stage=stage("baseline", "onnxruntime", 4.112, 22.0, 48.2),
        candidates=(
            CandidateReport("openvino-int8-static", "intel", Recipe("openvino", "int8-static"),
                            artifact("openvino"), stages, passed, GATES, True, ()),
            CandidateReport("onnxruntime-int8-dynamic", "intel",
                            Recipe("onnxruntime", "int8-dynamic"), artifact("onnxruntime"),
                            (stage("quantized", "onnxruntime", 3.13, 5.9, 24.1),), failing, GATES,
                            False, ("speedup", "memory_cut", "artifact_size", "output_sanity",
                                    "precision_proof"),
                            {"speedup": "dynamic quantization of a CNN is slow; issue 41"}),
            CandidateReport("openvino-int8-static-mixed-per-channel-bias-corrected-with-sq",
                            "intel", Recipe("openvino", "int8-static"), None, (), broken, GATES,
                            False, GATES),
        ),
    )  # fmt: skip
    text = ModelReport(
        name="reader",
        sha256="e2" * 32,
        task="text-classification",
        baseline_framework="onnxruntime",
        baseline_path=Path("models/reader.onnx"),
        baseline_stage=None,
        candidates=(
            CandidateReport("openvino-int8-static", "intel", Recipe("openvino", "int8-static"),
                            artifact("openvino"), (), proxied, GATES, False, ("speedup",)),
        ),
    )  # fmt: skip
    unread = dataclasses.replace(
        text, name="scan", candidates=(), sha256="", problem="models/scan.onnx: truncated file"
    )
    return Report(
        created="2026-11-21T12:00:00+00:00",
        tool_version="0.1.0",
        hosts=(HostReport(HOST, "intel", True, "its processor is AuthenticAMD, not GenuineIntel"),),
        command=("pytest", "--edge-target=intel"),
        settings={"speedup": ("1.5", "edgeai.toml")},
        models=(digits, text, unread),
        evidence_directory=Path(".edgeai/evidence/2026-11-21T12-00-00"),
        evidence_sha256="9a" * 32,
        notes=("The load of other processes was above 0.5 in 12% of the rounds.",),
    )
