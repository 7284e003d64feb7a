"""The file formats: how each is read to one form of image, and how a label map is written in it."""
