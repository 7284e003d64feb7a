from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from samnet.core.errors import UserError
from samnet.core.paths import (
    dataset_number,
    find_dataset_name,
    preprocessed_folder,
    raw_folder,
    results_folder,
)

VARIABLES = ("samnet_raw", "nnUNet_raw", "samnet_preprocessed", "samnet_results")


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("no_variables")
def test_folders_without_variables_are_in_the_current_one() -> None:
    assert raw_folder() == Path("samnet_data/raw")
    assert preprocessed_folder() == Path("samnet_data/preprocessed")
    assert results_folder() == Path("samnet_data/results")


@pytest.mark.usefixtures("no_variables")
def test_raw_folder_of_nnunet_is_the_second_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", "/nnunet")
    assert raw_folder() == Path("/nnunet")
    monkeypatch.setenv("samnet_raw", "/own")
    assert raw_folder() == Path("/own")


@pytest.mark.parametrize("identifier", [8, "8", "008", "Dataset008_Liver"])
def test_find_dataset_name_by_number_and_name(
    folders: dict[str, Path], identifier: str | int
) -> None:
    (folders["raw"] / "Dataset008_Liver").mkdir()
    (folders["raw"] / "Dataset080_Spleen").mkdir()
    assert find_dataset_name(identifier) == "Dataset008_Liver"


@pytest.mark.parametrize("kind", ["preprocessed", "results"])
def test_find_dataset_name_needs_no_raw_data(folders: dict[str, Path], kind: str) -> None:
    (folders[kind] / "Dataset1234_Größe").mkdir()
    assert find_dataset_name("1234") == "Dataset1234_Größe"


@pytest.mark.parametrize(
    "identifier", ["9", "²", "Dataset009_Other", "../Dataset008_Liver", "-1", ""]
)
def test_find_dataset_name_lists_the_known_ones_for_an_unknown_one(
    folders: dict[str, Path], identifier: str
) -> None:
    (folders["raw"] / "Dataset008_Liver").mkdir()
    (folders["raw"] / "Dataset009_a file").touch()
    (folders["raw"] / "Dataset9_Short").mkdir()
    with pytest.raises(UserError) as caught:
        find_dataset_name(identifier)
    for part in (repr(identifier), str(folders["raw"]), "known: Dataset008_Liver)", "samnet_raw"):
        assert part in str(caught.value)


def test_find_dataset_name_refuses_a_number_used_twice(folders: dict[str, Path]) -> None:
    (folders["raw"] / "Dataset008_Liver").mkdir()
    (folders["results"] / "Dataset008_Spleen").mkdir()
    with pytest.raises(UserError, match="ambiguous: Dataset008_Liver, Dataset008_Spleen"):
        find_dataset_name(8)
    assert find_dataset_name("Dataset008_Liver") == "Dataset008_Liver"


def test_dataset_number_is_read_from_the_name() -> None:
    assert dataset_number("Dataset008_Liver") == 8
    with pytest.raises(UserError, match="'Liver' is not a data set name"):
        dataset_number("Liver")


@pytest.mark.usefixtures("no_variables")
def test_unknown_data_set_names_each_variable_and_its_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("nnUNet_raw", "~/typo")
    monkeypatch.setenv("samnet_results", str(tmp_path))
    with pytest.raises(UserError) as caught:
        find_dataset_name(8)
    for part in (
        "nnUNet_raw is '~/typo', which is not there",
        "samnet_preprocessed is not set, so samnet_data/preprocessed, which is not there",
        f"samnet_results is {str(tmp_path)!r}.",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("samnet_raw", raw_folder),
        ("samnet_preprocessed", preprocessed_folder),
        ("samnet_results", results_folder),
    ],
)
def test_variable_that_names_a_file_is_refused(
    variable: str,
    folder: Callable[[], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv(variable, str(file))
    with pytest.raises(UserError, match=rf"{variable} is '.*file', which is no folder\. Give"):
        folder()
