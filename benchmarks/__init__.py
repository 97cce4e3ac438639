"""Measuring this project against other engines; not part of the package."""
