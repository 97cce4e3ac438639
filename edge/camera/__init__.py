"""Camera sources and the thread that keeps the newest frame."""
