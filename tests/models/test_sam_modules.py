"""SAM's modules are imported without torchvision, and apart from the real package."""

from __future__ import annotations

import subprocess
import sys

import pytest

from samnet.models import sam_modules

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torchvision", "matplotlib"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
{first}
from samnet.models import sam_modules
assert "torchvision" not in sys.modules
{then}
"""


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (
            "",
            "assert not [name for name in sys.modules if name.split('.')[0] == 'segment_anything']",
        ),
        (
            "from types import ModuleType; import importlib.machinery; "
            "real = sys.modules['segment_anything'] = ModuleType('segment_anything'); "
            "real.__spec__ = importlib.machinery.PathFinder.find_spec('segment_anything')",
            "assert sys.modules['segment_anything'] is real and not hasattr(real, 'modeling')",
        ),
    ],
    ids=["segment_anything not imported", "segment_anything imported before"],
)
def test_sam_loads_without_torchvision_and_leaves_the_real_package_alone(
    first: str, then: str
) -> None:
    code = BLOCKED.format(first=first, then=then)
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sam_modules_are_those_of_the_installed_package() -> None:
    folders = {
        sys.modules[part.__module__].__file__
        for part in (sam_modules.ImageEncoderViT, sam_modules.LayerNorm2d)
    }
    assert {str(file).split("site-packages/")[-1] for file in folders} == {
        "segment_anything/modeling/image_encoder.py",
        "segment_anything/modeling/common.py",
    }
    assert sam_modules.load_modeling() is sam_modules.load_modeling()
