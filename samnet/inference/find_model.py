"""Which model a prediction means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.paths import describe_results_folder, find_dataset_name, results_folder
from samnet.models.model_folder import ModelFolder, list_models


def find_models(
    folders: Sequence[Path], dataset: str | None, configurations: Sequence[str]
) -> list[ModelFolder]:
    """Find the models that were named, or the one that `find_model` finds where none was.

    Args:
        folders: The folders of models.
        dataset: Id or name of a data set, or None.
        configurations: Names of configurations.

    Returns:
        The models in the order given.

    Raises:
        UserError: As for `find_model`, or a model is named twice.
    """
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
        configuration: Name of a configuration, or None.

    Returns:
        The model.

    Raises:
        UserError: No model fits, or several do; the message lists them with the flags to type.
    """
    if folder is not None:
        if dataset or configuration:
            raise UserError("-m already names the model; leave out -d and -c")
        return ModelFolder(folder)
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
