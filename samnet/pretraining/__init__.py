"""Pre-training of the small backbone on synthetic images alone."""
