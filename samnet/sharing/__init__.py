"""Trained models to be shared: as archives, and as files of SAMed's code."""
