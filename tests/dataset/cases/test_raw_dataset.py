"""The order of the cases of a raw data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from samnet.dataset.cases import RawDataset


def test_cases_are_in_the_order_of_their_names_and_not_of_their_files(
    folders: dict[str, Path], make_dataset: Callable[..., Path]
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=2)
    for old, new in (("case_00", "a"), ("case_01", "a-1")):
        for file in sorted(dataset.glob(f"*Tr/{old}*")):
            file.rename(file.with_name(file.name.replace(old, new)))
    assert [case.identifier for case in RawDataset.load(501).cases] == ["a", "a-1"]
