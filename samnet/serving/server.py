"""Starting a server: what it serves, and the program that listens."""

from __future__ import annotations

import importlib.util
import logging
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.locks import lock_folder
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.models.model_folder import ModelFolder
from samnet.planning.planned_dataset import PlannedDataset
from samnet.planning.presets import configuration_names
from samnet.serving.served_models import ServedModel
from samnet.serving.settings import ServerSettings

log = logging.getLogger(__name__)
DEFAULT_CONFIGURATION = "lora"  # trained first where there is no model yet
_PACKAGES = ("fastapi", "uvicorn", "python_multipart")
_CLOSING_SECONDS = 30


def serve(
    folder: DatasetFolder,
    models: Sequence[ServedModel],
    settings: ServerSettings,
    image_folders: Sequence[Path] = (),
) -> None:
    """Serve a data set until a signal comes.

    Args:
        folder: The paths of the data set.
        models: The models.
        settings: What the server is told.
        image_folders: Further folders of images without label maps.

    Raises:
        UserError: It would be open to everybody, a package is missing, the port is taken, or the
            data set cannot be read.
        FolderBusy: Another server serves the data set.
    """
    settings.access.check()
    require_packages()
    import uvicorn

    from samnet.serving.app import create_app
    from samnet.serving.service import WORK_FOLDER, Service

    access = settings.access
    work = folder.preprocessed / WORK_FOLDER
    with lock_folder(work, "serving", waits=False), _listen(access.host, access.port) as listener:
        access = replace(access, port=listener.getsockname()[1])
        settings = replace(settings, access=access)
        service = Service(folder, models, settings, image_folders)
        config = uvicorn.Config(
            create_app(service),
            limit_concurrency=settings.limits.connections,
            timeout_graceful_shutdown=_CLOSING_SECONDS,
            ssl_certfile=access.certificate,
            ssl_keyfile=access.key,
            log_config=None,
            access_log=False,
            server_header=False,
        )
        if not access.is_local and access.certificate is None:
            log.warning("without --certificate, images and token travel unencrypted")
        names = ", ".join(service.models.trained()) or "none yet"
        status = service.store.status()
        print(
            f"{folder.name}: {status['completed']} of {status['total']} images labelled; "
            f"models: {names}\nserving at {access.url}",
            flush=True,
        )
        uvicorn.Server(config).run(sockets=[listener])


def require_packages() -> None:
    """Check that the packages of a server are installed.

    Raises:
        UserError: One is missing; the message says how to install it.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"samnet_serve needs the package {missing[0]}; "
            "install it with: pip install 'samnet[serve]'"
        )


def choose_models(
    folder: DatasetFolder,
    model_folders: Sequence[Path] = (),
    configurations: Sequence[str] = (),
    folds: Sequence[str] | None = None,
) -> list[ServedModel]:
    """Choose what is served.

    Args:
        folder: The paths of the data set.
        model_folders: Folders of trained models, also of other data sets.
        configurations: Configurations of the data set, trained or still to be trained.
        folds: The folds of each to average; None for the default.

    Returns:
        These models. Where none is named, all trained models of the data set, or else the one to
        train first.

    Raises:
        UserError: A model is not trained, or there is no such configuration.
    """
    chosen = tuple(folds) if folds is not None else None
    models: dict[str, ServedModel] = {}

    def add(model: ModelFolder) -> ServedModel:
        name = model.path.name
        if name in models:
            name = f"{model.path.resolve().parent.name}-{name}"
        if name in models:
            raise UserError(f"{model}: is named twice; name each model once")
        models[name] = ServedModel(name, model, chosen)
        return models[name]

    for configuration in configurations:
        _check_configuration(folder, configuration)
        add(ModelFolder.of(folder, configuration))
    for path in model_folders:
        if not add(ModelFolder(path)).is_trained:
            raise UserError(f"-m {path}: holds no finished training run")
    if not models:
        for path in sorted(folder.results.glob("*")) if folder.results.is_dir() else []:
            if ServedModel(path.name, ModelFolder(path), chosen).is_trained:
                add(ModelFolder(path))
    if not models:
        add(ModelFolder.of(folder, DEFAULT_CONFIGURATION))
    return list(models.values())


def _check_configuration(folder: DatasetFolder, name: str) -> None:
    """Refuse a configuration that can be neither served nor trained."""
    if ModelFolder.of(folder, name).is_finished:
        return
    if folder.plan_file.is_file():
        PlannedDataset(folder).check_configuration(name)
    elif name not in configuration_names():
        raise UserError(f"-c {name}: there is no such configuration; try {DEFAULT_CONFIGURATION}")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: cannot be listened on ({error.strerror or error}); "
            "choose another port"
        ) from error
