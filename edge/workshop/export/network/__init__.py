"""A network as a table of operations, and its FP32 form with the batch norms folded into the convolutions."""
