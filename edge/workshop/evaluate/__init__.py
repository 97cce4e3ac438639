"""How right a bundle is on labelled photos."""
