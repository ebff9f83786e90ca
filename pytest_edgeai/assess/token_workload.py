"""The work of one generated token, from the weights alone.

A token passes once through every weight matrix, so it costs two FLOPs (one multiply, one add) per
parameter that it touches: "Scaling Laws for Neural Language Models" (Kaplan et al. 2020,
https://arxiv.org/abs/2001.08361, section 2.1), C_forward = 2 N + 2 n_layer n_ctx d_attn. The second
term grows with the context and is left out: the figures hold at an empty KV cache. Unlike Kaplan's
N the output layer counts, since a token runs through it; of a lookup table one row is read. At
batch 1 every touched weight is read from memory once, so the bytes are those of the stored weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_edgeai.assess.structure import Workload

NOTE = (
    "per generated token at an empty KV cache: 2 FLOPs per weight that a token touches, "
    "and the stored bytes of those weights"
)


@dataclass(frozen=True, slots=True)
class Weight:
    """One stored tensor, as the work of a token sees it.

    Attributes:
        elements: number of weights.
        stored_bytes: bytes on disk, scales included.
        rows: rows of a lookup table, of which a token reads one; 0 for anything else.
        is_output: whether a lookup table serves as the output layer too.
        is_expert: whether only tokens routed to an expert touch it.
    """

    elements: int
    stored_bytes: int
    rows: int = 0
    is_output: bool = False
    is_expert: bool = False


def token_workload(weights: Iterable[Weight], *, experts: int, experts_per_token: int) -> Workload:
    """Return the work of one generated token.

    Args:
        weights: every stored tensor.
        experts: experts of a mixture-of-experts layer, 0 without.
        experts_per_token: experts that one token is routed to.
    """
    routed = 0 < experts_per_token <= experts
    flops = moved = expert_flops = expert_bytes = 0
    for weight in weights:
        if weight.is_expert:
            expert_flops += 2 * weight.elements
            expert_bytes += weight.stored_bytes
            continue
        if weight.rows:
            moved += weight.stored_bytes // weight.rows
            if not weight.is_output:
                continue
        flops += 2 * weight.elements
        moved += weight.stored_bytes
    if expert_flops and not routed:
        return Workload(
            None, None, "the metadata do not say how many experts one token is routed to"
        )
    if expert_flops:
        flops += expert_flops * experts_per_token // experts
        moved += expert_bytes * experts_per_token // experts
    return Workload(flops, moved, NOTE)
