"""The work of one inference of a graph: multiply-accumulates, and the bytes that it moves.

Conventions. One multiply-accumulate is two FLOPs, and only operators that multiply and accumulate
count (convolutions, products, attention, recurrent cells), as in PyTorch's FlopCounterMode
(torch/utils/flop_counter.py): "2 x M x N x K"; the elementwise rest is bound by its bytes. Bytes
are the traffic of the roofline model (Williams, Waterman and Patterson 2009,
https://doi.org/10.1145/1498765.1498785) without fusion and without a cache: every stored weight
once, and every activation once for each operator that writes or reads it. Operators that only
rename (reshapes) or that runtimes fold into their neighbors (quantize, dequantize) move nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_edgeai.assess.structure import Workload

NOTE = (
    "of one inference at batch 1: 2 FLOPs per multiply-accumulate; every weight moved once, every "
    "activation once for each operator that writes or reads it"
)
FREE = frozenset(
    """
    Reshape Flatten Squeeze Unsqueeze Identity Dropout Shape ShapeOf Size QuantizeLinear
    DequantizeLinear FakeQuantize
    """.split()  # noqa: SIM905
)
LOOKUPS = frozenset({"Gather", "Embedding", "GatherBlockQuantized"})


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a graph.

    Attributes:
        operator: operator type.
        inputs: values that it reads.
        outputs: values that it writes.
        macs: multiply-accumulates; ``None`` where they are unknown.
        why: why they are unknown.
    """

    operator: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    macs: int | None = 0
    why: str = ""


def graph_workload(
    steps: Iterable[Step],
    stored: Mapping[str, tuple[object, int]],
    sizes: Mapping[str, int],
) -> Workload:
    """Return the work of a graph.

    Args:
        steps: every operator, producers before consumers.
        stored: value to what identifies its stored bytes, and their number.
        sizes: value to the bytes of the activation; values of unknown size are left out.
    """
    listed = list(steps)
    consumers: dict[str, list[Step]] = {}
    for step in listed:
        for value in step.inputs:
            consumers.setdefault(value, []).append(step)
    weights = _Weights(stored)
    renamed: dict[str, str] = {}
    macs = moved = 0
    no_macs = no_bytes = ""
    for step in listed:
        # What follows from constants alone is computed once, when the model is loaded.
        if all(value in weights for value in step.inputs):
            weights.derive(step)
            continue
        if step.macs is None:
            no_macs = no_macs or step.why
        else:
            macs += step.macs
        if step.operator in FREE:
            source = renamed.get(step.inputs[0], step.inputs[0])
            keeps = step.operator not in ("QuantizeLinear", "Shape", "ShapeOf", "Size")
            renamed.update((value, source if keeps else value) for value in step.outputs)
            continue
        written = [_written(value, consumers) for value in step.outputs]
        activations = [renamed.get(v, v) for v in step.inputs if v not in weights]
        unknown = next((v for v in (*activations, *written) if v not in sizes), None)
        if unknown is not None:
            no_bytes = no_bytes or f'the size of the value "{unknown[:64]}" is not known'
            continue
        out_bytes = sum(sizes[value] for value in written)
        moved += out_bytes + sum(sizes[value] for value in dict.fromkeys(activations))
        read = weights.first_read(step.inputs)
        moved += min(read, out_bytes) if step.operator in LOOKUPS else read
    flops = None if no_macs else 2 * macs
    moved_bytes = None if no_bytes or no_macs else moved
    return Workload(flops, moved_bytes, no_macs or no_bytes or NOTE)


def _written(value: str, consumers: Mapping[str, Sequence[Step]]) -> str:
    """Return what is really written: the quantized value where nobody wants the other."""
    users = consumers.get(value, ())
    if users and all(user.operator == "QuantizeLinear" for user in users):
        return users[0].outputs[0] if users[0].outputs else value
    return value


class _Weights:
    """Stored tensors and what follows from them alone; each stored byte is read once."""

    def __init__(self, stored: Mapping[str, tuple[object, int]]) -> None:
        self._stored = stored
        self._derived: dict[str, Sequence[str]] = {}
        self._seen: set[str] = set()
        self._counted: set[object] = set()

    def __contains__(self, value: str) -> bool:
        return value in self._stored or value in self._derived

    def derive(self, step: Step) -> None:
        for value in step.outputs:
            self._derived.setdefault(value, step.inputs)

    def first_read(self, values: Iterable[str]) -> int:
        """Return the stored bytes behind ``values`` that no operator has read before."""
        pending = list(values)
        total = 0
        while pending:
            value = pending.pop()
            if value in self._seen or value not in self:
                continue
            self._seen.add(value)
            pending.extend(self._derived.get(value, ()))
            key, size = self._stored.get(value, (None, 0))
            if size and key not in self._counted:
                self._counted.add(key)
                total += size
        return total
