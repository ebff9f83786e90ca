"""Gate ``no_slower``, which exists with ``--edge-against``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("no_slower")
def test_no_slower(edge_compare: EdgeCompare) -> None:
    """The candidate is at most a twentieth slower than the candidate that was promoted before.

    The promoted artifact is measured anew, in turns with the candidate.
    """
    edge_compare("no_slower")
