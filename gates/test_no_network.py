"""Gate ``no_network``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("no_network")
def test_no_network(edge_compare: EdgeCompare) -> None:
    """The candidate imports, loads and answers in a process without network.

    Any attempt to reach one fails, and is named with its destination and its step.
    """
    edge_compare("no_network")
