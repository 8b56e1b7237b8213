"""Nano, the cascade in small that the studio ships with: its networks, its data and the recipe that trains it."""
