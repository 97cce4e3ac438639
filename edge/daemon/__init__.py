"""Builds the stages, starts, watches and stops them. Begin with `service.py`, then `pipeline.py`."""
