"""What `import samnet` offers, and what it loads for that."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import samnet

STEPS = ("verify", "plan", "preprocess", "train", "predict", "evaluate", "report")


def test_import_loads_nothing_heavy_and_plan_stays_a_function() -> None:
    script = (
        "import sys, samnet\n"
        "assert not {'torch', 'numpy', 'SimpleITK'} & set(sys.modules)\n"
        "from samnet.plan.plan import Plan\n"
        "assert callable(samnet.plan), samnet.plan\n"
        "import samnet.plan.configuration\n"
        "assert callable(samnet.plan), samnet.plan\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_all_names_exist_and_are_listed() -> None:
    for name in samnet.__all__:
        assert getattr(samnet, name) is not None
    assert set(samnet.__all__) <= set(dir(samnet))
    with pytest.raises(AttributeError, match="no attribute 'segment'"):
        samnet.segment  # noqa: B018


@pytest.mark.parametrize("name", STEPS)
def test_steps_document_every_argument(name: str) -> None:
    function = getattr(samnet, name)
    text = inspect.getdoc(function) or ""
    for section in ("Args:", "Returns:", "Raises:", "Examples:"):
        assert section in text
    for argument in inspect.signature(function).parameters:
        assert f"    {argument}: " in text, argument
