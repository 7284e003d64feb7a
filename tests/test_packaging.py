"""The wheel, the editable install and the plain checkout hold everything that samnet needs."""

from __future__ import annotations

import email
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Hidden folders, and what tools and users write into a checkout.
NOT_IN_THE_TREE = (
    ".*",
    "__pycache__",
    "*.egg-info",
    "build",
    "dist",
    "site",
    "samnet_data",
    "demo_output",
)
NAMES = [
    "autosam",
    "autosam_cnn",
    "autosam_linear",
    "frozen",
    "full",
    "lora",
    "ma_sam",
    "samed",
    "samed_h",
    "samed_s",
    "scratch",
]
PRINT_NAMES = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if not {without_finder}
                    or getattr(finder, "__name__", "") != "_EditableFinder"]
import json, samnet
from samnet.planning.presets import configuration_names
print(json.dumps([samnet.__file__, configuration_names()]))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree."""
    folder = tmp_path_factory.mktemp("checkout") / "samnet"
    return shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_IN_THE_TREE))


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the copy, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), str(checkout)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    (file,) = folder.glob("samnet-*.whl")
    return file


def find_names(
    folder: Path, python_path: Path | None, *, without_finder: bool
) -> tuple[Path, list[str]]:
    """Ask another process for the named configurations.

    Args:
        folder: The working directory of the process.
        python_path: Its `PYTHONPATH`, or None.
        without_finder: Whether the process must not find samnet by an editable install.

    Returns:
        The folder that samnet is imported from, and the names.
    """
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    if python_path is not None:
        environment["PYTHONPATH"] = str(python_path)
    process = subprocess.run(
        [sys.executable, "-c", PRINT_NAMES.format(without_finder=without_finder)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    file, names = json.loads(process.stdout)
    return Path(file).parents[1], names


def is_editable() -> bool:
    """Tell whether samnet is installed in editable form."""
    for found in importlib.metadata.distributions(name="samnet"):
        origin = json.loads(found.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            return True
    return False


def test_wheel_holds_all_modules_named_configurations_and_weights(
    wheel: Path, checkout: Path
) -> None:
    expected = {f"samnet/plans/{name}.json" for name in NAMES}
    expected.add("samnet/plans/__init__.py")
    for pattern in ("*.py", "py.typed", "*.safetensors", "reporting/templates/*"):
        files = (checkout / "samnet").rglob(pattern)
        expected.update(str(file.relative_to(checkout)) for file in files)
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert "samnet/weights/small_v1.safetensors" in expected
    assert packed == expected


def test_wheel_says_what_the_package_index_shows(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [name] = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Name"] == "samnet"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"] == "The samnet developers"
    assert metadata["Description-Content-Type"] == "text/markdown"
    versions = [f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)]
    assert set(versions) <= set(metadata.get_all("Classifier"))
    assert metadata["Requires-Python"] == ">=3.10"


def test_wheel_finds_the_named_configurations(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    found = find_names(tmp_path, tmp_path / "site", without_finder=True)
    assert found == (tmp_path / "site", NAMES)


def test_plain_checkout_finds_the_named_configurations(checkout: Path, tmp_path: Path) -> None:
    """It is on `PYTHONPATH` only, so nothing says that `samnet.plans` lies in another folder."""
    assert find_names(tmp_path, checkout, without_finder=True) == (checkout, NAMES)


def test_editable_install_finds_the_named_configurations(tmp_path: Path) -> None:
    if not is_editable():
        pytest.skip("samnet is not installed in editable form")
    assert find_names(tmp_path, None, without_finder=False) == (ROOT, NAMES)
