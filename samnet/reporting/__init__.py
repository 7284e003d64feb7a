"""The report of a model or of predictions: one HTML file that opens without a network."""
