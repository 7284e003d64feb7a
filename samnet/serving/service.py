"""All that a server has: data set, models, queue, sessions and training runs."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from samnet.annotation.table import read_ranking
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.serving.datastore import Datastore
from samnet.serving.queueing import PredictionQueue
from samnet.serving.retraining import Retraining
from samnet.serving.served_models import ServedModel, ServedModels
from samnet.serving.sessions import Sessions
from samnet.serving.settings import ServerSettings
from samnet.serving.strategies import NextSamples
from samnet.serving.training_tasks import TrainingTasks

log = logging.getLogger(__name__)
WORK_FOLDER = "serving"


class Service:
    """What the endpoints of a server share.

    Attributes:
        settings: What the server was told.
        folder: The paths of the data set.
        store: Its images and label maps.
        models: The models.
        queue: The requests for predictions.
        sessions: Images that were uploaded for a while.
        samples: Which image is labelled next.
        training: The training runs.
        uploads: Folder of the files of requests while they are answered.
        log_file: The log of the last training run.
    """

    def __init__(
        self,
        folder: DatasetFolder,
        models: Sequence[ServedModel],
        settings: ServerSettings,
        image_folders: Sequence[Path] = (),
    ) -> None:
        """Read the data set. Nothing else may use its folder `serving` meanwhile.

        Args:
            folder: The paths of the data set.
            models: The models, trained or still to be trained.
            settings: What the server is told.
            image_folders: Further folders of images without label maps.

        Raises:
            UserError: The data set, the plan of a model or the ranking cannot be read.
        """
        work = folder.preprocessed / WORK_FOLDER
        limits = settings.limits
        self.settings, self.folder = settings, folder
        self.store = Datastore(folder, image_folders)
        self.models = ServedModels(models, settings.device, limits.loaded_models, settings.mirror)
        for model in self.models.trained().values():
            model.as_json()  # a model that cannot be read is told now, and not to clients
        if settings.ranking is not None:
            read_ranking(settings.ranking)  # likewise
        self.queue = PredictionQueue(limits.waiting)
        self.sessions = Sessions(work / "sessions", limits)
        self.samples = NextSamples()
        self.uploads = work / "uploads"
        shutil.rmtree(self.uploads, ignore_errors=True)
        retraining = Retraining(folder, work, settings.device, settings.training.processes)
        retraining.recover()
        self.log_file = retraining.log_file
        self.training = TrainingTasks(self.models, retraining, settings.training)

    def close(self) -> None:
        """Stop the training run, and remove what was uploaded for a while."""
        self.training.close()
        self.sessions.close()
        shutil.rmtree(self.uploads, ignore_errors=True)
