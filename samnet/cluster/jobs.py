"""The jobs of training runs, a prediction or a preparation, with what has to wait for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from samnet.cluster.script import PART, Job, Resources
from samnet.core.errors import UserError
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.splits import describe_folds
from samnet.models.model_folder import ALL_CASES
from samnet.planning.planned_dataset import PlannedDataset


def training_jobs(
    identifier: str,
    configurations: Sequence[str],
    folds: Sequence[str],
    options: Sequence[str],
    resources: Resources,
) -> list[Job]:
    """Return an array of folds x configurations, and what follows where all folds are trained.

    That is the summary of the cross-validation and the choice of a configuration.

    Args:
        identifier: Id or name of the data set.
        configurations: Names of configurations.
        folds: Numbers, `all`, or `cv` for the folds of the data set.
        options: Further options of samnet_train.
        resources: What each task is given.

    Returns:
        One or two jobs.

    Raises:
        UserError: The data set is not planned, or there is no such configuration or fold.
    """
    dataset = PlannedDataset.find(identifier)
    for configuration in configurations:
        dataset.check_configuration(configuration)
    known = dataset.fold_names
    chosen: list[str] = []
    for fold in folds:
        chosen += known if fold == "cv" else [fold]
    wrong = [fold for fold in chosen if fold not in (*known, ALL_CASES)]
    if wrong:
        raise UserError(f"fold {wrong[0]!r}: choose from {describe_folds(len(known))}")
    gpus = ("--gpus", str(resources.gpus)) if resources.gpus > 1 else ()
    number = dataset.folder.number
    commands = []
    for configuration in configurations:
        for fold in chosen:
            commands.append(("train", dataset.name, configuration, fold, *gpus, *options))
    train = Job(f"samnet-train-{number}", tuple(commands), resources, num_tasks=len(commands))
    if not set(known) <= set(chosen):
        return [train]
    command = ("find_best_configuration", dataset.name, "-c", *configurations)
    no_gpus = resources.without_gpus()
    choose = Job(f"samnet-choose-{number}", (command,), no_gpus, after=(train.name,))
    return [train, choose]


def prediction_jobs(words: Sequence[str], num_parts: int, resources: Resources) -> list[Job]:
    """Return an array whose tasks predict a share of the cases each.

    Args:
        words: The options of samnet_predict.
        num_parts: Number of tasks.
        resources: What each task is given.

    Returns:
        One job.
    """
    part = ("--num-parts", str(num_parts), "--part-id", PART)
    command = ("predict", *words, "--continue", *part)
    return [Job("samnet-predict", (command,), resources, num_tasks=num_parts)]


def preparation_jobs(
    identifier: str, num_parts: int, options: Sequence[str], resources: Resources
) -> list[Job]:
    """Return an array whose tasks prepare a share of the cases each.

    Planning precedes it where there is no plan yet.

    Args:
        identifier: Id or name of the data set.
        num_parts: Number of tasks.
        options: Further options of samnet_plan.
        resources: What each task is given.

    Returns:
        One or two jobs.

    Raises:
        UserError: There is no such data set, or options are given and the plan is there.
    """
    folder = DatasetFolder.find(identifier)
    name, number = folder.name, folder.number
    part = ("--num-parts", str(num_parts), "--part-id", PART)
    command = ("preprocess", "-d", name, *part)
    no_gpus = resources.without_gpus()  # planning alone may measure one
    prepare = Job(f"samnet-preprocess-{number}", (command,), no_gpus, num_tasks=num_parts)
    if folder.plan_file.is_file():
        if options:
            raise UserError(
                f"{folder.plan_file}: is planned already; change it with samnet_plan -d {number} "
                f"{' '.join(options)}"
            )
        return [prepare]
    plan = Job(f"samnet-plan-{number}", (("plan", "-d", name, *options),), resources)
    return [plan, replace(prepare, after=(plan.name,))]
