"""The checks of `doctor`. Each is a function that returns a `Finding`, with a remedy for a problem."""
