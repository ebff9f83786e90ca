"""Gate ``shadow``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("shadow")
def test_shadow(edge_compare: EdgeCompare) -> None:
    """Recorded traffic is answered as the baseline answers it.

    A sequential test stops the replay as soon as the agreement is decided.
    """
    edge_compare("shadow")
