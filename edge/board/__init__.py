"""The machine this runs on: readings of the board, throttling, systemd, and child processes."""
