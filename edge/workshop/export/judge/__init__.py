"""Compares a model with FP32: on which pictures, what is measured, which limits hold, and the report."""
