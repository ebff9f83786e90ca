"""The shipped quality gates: one readable test each."""
