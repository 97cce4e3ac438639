"""The machine: its sensors and clock, throttling, systemd, and child processes."""
