"""Gate ``latency_drift``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("latency_drift")
def test_latency_drift(edge_compare: EdgeCompare) -> None:
    """The candidate gets no slower the longer it runs.

    It is watched over many turns beside the baseline, which a slow machine slows down as well.
    """
    edge_compare("latency_drift")
