"""The limits of the comparison with FP32, which a model must reach to be installed.

It imports nothing, because the command line needs it without torch.
"""

MIN_AGREEMENT = 95.0  # percent of pictures, unless --min-agreement sets another limit
MIN_CORRELATION = 0.95  # of the logits over all pictures: sound recipes reach 0.97 and more, saturating ones 0.88
GOLDEN_MIN_CORRELATION = 0.9  # of the golden photo's logits; the recipe reaches 0.98 and more
GOLDEN_MIN_LEAD = 10.0  # points: with a smaller lead a rounding difference could change the golden photo's top-1
ENOUGH_PHOTOS = 20  # of the user's: with fewer, one photo alone is more than the 5 points that may be missing
FEW_CLASSES = 3  # if FP32's top-1 are fewer classes than this, a constant answer could agree with it
TIE = 0.8  # of FP32's top-1 confidence, 0.2 in the logits: about what INT8 changes in the difference of two logits
