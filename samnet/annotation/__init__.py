"""Which unlabelled case to label next: what is known of the cases, strategies, the ranking."""
