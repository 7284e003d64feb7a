"""From a trained network to masks on the grid of their images."""
