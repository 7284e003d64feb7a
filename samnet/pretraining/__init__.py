"""Teaching the small backbone to see, on made images alone."""
