"""Gate ``compliance``."""

import pytest

from pytest_edgeai.comparison import EdgeCompare


@pytest.mark.edge_gate("compliance")
def test_compliance(edge_compare: EdgeCompare) -> None:
    """Licences are declared and allowed, the card is complete, the ML-BOM valid, the size fits."""
    edge_compare("compliance")
