"""From the FP32 network to INT8 or a GPU: activation ranges, weight rounding, and the networks to trace."""
