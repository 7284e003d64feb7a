"""Aligning one image with another, and taking labels over from it."""
