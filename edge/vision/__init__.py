"""From pixels to probabilities with a verified model bundle."""
