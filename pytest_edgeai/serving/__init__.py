"""Serve the artifact of a bundle over HTTP; a promotion copies this package into the bundle.

It speaks the REST half of the Open Inference Protocol, version 2
(https://github.com/kserve/open-inference-protocol), and Prometheus' text format under ``/metrics``.
It needs Python, NumPy and the runtime of the artifact, and nothing of pytest-edgeai.
"""
