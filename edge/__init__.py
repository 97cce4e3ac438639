"""edge-classifier: looks through a camera, says what it sees, never loses a word of it."""

__version__ = "0.1.0"
