"""What the daemon knows of itself and every interface reads: health, recent frames and events, counters."""
