"""Imports `segment_anything.modeling` without torchvision.

The package's `__init__` imports torchvision, for features that samnet does not use. `modeling`
only needs torch, so it is imported as a separate package under a private name.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from samnet.core.errors import SamnetError

MODELING_NAME = "samnet._segment_anything_modeling"


def load_modeling() -> ModuleType:
    """Import `segment_anything.modeling` as `MODELING_NAME`, or return it if it is imported.

    Returns:
        The imported package.

    Raises:
        SamnetError: segment-anything is not installed.
    """
    if MODELING_NAME in sys.modules:
        return sys.modules[MODELING_NAME]
    package = importlib.util.find_spec("segment_anything")
    if package is None or not package.submodule_search_locations:
        raise SamnetError(
            "the package segment-anything is missing; install it with: "
            "pip install segment-anything==1.0"
        )
    folder = Path(package.submodule_search_locations[0]) / "modeling"
    spec = importlib.util.spec_from_file_location(
        MODELING_NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODELING_NAME] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        # The next import would take the unfinished module for the complete one.
        del sys.modules[MODELING_NAME]
        raise
    return module


_modeling = load_modeling()
ImageEncoderViT = _modeling.ImageEncoderViT
MaskDecoder = _modeling.MaskDecoder
PromptEncoder = _modeling.PromptEncoder
TwoWayTransformer = _modeling.TwoWayTransformer
_common = importlib.import_module(f"{MODELING_NAME}.common")
LayerNorm2d = _common.LayerNorm2d
MLPBlock = _common.MLPBlock
_prompt_encoder = importlib.import_module(f"{MODELING_NAME}.prompt_encoder")
PositionEmbeddingRandom = _prompt_encoder.PositionEmbeddingRandom
TokenAttention = importlib.import_module(f"{MODELING_NAME}.transformer").Attention
