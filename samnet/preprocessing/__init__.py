"""Prepared cases: canonical axes, cropped, stored slice by slice for random access.

Slices stay on their own pixel grid and keep their own intensities: resampling to the network's input and the intensity
window are applied when a slice is taken, in one interpolation. So all configurations share one copy of the data, and
the way back to the native grid loses nothing.
"""
