"""Which layer of the package may import which, and what may be loaded before it is needed."""

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
    "registration",
    "dataset",
    "plan",
    "fingerprint",
    "planning",
    "preprocessing",
    "models",
    "postprocessing",
    "confidence",
    "inference",
    "evaluation",
    "training",
    "selection",
    "annotation",
    "reporting",
    "sharing",
    "serving",
    "pretraining",
    "cluster",
    "demo",
    "api",
    "cli",
)
FORBIDDEN = {("evaluation", "inference")}
# What decorates the work is made in one place, which keeps it from ending the work.
COSMETICS = {
    ".savefig(": "core/figures.py",
    "backend_agg": "core/figures.py",
    "from tqdm": "core/progress_line.py",
}
MODULES = sorted(file for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE)


def imported_layers(file: Path) -> Iterator[tuple[str, int]]:
    """Yield the layers that a module imports, with the lines; also late or for types only."""
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


def test_every_folder_of_the_package_is_a_layer() -> None:
    folders = {file.relative_to(PACKAGE).parts[0] for file in MODULES}
    assert folders == set(LAYERS)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_layer_imports_only_itself_and_earlier_ones(file: Path) -> None:
    layer = file.relative_to(PACKAGE).parts[0]
    for other, line in imported_layers(file):
        assert other in LAYERS, f"{file}:{line}: samnet.{other} is not a layer"
        assert LAYERS.index(other) <= LAYERS.index(layer), f"{file}:{line}: {layer} imports {other}"
        assert (layer, other) not in FORBIDDEN, f"{file}:{line}: {layer} imports {other}"


@pytest.mark.parametrize(("words", "owner"), COSMETICS.items())
def test_cosmetics_have_one_owner(words: str, owner: str) -> None:
    users = [file for file in MODULES if words in file.read_text(encoding="utf-8")]
    assert users == [PACKAGE / owner]


def test_nothing_uses_pyplot() -> None:
    """It would choose a backend by the environment, and keep figures of the program around."""
    assert not [file for file in MODULES if "pyplot" in file.read_text(encoding="utf-8")]


def test_every_command_is_installed_under_both_names() -> None:
    project = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    scripts = dict(re.findall(r'^(\w+) = "(samnet\.cli\.\w+:main)"$', project, re.MULTILINE))
    expected = {f"samnet_{name}": f"samnet.cli.{name}:main" for name in COMMANDS}
    assert scripts == {"samnet": "samnet.cli.main:main"} | expected
    assert all(importlib.util.find_spec(f"samnet.cli.{name}") for name in COMMANDS)


def loaded_modules(program: str, suspects: set[str]) -> tuple[set[str], str]:
    """Run a program in another process.

    Args:
        program: The program.
        suspects: Names of modules.

    Returns:
        Those of the suspects that the program has loaded, and what it has printed.
    """
    report = f"import sys\nprint('loaded:', *({suspects!r} & set(sys.modules)))"
    process = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    printed, _, loaded = process.stdout.rpartition("loaded:")
    return set(loaded.split()), printed


@pytest.mark.parametrize("name", ["main", *COMMANDS])
def test_help_loads_nothing_heavy(name: str) -> None:
    program = (
        f"from samnet.cli.{name} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
    )
    heavy = {"torch", "numpy", "pandas", "scipy", "nibabel", "SimpleITK"}
    loaded, printed = loaded_modules(program, heavy)
    assert loaded == set()
    assert "usage: samnet" in printed


def test_core_loads_no_torch() -> None:
    names = [f"samnet.core.{file.stem}" for file in sorted((PACKAGE / "core").glob("[!_]*.py"))]
    assert "samnet.core.files" in names
    assert loaded_modules(f"import {', '.join(names)}", {"torch"})[0] == set()


def test_layers_before_the_network_load_no_torch() -> None:
    """Their worker processes start quickly and hold little memory."""
    names = (
        "samnet.dataset.integrity",
        "samnet.dataset.splits",
        "samnet.fingerprint.extract",
        "samnet.planning.planner",
        "samnet.planning.explain",
        "samnet.preprocessing.prepare",
    )
    assert loaded_modules(f"import {', '.join(names)}", {"torch"})[0] == set()


def test_confidence_loads_no_torch() -> None:
    files = sorted((PACKAGE / "confidence").glob("[!_]*.py"))
    names = [f"samnet.confidence.{file.stem}" for file in files]
    assert "samnet.confidence.fit" in names
    assert loaded_modules(f"import {', '.join(names)}", {"torch"})[0] == set()


def test_preprocessing_loads_no_image_filters() -> None:
    """A worker process would take longer to load them than to prepare a small case."""
    program = "import samnet.preprocessing.prepare"
    assert loaded_modules(program, {"scipy.ndimage"})[0] == set()
