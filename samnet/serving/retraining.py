"""One training run of a server: prepare the new cases, train from the last model, replace it.

Planning, preparing and training are the commands of samnet, in processes of their own. They train
into another folder of results, so the model is served unchanged until the new one is complete.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from samnet.core.errors import SamnetError
from samnet.core.files import atomic_path, write_json
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.splits import add_to_splits
from samnet.models.model_folder import ALL_CASES, ModelFolder, RunFolder
from samnet.planning.planned_dataset import PlannedDataset
from samnet.serving.served_models import ServedModel
from samnet.serving.training_request import TrainingRequest

log = logging.getLogger(__name__)
TRAINING_LOG = "training.log"
_GRACE_SECONDS = 30.0
_REPLACED = ".replaced-"


class Retraining:
    """Trains models of a data set, one at a time.

    Attributes:
        folder: The paths of the data set.
        work: The folder that the server works in.
    """

    def __init__(
        self,
        folder: DatasetFolder,
        work: Path,
        device: str | None = None,
        processes: int | None = None,
    ) -> None:
        """Do nothing yet.

        Args:
            folder: The paths of the data set.
            work: The folder that the server works in; nobody else writes there.
            device: `cpu`, `cuda` or `mps`; None for the best one here.
            processes: Worker processes of planning and training; None for the default.
        """
        self.folder, self.work = folder, work
        self._device, self._processes = device, processes
        self._process: subprocess.Popen[str] | None = None
        self._is_stopped = threading.Event()
        self._lock = threading.Lock()

    @property
    def log_file(self) -> Path:
        """The log of the last training run."""
        return self.work / TRAINING_LOG

    def begin(self) -> None:
        """Forget that the training run before was stopped."""
        self._is_stopped.clear()

    def run(
        self, model: ServedModel, request: TrainingRequest, tell: Callable[[str], object]
    ) -> None:
        """Train a model, and replace it.

        Args:
            model: The model.
            request: What was requested.
            tell: Is called with each line of the log.

        Raises:
            SamnetError: A command failed, or the training run was stopped.
        """
        configuration, results = model.folder.path.name, self.work / "results"
        shutil.rmtree(results, ignore_errors=True)
        self.work.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("w", encoding="utf-8") as log_file:

            def note(line: str) -> None:
                log_file.write(f"{line}\n")
                log_file.flush()
                tell(line)

            processes = [] if self._processes is None else ["-np", str(self._processes)]
            self._call(["plan_and_preprocess", "-d", self.folder.name, *processes], note)
            self._add_new_cases()
            self._call(self._training(configuration, model, request), note, results)
            trained = ModelFolder(results / self.folder.name / configuration).run(ALL_CASES)
            self._replace(trained, ModelFolder(model.folder.path).run(ALL_CASES))
        shutil.rmtree(results, ignore_errors=True)

    def stop(self) -> None:
        """End the command that runs, if one does."""
        with self._lock:
            self._is_stopped.set()
            process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                process.terminate()
            timer = threading.Timer(_GRACE_SECONDS, _kill, [process])
            timer.daemon = True
            timer.start()

    def recover(self) -> None:
        """Put a model back that was about to be replaced when the server was killed."""
        for replaced in self.folder.results.glob(f"*/{_REPLACED}fold_{ALL_CASES}"):
            target = replaced.with_name(replaced.name.removeprefix(_REPLACED))
            if target.exists():
                shutil.rmtree(replaced, ignore_errors=True)
            else:
                os.replace(replaced, target)

    def _training(
        self, configuration: str, model: ServedModel, request: TrainingRequest
    ) -> list[str]:
        words = ["train", self.folder.name, configuration, ALL_CASES]
        if request.steps is not None:
            words += ["--steps", str(request.steps)]
        else:
            words += ["--max-time", request.duration]
        if model.is_trained and not request.from_scratch:
            words += ["--from", str(model.runs()[0].path.absolute())]
        if self._device is not None:
            words += ["--device", self._device]
        if self._processes is not None:
            words += ["--workers", str(self._processes)]
        return words

    def _call(
        self, words: Sequence[str], note: Callable[[str], None], results: Path | None = None
    ) -> None:
        """Run a command of samnet to its end, and pass its lines on."""
        environment = dict(os.environ)
        if results is not None:
            environment["samnet_results"] = str(results.absolute())
        note(f"samnet {' '.join(words)}")
        with self._lock:
            if self._is_stopped.is_set():
                raise SamnetError("the training run was stopped")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "samnet", *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # so that Ctrl-C reaches the server alone
            )
        try:
            last = ""
            assert self._process.stdout is not None
            for line in self._process.stdout:
                last = line.strip() or last
                note(line.rstrip())
            code = self._process.wait()
        finally:
            with self._lock:
                self._process = None
        if self._is_stopped.is_set():
            raise SamnetError("the training run was stopped")
        if code:
            raise SamnetError(f"samnet_{words[0]} failed: {last}")

    def _add_new_cases(self) -> None:
        """Let folds hold the new cases: `all` is made of what the folds hold."""
        dataset = PlannedDataset(self.folder)
        splits = dataset.splits
        extended = add_to_splits(splits, list(dataset.fingerprint.cases), dataset.plan.patient_key)
        if extended != splits:
            write_json(self.folder.splits_file, extended)

    def _replace(self, trained: RunFolder, target: RunFolder) -> None:
        if not trained.is_finished:
            raise SamnetError(
                f"{trained}: the training run left no model; see {self.log_file.name}"
            )
        replaced = target.path.with_name(f"{_REPLACED}{target.name}")
        with atomic_path(target.path) as temporary:
            shutil.copytree(trained.path, temporary)
            if target.path.exists():
                os.replace(target.path, replaced)
        shutil.rmtree(replaced, ignore_errors=True)


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a process that has not ended by itself, with its worker processes."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):
            os.killpg(process.pid, signal.SIGKILL)
