"""Training of one network on a person's own media: from a bundle (or nothing) to a bundle."""
