"""Ways to make the base frames: a plan of segments (`extend`) or transitions between clips (`transitions`)."""
