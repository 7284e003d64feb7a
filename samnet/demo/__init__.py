"""Made data, and everything once on them."""
