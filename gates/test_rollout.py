"""Gate ``rollout``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("rollout")
def test_rollout(edge_compare: EdgeCompare) -> None:
    """The candidate replaces the baseline behind a splitter, stage by stage.

    A new version that is killed or slowed on purpose is rolled back by itself, and no request is
    lost.
    """
    edge_compare("rollout")
