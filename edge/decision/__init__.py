"""When a stream of predictions is worth an event."""
