"""The jobs of a training, a prediction or a preparation, with what has to wait for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from samnet.cluster.script import PART, Job, Resources
from samnet.core.errors import UserError
from samnet.core.paths import dataset_number, find_dataset_name
from samnet.dataset.splits import read_splits
from samnet.fingerprint.extract import fingerprint_path
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Plan, plan_path
from samnet.planning.splits import splits_path


def training_jobs(
    identifier: str,
    configurations: Sequence[str],
    folds: Sequence[str],
    options: Sequence[str],
    resources: Resources,
) -> list[Job]:
    """An array of folds x configurations, and the summary and choice that follow it where all folds are trained.

    folds: numbers, `all`, or `cv` for the data set's folds. options: further ones of samnet_train.

    Raises:
        UserError: the data set is not planned, or has no such configuration or fold.
    """
    name = find_dataset_name(identifier)
    plan = Plan.load(plan_path(name))
    for configuration in configurations:
        plan.configuration(configuration)
    known = [str(number) for number in range(len(read_splits(splits_path(name), _cases(name))))]
    chosen = [fold for given in folds for fold in (known if given == "cv" else [given])]
    wrong = [fold for fold in chosen if fold not in (*known, "all")]
    if wrong:
        raise UserError(f"fold {wrong[0]!r}: choose from {', '.join(known)}, all, or cv")
    gpus = ("--gpus", str(resources.gpus)) if resources.gpus > 1 else ()
    number = dataset_number(name)
    commands = [
        ("train", name, configuration, fold, *gpus, *options)
        for configuration in configurations
        for fold in chosen
    ]
    train = Job(f"samnet-train-{number}", tuple(commands), resources, num_tasks=len(commands))
    if not set(known) <= set(chosen):
        return [train]
    choice = ("find_best_configuration", name, "-c", *configurations)
    return [
        train,
        Job(f"samnet-choose-{number}", (choice,), replace(resources, gpus=0), after=(train.name,)),
    ]


def prediction_jobs(words: Sequence[str], num_parts: int, resources: Resources) -> list[Job]:
    """An array whose tasks predict a share of the cases each. words: the options of samnet_predict."""
    command = ("predict", *words, "--continue", "--num-parts", str(num_parts), "--part-id", PART)
    return [Job("samnet-predict", (command,), resources, num_tasks=num_parts)]


def preparation_jobs(
    identifier: str, num_parts: int, options: Sequence[str], resources: Resources
) -> list[Job]:
    """An array whose tasks prepare a share of the cases each; before it, planning where there is no plan yet.

    options: further ones of samnet_plan.

    Raises:
        UserError: there is no such data set, or options are given and the plan is there.
    """
    name = find_dataset_name(identifier)
    number = dataset_number(name)
    command = ("preprocess", "-d", name, "--num-parts", str(num_parts), "--part-id", PART)
    prepare = Job(f"samnet-preprocess-{number}", (command,), resources, num_tasks=num_parts)
    if plan_path(name).is_file():
        if options:
            raise UserError(
                f"{plan_path(name)}: is planned already; change it with samnet_plan -d {number} {' '.join(options)}"
            )
        return [prepare]
    plan = Job(f"samnet-plan-{number}", (("plan", "-d", name, *options),), resources)
    return [plan, replace(prepare, after=(plan.name,))]


def _cases(dataset_name: str) -> list[str]:
    return list(Fingerprint.load(fingerprint_path(dataset_name)).cases)
