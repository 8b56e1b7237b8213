"""The studio around `lavie`: everything a person or a script touches. Holds the version, and knows nothing else."""

__version__ = "0.1.0"
