"""`segment_anything.modeling` without torchvision.

The package's `__init__` imports torchvision for features samnet does not use. Its `modeling` needs torch alone, so it
is imported as a package of its own, under a private name.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from samnet.core.errors import SamnetError

_NAME = "samnet._segment_anything_modeling"


def _load_modeling() -> ModuleType:
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    package = importlib.util.find_spec("segment_anything")
    if package is None or not package.submodule_search_locations:
        raise SamnetError(
            "the package segment-anything is missing; install it with: pip install segment-anything==1.0"
        )
    folder = Path(package.submodule_search_locations[0]) / "modeling"
    spec = importlib.util.spec_from_file_location(
        _NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_NAME]  # half a module would be taken for the whole at the next import
        raise
    return module


_modeling = _load_modeling()
ImageEncoderViT = _modeling.ImageEncoderViT
MaskDecoder = _modeling.MaskDecoder
PromptEncoder = _modeling.PromptEncoder
TwoWayTransformer = _modeling.TwoWayTransformer
_common = importlib.import_module(f"{_NAME}.common")
LayerNorm2d = _common.LayerNorm2d
MLPBlock = _common.MLPBlock
PositionEmbeddingRandom = importlib.import_module(f"{_NAME}.prompt_encoder").PositionEmbeddingRandom
TokenAttention = importlib.import_module(f"{_NAME}.transformer").Attention
