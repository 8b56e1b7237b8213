"""A person's own folder → encoded media that a loss can draw from. What cannot be used is set aside with a reason."""
