"""How programs and people reach the daemon: MQTT requests, Home Assistant, a Unix socket, the page and its REST API."""
