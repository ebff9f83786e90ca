"""The self-check: planted cases with a known truth, run on the machine that is asked about."""
