"""L3, latency: a bounded wait for one event, between ticks. Nothing depends on it for correctness."""
