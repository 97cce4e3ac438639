"""Photos that come from files and requests: checked by their header, decoded, encoded."""
