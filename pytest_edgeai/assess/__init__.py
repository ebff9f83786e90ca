"""Facts about a model file and about this host, read without importing any framework."""
