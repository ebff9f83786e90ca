"""Take measurements: evaluation data, latency, memory and quality; nothing here decides."""
