"""What a cross-validation decides: the configuration or ensemble, and the postprocessing."""
