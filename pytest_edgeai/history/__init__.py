"""What earlier sessions decided: stored, compared where comparable, and shown."""
