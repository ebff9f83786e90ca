"""MNN as a framework of pytest-edgeai."""
