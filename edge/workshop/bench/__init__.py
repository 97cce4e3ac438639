"""How fast a bundle is on this machine; imported by the bench command alone."""
