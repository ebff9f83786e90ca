"""Gate ``artifact_size``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("artifact_size")
def test_artifact_size(edge_compare: EdgeCompare) -> None:
    """The candidate's files stay within the limit that the manifest sets.

    Without a limit it decides only where the model is too small for memory to be measured.
    """
    edge_compare("artifact_size")
