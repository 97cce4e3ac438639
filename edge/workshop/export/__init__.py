"""FP32 weights to a bundle: exporter.py calls the steps in order: weights, fold, ranges, quantize, judge, write."""
