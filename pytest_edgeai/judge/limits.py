"""Default limits of the gates that watch a candidate over many turns; imports nothing."""

LATENCY_TAIL_RATIO = 0.004
"""Calls that are stragglers beyond the baseline's share: a candidate with 1 in 200 is above it."""

LATENCY_DRIFT_RATIO = 1.10
"""Candidate's call time over the baseline's, at the end of a measurement against its beginning."""

MEMORY_GROWTH_BYTES = 2**20
"""Per 1,000 calls. Healthy runtimes hold the same to a few pages after their first calls; a leak of
1 KiB a call takes 2.5 GiB a day at 30 calls a second."""
