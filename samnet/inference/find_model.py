"""Which model a prediction means."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import read_json
from samnet.core.paths import describe_results_folder, find_dataset_name, results_folder
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.models.model_folder import ModelFolder, list_models
from samnet.models.weights_note import retrained_runs

log = logging.getLogger(__name__)
BEST = "best"  # stands for the configurations that a comparison has chosen


def find_models(
    folders: Sequence[Path], dataset: str | None, configurations: Sequence[str]
) -> list[ModelFolder]:
    """Find the models that were named, or the one that `find_model` finds where none was.

    Args:
        folders: The folders of models.
        dataset: Id or name of a data set, or None.
        configurations: Names of configurations; `best` stands for those that
            `samnet_find_best_configuration` has chosen.

    Returns:
        The models in the order given.

    Raises:
        UserError: As for `find_model`, or a model is named twice.
    """
    if BEST in configurations and len(configurations) > 1:
        raise UserError(
            f"-c {BEST} stands for the configurations that samnet_find_best_configuration has "
            "chosen, and is named alone"
        )
    if BEST in configurations and not folders:
        dataset, configurations = _best(dataset)
    if folders:
        named = configurations[0] if configurations else None
        models = [find_model(folder, dataset, named) for folder in folders]
    elif configurations:
        models = [find_model(None, dataset, name) for name in configurations]
    else:
        models = [find_model(None, dataset, None)]
    _refuse_duplicates(models)
    return models


def find_model(folder: Path | None, dataset: str | None, configuration: str | None) -> ModelFolder:
    """Find the model that was named, or the only one there is, or else the only finished one.

    Args:
        folder: The folder of a model, or None.
        dataset: Id or name of a data set, or None.
        configuration: Name of a configuration, `best` for the one that
            `samnet_find_best_configuration` has chosen, or None.

    Returns:
        The model.

    Raises:
        UserError: No model fits, or several do; the message lists them with the flags to type;
            or an ensemble is the best.
    """
    if folder is not None:
        if dataset or configuration:
            raise UserError("-m already names the model; leave out -d and -c")
        return ModelFolder(folder)
    if configuration == BEST:
        dataset, members = _best(dataset)
        if len(members) > 1:
            raise UserError(
                f"-c {BEST} is the ensemble of {' and '.join(members)} of {dataset}; name one of "
                "them with -c"
            )
        configuration = members[0]
    models = _matching_models(dataset, configuration)
    finished = [model for model in models if model.is_finished]
    for candidates in (models, finished):
        if len(candidates) == 1:
            return candidates[0]
    wanted = _describe_request(dataset, configuration)
    if not models:
        raise UserError(
            f"no trained model{wanted} in {results_folder()}; run samnet_train, or set "
            f"samnet_results to the folder of the model's results. Now {describe_results_folder()}"
        )
    lines = [f"  -d {model.path.parent.name} -c {model.path.name}" for model in models]
    listing = "\n".join(lines)
    raise UserError(f"several trained models{wanted}; say which with\n{listing}")


def _best(dataset: str | None) -> tuple[str, list[str]]:
    """Return the data set and the configurations that a comparison has chosen."""
    folders = [DatasetFolder.of(find_dataset_name(dataset))] if dataset else _compared_datasets()
    files = [folder.choice_file for folder in folders if folder.choice_file.is_file()]
    if not files:
        of_dataset = f" of {folders[0].name}" if dataset else ""
        number = dataset or "ID"
        raise UserError(
            f"-c best: the configurations{of_dataset} have not been compared in "
            f"{results_folder()}; run samnet_find_best_configuration {number}"
        )
    if len(files) > 1:
        names = "\n".join(f"  -d {file.parent.name} -c best" for file in files)
        raise UserError(f"several data sets have a best configuration; say which with\n{names}")
    content = read_json(files[0])
    members = content.get("members") if isinstance(content, dict) else None
    if not isinstance(members, list) or not members:
        raise UserError(f"{files[0]}: names no members; run samnet_find_best_configuration again")
    configurations = [str(member) for member in members]
    _warn_if_retrained(files[0], content.get("weights"), configurations)
    return files[0].parent.name, configurations


def _warn_if_retrained(choice_file: Path, noted: Any, members: Sequence[str]) -> None:
    """Say that a member was trained again after it was chosen."""
    if not isinstance(noted, dict):
        return
    models = [ModelFolder(choice_file.parent / name) for name in members]
    retrained = retrained_runs(noted, models)
    if retrained:
        log.warning(
            "%s: chosen before %s was trained again, so another configuration may be better now; "
            "run samnet_find_best_configuration %s again",
            choice_file,
            ", ".join(retrained),
            choice_file.parent.name,
        )


def _compared_datasets() -> list[DatasetFolder]:
    names = sorted({model.path.parent.name for model in list_models()})
    return [DatasetFolder.of(name) for name in names]


def _refuse_duplicates(models: Sequence[ModelFolder]) -> None:
    for number, model in enumerate(models):
        others = models[:number]
        if any(model.path.resolve() == other.path.resolve() for other in others):
            raise UserError(f"{model}: is named twice; name each model once")


def _describe_request(dataset: str | None, configuration: str | None) -> str:
    flags = []
    if dataset:
        flags.append(f" -d {dataset}")
    if configuration:
        flags.append(f" -c {configuration}")
    return f" for{''.join(flags)}" if flags else ""


def _matching_models(dataset: str | None, configuration: str | None) -> list[ModelFolder]:
    models = list_models()
    if dataset is not None:
        name = find_dataset_name(dataset)
        models = [model for model in models if model.path.parent.name == name]
    if configuration is not None:
        models = [model for model in models if model.path.name == configuration]
    return models
