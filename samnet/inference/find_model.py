"""Which model a prediction means."""

from __future__ import annotations

from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.files import TEMPORARY_PREFIX
from samnet.core.paths import find_dataset_name, results_folder
from samnet.inference.predictor import PLAN_FILE


def find_model(folder: Path | None, dataset: str | None, configuration: str | None) -> Path:
    """The folder of the model that was named, or of the only one there is, or else the only one that is finished.

    Raises:
        UserError: none or several models fit; the message lists them with the flags to type.
    """
    if folder is not None:
        if dataset or configuration:
            raise UserError("-m already names the model; leave out -d and -c")
        return folder
    models = list_models()
    if dataset is not None:
        name = find_dataset_name(dataset)
        models = [model for model in models if model.parent.name == name]
    if configuration is not None:
        models = [model for model in models if model.name == configuration]
    finished = [
        model for model in models if list(model.glob("fold_*/checkpoint_final.safetensors"))
    ]
    for candidates in (models, finished):
        if len(candidates) == 1:
            return candidates[0]
    wanted = "".join(
        f" {flag} {value}" for flag, value in (("-d", dataset), ("-c", configuration)) if value
    )
    if not models:
        raise UserError(
            f"no trained model{' for' + wanted if wanted else ''} in {results_folder()}; run samnet_train"
        )
    listing = "\n".join(f"  -d {model.parent.name} -c {model.name}" for model in models)
    raise UserError(
        f"several trained models{' for' + wanted if wanted else ''}; say which with\n{listing}"
    )


def list_models() -> list[Path]:
    """The configuration folders below the results folder that hold at least one run; none that is half installed."""
    found = {plan.parent.parent for plan in results_folder().glob(f"*/*/fold_*/{PLAN_FILE}")}
    return sorted(model for model in found if not model.name.startswith(TEMPORARY_PREFIX))
