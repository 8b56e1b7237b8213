"""Figures of the published networks, and the deterministic weights and inputs that they were computed with."""
