"""Folders of DICOM studies as training data: series, and the segmentations that refer to them.

Labels are DICOM segmentations (SEG, DICOM PS3.3 A.51) and structure sets of radiotherapy (RTSTRUCT,
PS3.3 A.19). Which series they belong to follows from the identifiers that they state.
"""
