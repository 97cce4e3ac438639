"""What a model has to reach to be installed. Nothing is imported here: the command line tells it without torch."""

MIN_AGREEMENT = 95.0  # percent of pictures, unless --min-agreement says otherwise
LEAST_CORRELATION = 0.95  # of the logits over many pictures: sound recipes reach 0.97 and more, saturating ones 0.88
