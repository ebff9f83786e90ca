"""Make candidates: frameworks that run in workers, and the cache that keeps their artifacts."""
