"""Training runs that learn from slices without labels, too."""
