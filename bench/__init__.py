"""Benchmarks: each is a command, `python -m bench.NAME`, that prints a table and writes `bench/results/NAME.json`."""
