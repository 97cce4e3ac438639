"""The daemon's state that every interface reads: health, recent frames and events, counters."""
