"""Find, fetch and read FP32 weights, and name their classes."""
