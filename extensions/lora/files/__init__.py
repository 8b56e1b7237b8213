"""Reads, checks and writes adapter files."""
