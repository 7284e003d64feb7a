"""Jobs for SLURM and other schedulers, and the state of all runs."""
