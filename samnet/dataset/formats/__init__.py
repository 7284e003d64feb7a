"""The file formats: how each one is read into one form of image, and how label maps are written."""
