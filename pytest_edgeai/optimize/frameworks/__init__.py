"""The frameworks that optimize and run models; each is imported inside a worker process only."""
