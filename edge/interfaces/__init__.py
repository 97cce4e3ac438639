"""What may be asked of the daemon and shown of it: MQTT requests, Home Assistant, a Unix socket, the page."""
