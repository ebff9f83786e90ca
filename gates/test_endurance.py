"""Gate ``endurance``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("endurance")
def test_endurance(edge_compare: EdgeCompare) -> None:
    """The candidate's memory, speed, files and threads hold under constant load.

    After a spike of parallel load its latency is back where it was.
    """
    edge_compare("endurance")
