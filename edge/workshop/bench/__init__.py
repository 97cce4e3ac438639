"""Measures how fast a bundle is on this machine."""
