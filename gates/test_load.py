"""Gate ``load``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("load")
def test_load(edge_compare: EdgeCompare) -> None:
    """The candidate sustains the expected rate of queries within the latency bound.

    MLPerf LoadGen drives it: Poisson arrivals, LoadGen's rules of validity, no call may fail.
    """
    edge_compare("load")
