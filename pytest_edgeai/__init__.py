"""Decide, with measurements and statistics, whether an optimised model may ship to an edge device."""

__version__ = "0.1.0"
