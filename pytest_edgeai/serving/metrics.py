"""What the server counts, in the exposition format of Prometheus."""

from __future__ import annotations

import math
import threading

LATENCY_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the histogram's buckets."""


class Metrics:
    """Counts of answers and their latency, for Prometheus."""

    def __init__(self, labels: str) -> None:
        """Count under ``labels``, written as Prometheus has them."""
        self._labels = labels
        self._lock = threading.Lock()
        self._statuses: dict[int, int] = {}
        self._buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def count(self, status: int, seconds: float) -> None:
        """Count one answer to an inference request; the latency is that of answers with 200."""
        place = sum(seconds > bound for bound in LATENCY_BOUNDS_S)
        with self._lock:
            self._statuses[status] = self._statuses.get(status, 0) + 1
            if status == 200:
                self._buckets[place] += 1
                self._sum_s += seconds

    def render(self) -> str:
        """Return the exposition format, version 0.0.4."""
        with self._lock:
            statuses, buckets, sum_s = dict(self._statuses), list(self._buckets), self._sum_s
        lines = ["# TYPE inference_requests_total counter"]
        lines += [
            f'inference_requests_total{{{self._labels},status="{status}"}} {count}'
            for status, count in sorted(statuses.items())
        ]
        lines.append("# TYPE inference_seconds histogram")
        running = 0
        for bound, count in zip((*LATENCY_BOUNDS_S, math.inf), buckets, strict=True):
            running += count
            label = "+Inf" if math.isinf(bound) else f"{bound:g}"
            lines.append(f'inference_seconds_bucket{{{self._labels},le="{label}"}} {running}')
        lines.append(f"inference_seconds_sum{{{self._labels}}} {sum_s:.9g}")
        lines.append(f"inference_seconds_count{{{self._labels}}} {running}")
        return "\n".join(lines) + "\n"
