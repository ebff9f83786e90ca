"""Gate ``artifact_security``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("artifact_security")
def test_artifact_security(edge_compare: EdgeCompare) -> None:
    """The candidate's files hold nothing that runs, escapes or explodes.

    Maintained scanners look through them beside our own checks; without one it is not certified.
    """
    edge_compare("artifact_security")
