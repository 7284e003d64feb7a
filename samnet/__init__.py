"""samnet adapts the Segment Anything Model to a labelled medical data set automatically."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samnet.core.errors import PredictionWarning

if TYPE_CHECKING:
    from samnet.inference.ensemble import EnsemblePredictor as EnsemblePredictor
    from samnet.inference.predictor import Predictor as Predictor

__version__ = "0.1.0"
__all__ = ["EnsemblePredictor", "PredictionWarning", "Predictor", "__version__"]


def __getattr__(name: str) -> Any:
    # Late: importing torch takes seconds, and `--help` must not wait for it.
    if name == "Predictor":
        from samnet.inference.predictor import Predictor

        return Predictor
    if name == "EnsemblePredictor":
        from samnet.inference.ensemble import EnsemblePredictor

        return EnsemblePredictor
    raise AttributeError(f"module 'samnet' has no attribute {name!r}")
