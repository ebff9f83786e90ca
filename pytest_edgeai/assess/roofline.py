"""What one call of a model costs on a host, guessed from both before anything runs."""

from __future__ import annotations

from pytest_edgeai.records import HostFacts

FLOPS_PER_CYCLE = (("avx512f", 64), ("avx2", 32), ("asimd", 16))
"""FP32 operations of one core and cycle: two fused multiply-adds of 16, 8 or 4 lanes."""
SCALAR_FLOPS_PER_CYCLE = 8
CYCLES_PER_S = 2.5e9
"""Sustained clock of the cores that such features are found on; hosts do not state theirs."""
SUSTAINED_SHARE = 0.4
"""What optimized runtimes reach of the peak in convolutions and products of matrices."""
BYTES_PER_S = 10e9
"""Memory bandwidth that one core sustains."""
OPERATOR_NS = 1_500.0
"""What a runtime spends on an operator beside its arithmetic."""
CALL_NS = 5_000.0
"""What a runtime spends on a call beside its operators."""


def estimate_call_ns(
    flops: int | None, moved_bytes: int | None, operators: int, host: HostFacts, *, threads: int
) -> float | None:
    """Return a guess at the time of one call, right within a factor of about four.

    The roofline model (Williams, Waterman and Patterson 2009,
    https://doi.org/10.1145/1498765.1498785): the longer of computing and moving, plus what every
    operator and the call cost by themselves.

    Args:
        flops: floating-point operations of the call; ``None`` where they are not known.
        moved_bytes: bytes that it moves; ``None`` likewise.
        operators: number of operators.
        host: the machine.
        threads: threads that compute; 0: all cores.

    Returns:
        Nanoseconds; ``None`` where nothing is known of the work.
    """
    if flops is None and moved_bytes is None:
        return None
    cores = max(1, min(threads or host.logical_cores, host.logical_cores))
    per_cycle = next(
        (count for feature, count in FLOPS_PER_CYCLE if feature in host.simd),
        SCALAR_FLOPS_PER_CYCLE,
    )
    computing_s = (flops or 0) / (per_cycle * CYCLES_PER_S * SUSTAINED_SHARE * cores)
    moving_s = (moved_bytes or 0) / BYTES_PER_S
    return max(computing_s, moving_s) * 1e9 + operators * OPERATOR_NS + CALL_NS
