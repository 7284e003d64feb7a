from __future__ import annotations

from pathlib import Path

import pytest
from mutation.modules import MODULES, Module
from mutation.survivors import Change, read_reasons

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_sources_and_tests_of_a_module_are_there(module: Module) -> None:
    for source in module.sources:
        assert (ROOT / source).is_file()
    for pattern in module.tests:
        assert list((ROOT / "tests").glob(pattern)), pattern
    assert any(list((ROOT / "tests").glob(pattern)) for pattern in module.test_patterns())


def test_survivors_have_a_reason_and_are_still_in_the_source() -> None:
    for change, reason in read_reasons().items():
        assert reason
        text = (ROOT / change.source).read_text(encoding="utf-8")
        lines = {line.strip() for line in text.splitlines()}
        for line in change.removed.splitlines():
            assert line in lines, f"{change.source}: {line}"


def test_change_is_read_from_a_diff() -> None:
    diff = "--- a.py\n+++ b.py\n@@ -1,3 +1,3 @@\n def f():\n-    return 1\n+    return 2\n"
    assert Change.from_diff("a.py", diff) == Change("a.py", "return 1", "return 2")
