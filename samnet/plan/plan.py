"""The plan file: every decision with its value, its reason and the rule that made it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.core.machine import Machine
from samnet.core.paths import preprocessed_folder
from samnet.core.records import from_json, to_json
from samnet.dataset.description import DatasetDescription
from samnet.dataset.label_scheme import Label, Labelled
from samnet.plan.configuration import KEYS, Configuration, build_configuration, check_value

SCHEMA_VERSION = 1
PLANS_FILE = "samnetPlans.json"
BY_HAND = "by hand"
ON_COMMAND_LINE = "--set"
SPLIT_KEYS = ("patient_key", "folds")
HOW_TO_CHANGE_SPLITS = "set patient_key in dataset.json, or edit splits_final.json"


@dataclass(frozen=True)
class Decision:
    """value: what was decided. because: one sentence with the numbers behind it. rule: what decided it."""

    value: Any
    because: str
    rule: str


@dataclass(frozen=True)
class PlannedConfiguration:
    """The decisions of one configuration; what it lacks comes from `inherit`, then from the data set's decisions."""

    decisions: dict[str, Decision]
    inherit: str | None = None
    description: str = ""


@dataclass(frozen=True)
class Plan(Labelled):
    """The content of `samnetPlans.json`.

    labels, ignore_label, regions_class_order: see `Labelled`.
    decisions: what holds for the data set as a whole. machine: the one it was planned for.
    planned_key: the `decisions_key` of the decisions as samnet made them: another one now tells of a person's change.
    """

    schema_version: int
    samnet_version: str
    dataset_name: str
    data_key: str
    channel_names: tuple[str, ...]
    labels: dict[str, Label]
    ignore_label: int | None
    file_ending: str
    patient_key: str | None
    machine: Machine
    decisions: dict[str, Decision]
    configurations: dict[str, PlannedConfiguration] = field(default_factory=dict)
    planned_key: str = ""
    regions_class_order: tuple[int, ...] = ()

    @property
    def description(self) -> DatasetDescription:
        """What `dataset.json` says of channels, labels and files: enough to find and read cases like the training's."""
        return DatasetDescription(
            channel_names=self.channel_names,
            labels=self.labels,
            ignore_label=self.ignore_label,
            file_ending=self.file_ending,
            regions_class_order=self.regions_class_order,
        )

    def configuration_decisions(self, name: str) -> dict[str, Decision]:
        """All decisions that apply to a configuration, inherited ones included.

        Raises:
            UserError: there is no such configuration, or the chain of `inherit` leads nowhere or in a circle.
        """
        chain: list[str] = []
        current: str | None = name
        while current is not None:
            if current not in self.configurations:
                known = ", ".join(sorted(self.configurations)) or "none"
                heir = f", from which {chain[-1]!r} is to inherit" if chain else ""
                raise UserError(
                    f"the plan of {self.dataset_name} has no configuration {current!r}{heir}; it has {known}"
                )
            if current in chain:
                raise UserError(
                    f"configurations inherit in a circle: {' -> '.join([*chain, current])}"
                )
            chain.append(current)
            current = self.configurations[current].inherit
        merged = dict(self.decisions)
        for link in reversed(chain):
            merged |= self.configurations[link].decisions
        return {key: merged[key] for key in KEYS if key in merged}

    def configuration(self, name: str) -> Configuration:
        """The checked values of a configuration.

        Raises:
            UserError: it does not exist, or a value is not usable; the message names the key.
        """
        values = {
            key: decision.value for key, decision in self.configuration_decisions(name).items()
        }
        return build_configuration(values, len(self.channel_names), f"configuration {name}")

    def with_values(self, name: str, values: dict[str, Any], because: str) -> Plan:
        """This plan with some values of a configuration set by hand."""
        checked = {
            key: check_value(key, value, f"configuration {name}") for key, value in values.items()
        }
        known = self.configurations[name]
        decisions = known.decisions | {
            key: Decision(value, because, BY_HAND) for key, value in checked.items()
        }
        return replace(
            self, configurations=self.configurations | {name: replace(known, decisions=decisions)}
        )

    def only(self, name: str) -> Plan:
        """The plan of one configuration alone, with nothing inherited: what a trained model carries with it."""
        planned = PlannedConfiguration(
            self.configuration_decisions(name), None, self.configurations[name].description
        )
        return replace(self, decisions={}, configurations={name: planned}, planned_key="")

    def save(self, path: Path) -> None:
        write_json(path, to_json(self))

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan, edited by hand or not. A decision may be written as its bare value.

        Raises:
            UserError: the file is missing or of another version, or something in it is not usable; it names the key.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
            remedy = (
                "samnet_plan --overwrite makes one"
                if path.name == PLANS_FILE
                else "train the model again"
            )
            raise UserError(
                f"{path}: no plan of schema version {SCHEMA_VERSION}, perhaps of another version of samnet; {remedy}"
            )
        _expand_bare_values(content, path)
        return from_json(cls, content, str(path))._with_checked_values(path)

    def _with_checked_values(self, path: Path) -> Plan:
        """This plan with every value in its own type, as it was before it became JSON."""
        split = {key: self.decisions[key] for key in SPLIT_KEYS if key in self.decisions}
        if "patient_key" in split and split["patient_key"].value != self.patient_key:
            raise UserError(f"{path}: patient_key is part of the splits: {HOW_TO_CHANGE_SPLITS}")
        others = {key: decision for key, decision in self.decisions.items() if key not in split}
        checked = replace(
            self,
            decisions=split | _check_decisions(others, f"{path}: decisions"),
            configurations={
                name: replace(
                    entry,
                    decisions=_check_decisions(entry.decisions, f"{path}: configuration {name}"),
                )
                for name, entry in self.configurations.items()
            },
        )
        for name in checked.configurations:
            try:
                checked.configuration(name)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
        return checked


def decisions_key(plan: Plan) -> str:
    """A hash of all values a plan decides on, those of the splits aside."""
    values: dict[str, Any] = {
        key: entry.value for key, entry in plan.decisions.items() if key not in SPLIT_KEYS
    }
    configurations = {
        name: [entry.inherit, {key: decision.value for key, decision in entry.decisions.items()}]
        for name, entry in plan.configurations.items()
    }
    text = json.dumps([to_json(values), to_json(configurations)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan_path(dataset_name: str) -> Path:
    return preprocessed_folder() / dataset_name / PLANS_FILE


def _expand_bare_values(content: dict[str, Any], path: Path) -> None:
    groups = [content]
    if isinstance(content.get("configurations"), dict):
        groups += [entry for entry in content["configurations"].values() if isinstance(entry, dict)]
    for group in groups:
        decisions = group.setdefault("decisions", {})
        if not isinstance(decisions, dict):
            raise UserError(f"{path}: decisions: expected an object")
        for key, entry in decisions.items():
            if not isinstance(entry, dict):
                entry = {"value": entry}
            decisions[key] = {"because": "written into the plan", "rule": BY_HAND} | entry


def _check_decisions(decisions: dict[str, Decision], where: str) -> dict[str, Decision]:
    return {
        key: replace(entry, value=check_value(key, entry.value, where))
        for key, entry in decisions.items()
    }
