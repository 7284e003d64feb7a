"""The preparation of a data set by the plan that lies in its folder."""

from __future__ import annotations

from samnet.core.errors import UserError
from samnet.dataset.cases import RawDataset
from samnet.planning.memory import Meter
from samnet.planning.planned_dataset import PlannedDataset
from samnet.preprocessing.prepare import prepare_all_configurations


def prepare_planned_dataset(
    dataset: RawDataset, processes: int, measure: Meter, num_parts: int = 1, part_id: int = 0
) -> None:
    """Prepare the cases of a planned data set, or of one part of it. Ready ones are kept.

    Args:
        dataset: The raw data set.
        processes: Number of worker processes; 0 for none.
        measure: As for `samnet.planning.planner.make_plan`.
        num_parts: Number of parts into which the cases are divided.
        part_id: Number of the part to prepare, from 0.

    Raises:
        UserError: The data set is not planned yet.
        SamnetError: Cases could not be prepared. All of them are named; the others are done.
    """
    path = dataset.folder.plan_file
    if not path.is_file():
        raise UserError(
            f"{dataset.name} is not planned yet ({path} is missing); run samnet_plan first"
        )
    # Configurations may inherit from one that is not planned yet.
    plan = PlannedDataset(dataset.folder).plan_with((), measure)
    prepare_all_configurations(dataset, plan, processes, num_parts, part_id)
