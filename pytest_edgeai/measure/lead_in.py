"""How many calls begin a turn, so that what is judged finds its weights in the caches."""

from __future__ import annotations

LEAD_IN_CALLS = 16
LEAD_IN_NS = 12_000_000
LEAD_IN_NEEDLESS_NS = 16_000_000


def lead_in_calls(call_ns: float) -> int:
    """Return how many calls begin a turn of a model whose call takes ``call_ns``.

    As many of :data:`LEAD_IN_CALLS` as take no longer than :data:`LEAD_IN_NS` together, but one at
    least; none where 0.5 ms are within 3% of a call (:data:`LEAD_IN_NEEDLESS_NS`). Measured by
    position in the turn, against a loop, on a shared machine: quantized models of 0.05 to 0.3 ms
    take 1.6 to 3 times as long in the first call, 1.03 to 1.15 in the second, 1.0 in the fifth;
    one of 0.8 ms and 6 MB of weights 1.65, 1.25, and 1.03 to 1.09 in the sixth; float32 models of
    3 to 4 ms 1.01 to 1.06 in the first and 1.02 in the second. Half as many calls left the medians
    of the small quantized models 4% to 7% above a loop's.
    """
    if call_ns > LEAD_IN_NEEDLESS_NS:
        return 0
    return max(1, min(LEAD_IN_CALLS, int(LEAD_IN_NS / max(call_ns, 1.0))))
