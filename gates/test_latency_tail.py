"""Gate ``latency_tail``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("latency_tail")
def test_latency_tail(edge_compare: EdgeCompare) -> None:
    """The candidate's rare slow calls are no more frequent than the baseline's, to 1 call in 200.

    A call is slow where it takes more than twice its own model's median.
    """
    edge_compare("latency_tail")
