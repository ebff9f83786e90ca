"""Decide, with measurements and statistics, whether an optimized model may ship."""

__version__ = "0.1.0"
