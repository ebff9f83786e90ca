"""Gates of production: load, endurance, robustness, security, privacy, compliance, recovery."""
