"""A package of its own, or `benchmarks/training.py` would be taken for it."""
