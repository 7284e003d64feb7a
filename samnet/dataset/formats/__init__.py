"""Readers of the supported image formats, and writers of label maps."""
