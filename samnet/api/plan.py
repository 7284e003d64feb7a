"""`samnet.plan`: measure and plan a raw data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.api.session import Folder, api_call, chosen_processes
from samnet.core.progress_listener import Progress
from samnet.core.records import to_json
from samnet.dataset.cases import RawDataset
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.unlabelled_folder import link_unlabelled_images
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Plan
from samnet.planning.explain import explain
from samnet.planning.overview import order_configurations, overview
from samnet.planning.plan_dataset import PlanningOptions, plan_dataset
from samnet.training.kept_measurements import KeptMeasurements


@dataclass(frozen=True)
class PlanResult:
    """The plan of a data set.

    Attributes:
        dataset: Name of the data set.
        file: The plan as a file, for reading and changing.
        configurations: Name of a configuration -> its values, by key. The first one is the one to
            train first.
        plan: The plan with the reason for each value.
        fingerprint: The statistics of the data that it rests on.
    """

    dataset: str
    file: Path
    configurations: dict[str, dict[str, Any]]
    plan: Plan
    fingerprint: Fingerprint

    def explain(self, configurations: Sequence[str] = ()) -> str:
        """Return every decision, its reason, and what would change it.

        Args:
            configurations: The configurations to explain; empty for all.

        Returns:
            A text for the screen.
        """
        return explain(self.plan, self.fingerprint, list(configurations))

    def __str__(self) -> str:
        """Return the main decisions, as `samnet_plan` prints them."""
        return overview(self.plan, self.fingerprint)

    def __repr__(self) -> str:
        return f"PlanResult({self.dataset!r}, configurations: {', '.join(self.configurations)})"


def plan(
    dataset: int | str,
    *,
    raw: Folder | None = None,
    preprocessed: Folder | None = None,
    unlabelled: Folder | None = None,
    device: str | None = None,
    memory: str | None = None,
    settings: Mapping[str, Any] | None = None,
    configurations: Sequence[str] = (),
    overwrite: bool = False,
    processes: int | None = None,
    progress: Progress | bool | None = None,
) -> PlanResult:
    """Measure a raw data set and plan its preprocessing and training, as `samnet_plan` does.

    Args:
        dataset: Id or name of the data set.
        raw: The folder that holds it; by default the environment variable `samnet_raw`, else
            `nnUNet_raw`, else `samnet_data/raw`.
        preprocessed: The folder of planned and prepared data; by default the environment variable
            `samnet_preprocessed`, else `samnet_data/preprocessed`.
        unlabelled: A folder of images without labels to learn from too; `imagesUn` of the data set
            becomes a link to it. None for what is in `imagesUn`.
        device: `cpu`, `cuda` or `mps` to plan for; None for the best one here.
        memory: Memory of the device to plan for, such as `"16G"`; None for what it has.
        settings: Values to set, by the key of the plan, such as `{"zoom": 3}`.
        configurations: Published configurations to plan too, such as `["samed"]`.
        overwrite: Whether to replace a plan, also one that was changed by hand.
        processes: Number of worker processes; 0 to do all in this process, None for one a core, at
            most 8.
        progress: As for `samnet.verify`.

    Returns:
        The plan, which is also written as a file.

    Raises:
        UserError: There is no such data set, it cannot be read, or a value cannot be used.

    Examples:
        >>> plan = samnet.plan(8, raw="data/raw", preprocessed="data/preprocessed")
        >>> plan.configurations["lora"]["batch_size"]
        4
    """
    options = PlanningOptions(device, memory, dict(settings or {}), configurations, overwrite)
    with api_call(progress, raw, preprocessed):
        if unlabelled is not None:
            link_unlabelled_images(DatasetFolder.find(dataset), Path(unlabelled))
        loaded = RawDataset.load(dataset)
        made = plan_dataset(loaded, options, chosen_processes(processes), KeptMeasurements)
        fingerprint = Fingerprint.load(loaded.folder.fingerprint_file)
    values = {name: to_json(made.configuration(name)) for name in order_configurations(made)}
    return PlanResult(loaded.name, loaded.folder.plan_file, values, made, fingerprint)
