"""Which part of the package may import which, and what a command may load before it works."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import samnet
from samnet.cli.main import COMMANDS

PACKAGE = Path(samnet.__file__).parent
LAYERS = (
    "core",
    "dataset",
    "plan",
    "fingerprint",
    "planning",
    "preprocessing",
    "models",
    "inference",
    "evaluation",
    "training",
    "sharing",
    "pretraining",
    "cluster",
    "demo",
    "cli",
)
FORBIDDEN = {("evaluation", "inference")}
MODULES = sorted(file for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE)


def imported_layers(file: Path) -> Iterator[tuple[str, int]]:
    """The layers a module imports anywhere in it, also late or for types only, with the lines."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "samnet" and parts[1] != "__version__":
                yield parts[1], node.lineno


def test_every_folder_is_a_layer() -> None:
    folders = {file.relative_to(PACKAGE).parts[0] for file in MODULES}
    assert folders == set(LAYERS)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_layer_imports_only_itself_and_earlier_ones(file: Path) -> None:
    layer = file.relative_to(PACKAGE).parts[0]
    for other, line in imported_layers(file):
        assert other in LAYERS, f"{file}:{line}: samnet.{other} is no layer"
        assert LAYERS.index(other) <= LAYERS.index(layer), f"{file}:{line}: {layer} imports {other}"
        assert (layer, other) not in FORBIDDEN, f"{file}:{line}: {layer} imports {other}"


def test_every_command_is_installed_under_both_names() -> None:
    project = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    scripts = dict(re.findall(r'^(\w+) = "(samnet\.cli\.\w+:main)"$', project, re.MULTILINE))
    expected = {f"samnet_{name}": f"samnet.cli.{name}:main" for name in COMMANDS}
    assert scripts == {"samnet": "samnet.cli.main:main"} | expected
    assert all(importlib.util.find_spec(f"samnet.cli.{name}") for name in COMMANDS)


@pytest.mark.parametrize("name", ["main", *COMMANDS])
def test_help_loads_nothing_heavy(name: str) -> None:
    program = (
        f"import sys\nfrom samnet.cli.{name} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('loaded:', *sorted({'torch', 'numpy', 'pandas', 'scipy', 'nibabel', 'SimpleITK'} & set(sys.modules)))"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == "loaded:"
    assert "usage: samnet" in process.stdout


def test_everything_before_the_network_does_without_torch() -> None:
    """Worker processes of these steps start quickly and hold little."""
    program = (
        "import sys\nimport samnet.dataset.integrity, samnet.fingerprint.extract, samnet.planning.planner\n"
        "import samnet.planning.splits, samnet.planning.explain, samnet.preprocessing.prepare\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_worker_processes_that_prepare_cases_load_no_image_filters() -> None:
    """They take them longer to load than a small case takes."""
    program = "import sys, samnet.preprocessing.prepare\nsys.exit('scipy.ndimage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
