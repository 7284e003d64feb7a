"""Prepared cases: canonical axes, cropped, stored slice by slice for random access.

Slices keep their own pixel grid and their own intensities. Resampling to the network's input and
the intensity window are applied when a slice is read, in one interpolation. So all configurations
share one copy of the data, and the conversion back to the native grid loses nothing.
"""
