"""The cases of raw data and of folders to predict: which files belong together.

Whatever lies in a folder to predict and is not predicted is named.
"""

from samnet.dataset.cases.case import Case, label_file_of
from samnet.dataset.cases.file_names import find_image_files, find_label_files
from samnet.dataset.cases.prediction import (
    PredictionInput,
    find_prediction_cases,
    find_prediction_input,
)
from samnet.dataset.cases.raw_dataset import RawDataset

__all__ = [
    "Case",
    "PredictionInput",
    "RawDataset",
    "find_image_files",
    "find_label_files",
    "find_prediction_cases",
    "find_prediction_input",
    "label_file_of",
]
