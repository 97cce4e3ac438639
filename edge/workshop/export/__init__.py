"""Making and judging model bundles; nothing in here is imported by the daemon."""
