"""A synthetic data set, and a run of all steps on it."""
