"""Weights that are fetched, listed, converted and checked, from a hub that the tests serve themselves."""
