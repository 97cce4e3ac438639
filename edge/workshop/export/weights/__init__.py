"""Finds, fetches and reads FP32 weights, and names their classes."""
