"""Gate ``recovery``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("recovery")
def test_recovery(edge_compare: EdgeCompare) -> None:
    """Killed, corrupted, out of disk or restarted, the candidate soon serves right answers again.

    No wrong answer is served meanwhile.
    """
    edge_compare("recovery")
