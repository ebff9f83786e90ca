"""Gate ``precision_proof``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("precision_proof")
def test_precision_proof(edge_compare: EdgeCompare) -> None:
    """The weights are of the precision that the recipe claims, and run on the claimed device.

    The files are opened and the runtime is asked; the name proves nothing.
    """
    edge_compare("precision_proof")
