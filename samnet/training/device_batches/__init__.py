"""Batches of training samples, made at once where they are needed: on the GPU."""
