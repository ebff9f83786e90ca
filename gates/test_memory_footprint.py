"""Gate ``memory_footprint``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("memory_footprint")
def test_memory_footprint(edge_compare: EdgeCompare) -> None:
    """The candidate's process stays within the limit that the manifest sets.

    The highest peak of several fresh processes decides.
    """
    edge_compare("memory_footprint")
