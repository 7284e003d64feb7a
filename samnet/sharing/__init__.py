"""Trained models that travel: archives to share, and files of SAMed's own code."""
