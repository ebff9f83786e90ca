"""Gate ``energy_retained``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("energy_retained")
def test_energy_retained(edge_compare: EdgeCompare) -> None:
    """The candidate takes no more than a share of the baseline's energy per inference.

    Both run in turns under the machine's own counters; an estimate reads proxy and never passes.
    """
    edge_compare("energy_retained")
