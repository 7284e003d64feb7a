"""A data set as planning left it. Each of its files is read once, and the object is passed on."""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from samnet.core.errors import UserError
from samnet.core.files import write_json
from samnet.core.locks import lock_folder
from samnet.core.paths import describe_preprocessed_folder
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.splits import make_splits, read_splits
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Plan
from samnet.planning.memory import Meter
from samnet.planning.presets import configuration_names
from samnet.planning.requested import add_configurations, find_missing

log = logging.getLogger(__name__)
PLANNING = "planning"  # the task for which the folder of a plan is locked
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class PlannedDataset:
    """Fingerprint, plan and folds of a data set.

    Attributes:
        folder: Where its files lie.
    """

    folder: DatasetFolder

    @classmethod
    def find(cls, identifier: str | int) -> PlannedDataset:
        """Find a data set by its id or name. Its files are read when they are needed.

        Args:
            identifier: An id such as `8` or `008`, or a full name.

        Returns:
            The data set.

        Raises:
            UserError: There is no such data set, or several with this id.
        """
        return cls(DatasetFolder.find(identifier))

    @property
    def name(self) -> str:
        """`DatasetXXX_Name`."""
        return self.folder.name

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The statistics of the raw data.

        Raises:
            UserError: They have not been measured, or cannot be read.
        """
        return Fingerprint.load(self.folder.fingerprint_file)

    @cached_property
    def plan(self) -> Plan:
        """The plan, as it was when it was first needed.

        Raises:
            UserError: There is none, or it is not usable.
        """
        return self._read_plan()

    def plan_with(self, names: Collection[str], measure: Meter | None = None) -> Plan:
        """Return the plan with certain configurations in it.

        Those that samnet brings and the plan lacks are planned now, and added to its file. The same
        holds for those from which its configurations inherit. Of several processes that need one,
        the first plans it. Where the file cannot be written, it is planned for this process alone.

        Args:
            names: The requested configurations.
            measure: As for `samnet.planning.planner.make_plan`.

        Returns:
            The plan.

        Raises:
            UserError: There is no plan, or it is not usable; a configuration is neither in it nor
                brought by samnet; or the plan is older than the measured data.
        """
        if not find_missing(self.plan, names):
            return self.plan
        try:
            with lock_folder(self.folder.preprocessed, PLANNING):
                plan = self._read_plan()  # another process may have added what is missing
                completed = self._complete(plan, names, measure)
                if completed != plan:
                    completed.save(self.folder.plan_file)
                return completed
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise
            log.warning(
                "%s cannot be written (%s): %s planned for this command alone",
                self.folder.plan_file,
                error.strerror,
                ", ".join(find_missing(self.plan, names)),
            )
        return self._complete(self.plan, names, measure)

    def check_configuration(self, name: str) -> None:
        """Check that a configuration is in the plan and usable, or can be planned.

        Args:
            name: The configuration.

        Raises:
            UserError: There is no such configuration, or a value of it is not usable.
        """
        if not find_missing(self.plan, [name]):
            self.plan.configuration(name)

    def _complete(self, plan: Plan, names: Collection[str], measure: Meter | None) -> Plan:
        missing = find_missing(plan, names)
        if not missing:
            return plan
        if plan.data_key != self.fingerprint.data_key:
            raise UserError(
                f"{self.folder.plan_file} was made for other data than "
                f"{self.folder.fingerprint_file.name} next to it describes, so {missing[0]} cannot "
                f"be planned; run samnet_plan -d {self.name}"
            )
        log.info("%s: planning %s", self.name, ", ".join(missing))
        return add_configurations(plan, names, self.fingerprint, measure)

    def _read_plan(self) -> Plan:
        if not self.folder.plan_file.is_file():
            raise UserError(
                f"{self.folder.plan_file}: no such file; run samnet_plan_and_preprocess -d "
                f"{self.name}, or set samnet_preprocessed to the folder that holds the plan. Now "
                f"{describe_preprocessed_folder()}"
            )
        return Plan.load(self.folder.plan_file, may_lack=configuration_names())

    @cached_property
    def splits(self) -> list[dict[str, list[str]]]:
        """The folds of the cross-validation: the cases under `train` and `val` of each.

        Raises:
            UserError: They cannot be read, or name cases that the data set does not have.
        """
        return read_splits(self.folder.splits_file, list(self.fingerprint.cases))

    @property
    def fold_names(self) -> list[str]:
        """The numbers of the folds as text, from `0` on."""
        return [str(number) for number in range(len(self.splits))]


def write_splits(plan: Plan, fingerprint: Fingerprint, folder: DatasetFolder) -> None:
    """Write `splits_final.json`. One that fits the cases stays, as a person may have made it.

    Args:
        plan: Tells the patient of each case.
        fingerprint: Tells the cases.
        folder: Where the file lies.

    Raises:
        UserError: The file is there and names cases that the data set does not have.
    """
    path, identifiers = folder.splits_file, list(fingerprint.cases)
    if not path.is_file():
        write_json(path, make_splits(identifiers, plan.patient_key))
        return
    try:
        folds = read_splits(path, identifiers)
    except UserError as error:
        raise UserError(
            f"{error}. Correct it, or delete it: planning then makes new folds"
        ) from None
    used: set[str] = set()
    for fold in folds:
        used.update(fold["train"], fold["val"])
    left_out = sorted(set(identifiers) - used)
    if left_out:
        log.warning(
            "%s: %d cases are in no fold, such as %s: nothing is trained on them. Add them, or "
            "delete the file: planning then makes new folds",
            path,
            len(left_out),
            left_out[0],
        )
