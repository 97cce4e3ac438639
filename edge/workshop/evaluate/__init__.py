"""Measures how accurate a bundle is on labelled photos."""
