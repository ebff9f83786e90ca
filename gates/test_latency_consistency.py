"""Gate ``latency_consistency``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("latency_consistency")
def test_latency_consistency(edge_compare: EdgeCompare) -> None:
    """The candidate's slowest answers are no slower than the baseline's, run in turns with it.

    Absolute limits of p50, p95 and p99 are judged too where the manifest sets them.
    """
    edge_compare("latency_consistency")
