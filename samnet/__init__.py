"""samnet adapts the Segment Anything Model to a labelled medical data set automatically.

The functions `verify`, `plan`, `preprocess`, `train`, `predict`, `evaluate` and `report` do what
the commands of these names do. `Predictor` segments images in memory.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from samnet.core.errors import PredictionWarning, SamnetError, UserError

if TYPE_CHECKING:
    from samnet.api.evaluate import Evaluation as Evaluation
    from samnet.api.evaluate import evaluate as evaluate
    from samnet.api.plan import PlanResult as PlanResult
    from samnet.api.plan import plan as plan
    from samnet.api.predict import Predictions as Predictions
    from samnet.api.predict import predict as predict
    from samnet.api.preprocess import Preprocessed as Preprocessed
    from samnet.api.preprocess import preprocess as preprocess
    from samnet.api.report import ReportResult as ReportResult
    from samnet.api.report import report as report
    from samnet.api.scores import MeanScore as MeanScore
    from samnet.api.scores import Scores as Scores
    from samnet.api.train import FoldResult as FoldResult
    from samnet.api.train import TrainingResult as TrainingResult
    from samnet.api.train import train as train
    from samnet.api.verify import Verification as Verification
    from samnet.api.verify import verify as verify
    from samnet.confidence.calibration import Expectation as Expectation
    from samnet.core.progress_listener import Progress as Progress
    from samnet.dataset.faults import Fault as Fault
    from samnet.demo.anatomy import make_demo_dataset as make_demo_dataset
    from samnet.evaluation.worst_cases import LowScore as LowScore
    from samnet.inference.ensemble import EnsemblePredictor as EnsemblePredictor
    from samnet.inference.prediction import Segmentation as Segmentation
    from samnet.inference.predictor import Predictor as Predictor

__version__ = "0.1.0"
__all__ = [
    "verify",
    "plan",
    "preprocess",
    "train",
    "predict",
    "evaluate",
    "report",
    "Predictor",
    "EnsemblePredictor",
    "UserError",
    "SamnetError",
    "PredictionWarning",
    "Verification",
    "Fault",
    "PlanResult",
    "Preprocessed",
    "TrainingResult",
    "FoldResult",
    "Scores",
    "MeanScore",
    "LowScore",
    "Predictions",
    "Segmentation",
    "Expectation",
    "Evaluation",
    "ReportResult",
    "Progress",
    "make_demo_dataset",
    "__version__",
]
# Loaded when they are first used: importing torch takes seconds, and `--help` must not wait for it.
_MODULES = {
    "verify": "samnet.api.verify",
    "plan": "samnet.api.plan",
    "preprocess": "samnet.api.preprocess",
    "train": "samnet.api.train",
    "predict": "samnet.api.predict",
    "evaluate": "samnet.api.evaluate",
    "report": "samnet.api.report",
    "Predictor": "samnet.inference.predictor",
    "EnsemblePredictor": "samnet.inference.ensemble",
    "Verification": "samnet.api.verify",
    "Fault": "samnet.dataset.faults",
    "PlanResult": "samnet.api.plan",
    "Preprocessed": "samnet.api.preprocess",
    "TrainingResult": "samnet.api.train",
    "FoldResult": "samnet.api.train",
    "Scores": "samnet.api.scores",
    "MeanScore": "samnet.api.scores",
    "LowScore": "samnet.evaluation.worst_cases",
    "Predictions": "samnet.api.predict",
    "Segmentation": "samnet.inference.prediction",
    "Expectation": "samnet.confidence.calibration",
    "Evaluation": "samnet.api.evaluate",
    "ReportResult": "samnet.api.report",
    "Progress": "samnet.core.progress_listener",
    "make_demo_dataset": "samnet.demo.anatomy",
}

# `samnet.plan` is the function. The layer of this name is imported before, since the import of one
# of its modules would put the layer in the place of the function; `from samnet.plan.plan import
# Plan` finds the layer all the same.
importlib.import_module("samnet.plan")
del globals()["plan"]

# Without a handler of the caller, Python would write warnings to standard error.
logging.getLogger("samnet").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'samnet' has no attribute {name!r}")
    found = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
