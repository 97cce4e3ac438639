"""Settings: the sections and their defaults, and reading them from TOML and the environment."""
