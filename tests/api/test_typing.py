"""A project that uses the API passes `mypy --strict`, and mistakes in it are found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import samnet

PROJECT = Path(__file__).parents[1] / "typed_project"
PACKAGE = Path(samnet.__file__).parent
SKIPPED = ("torch", "scipy", "pandas", "matplotlib", "skimage", "pydicom", "PIL", "SimpleITK")


def test_project_passes_mypy_strict_and_mistakes_are_found(tmp_path: Path) -> None:
    assert (PACKAGE / "py.typed").is_file()
    settings = tmp_path / "mypy.ini"
    settings.write_text(
        f"[mypy]\nstrict = True\nmypy_path = {PACKAGE.parent}\ncache_dir = {tmp_path / 'cache'}\n"
        # The project is checked, not the packages that it imports. Their types take a minute.
        "follow_imports = silent\nignore_missing_imports = True\n"
        f"[mypy-{','.join(f'{name}.*' for name in SKIPPED)}]\nfollow_imports = skip\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", settings, *sorted(PROJECT.glob("*.py"))],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=tmp_path,
    )
    found = re.findall(r"(\w+)\.py:(\d+): error", done.stdout)
    assert found, done.stdout + done.stderr
    assert {name for name, _ in found} == {"mistakes"}, done.stdout
    assert sorted({int(line) for _, line in found}) == [5, 6, 7, 8, 9], done.stdout
