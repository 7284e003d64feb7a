"""The plan file: every decision with its value, its reason and the rule that made it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.core.machine import Machine
from samnet.core.records import INLINE, from_json, to_json
from samnet.dataset.dataset_folder import PLAN_FILE
from samnet.dataset.description import DatasetDescription
from samnet.dataset.label_scheme import LabelScheme
from samnet.plan.checks import build_configuration, check_value
from samnet.plan.configuration import PLAN_KEYS, Configuration, earlier_values

SCHEMA_VERSION = 1
BY_HAND = "by hand"
ON_COMMAND_LINE = "--set"
OLDER = "older plan"
SPLIT_KEYS = ("patient_key", "folds")
HOW_TO_CHANGE_SPLITS = "set patient_key in dataset.json, or edit splits_final.json"


@dataclass(frozen=True)
class Decision:
    """One decision of a plan.

    Attributes:
        value: What was decided.
        because: One sentence with the numbers behind it.
        rule: What decided it: a function of `samnet.planning.rules`, a named configuration, or a
            person.
    """

    value: Any
    because: str
    rule: str


@dataclass(frozen=True)
class PlannedConfiguration:
    """The decisions of one configuration.

    Attributes:
        decisions: Its own decisions by key. What is missing comes from `inherit`, then from the
            decisions of the data set.
        inherit: The configuration it builds on, or None.
        description: What it is, in a few words.
    """

    decisions: dict[str, Decision]
    inherit: str | None = None
    description: str = ""


@dataclass(frozen=True)
class Plan:
    """The content of `samnetPlans.json`.

    Attributes:
        schema_version: Version of the file's form.
        samnet_version: The samnet that wrote it.
        dataset_name: `DatasetXXX_Name`.
        data_key: Hash of the raw data it was planned for.
        channel_names: Names of the image channels.
        label_scheme: The classes or regions, and the ignore label.
        file_ending: Ending of the images.
        patient_key: Regular expression that finds the patient in the name of a case, or None.
        machine: The machine it was planned for.
        decisions: What holds for the data set as a whole, by key.
        configurations: The configurations by name.
        planned_key: `decisions_key` of the decisions as samnet made them. Where it differs now, a
            person has changed the plan.
    """

    schema_version: int
    samnet_version: str
    dataset_name: str
    data_key: str
    channel_names: tuple[str, ...]
    label_scheme: LabelScheme = field(metadata=INLINE)
    file_ending: str
    patient_key: str | None
    machine: Machine
    decisions: dict[str, Decision]
    configurations: dict[str, PlannedConfiguration] = field(default_factory=dict)
    planned_key: str = ""

    @property
    def description(self) -> DatasetDescription:
        """What is needed of `dataset.json` to find and read cases like those of the training."""
        scheme = self.label_scheme
        return DatasetDescription(
            channel_names=self.channel_names,
            labels=scheme.labels,
            ignore_label=scheme.ignore_label,
            file_ending=self.file_ending,
            regions_class_order=scheme.regions_class_order,
        )

    @property
    def single_name(self) -> str:
        """The name of the configuration of a plan that has a single one, as a model's has."""
        [name] = self.configurations
        return name

    @cached_property
    def single_configuration(self) -> Configuration:
        """The checked values of the configuration of a plan that has a single one."""
        return self.configuration(self.single_name)

    def configuration_decisions(self, name: str) -> dict[str, Decision]:
        """Return all decisions that apply to a configuration, inherited ones included.

        A plan that is older than a key means by it what samnet did then.

        Args:
            name: The configuration.

        Returns:
            The decisions by key, in the order of `PLAN_KEYS`.

        Raises:
            UserError: There is no such configuration, or the chain of `inherit` leads nowhere or
                in a circle.
        """
        merged = earlier_decisions() | self.decisions
        for link in reversed(self._chain(name)):
            merged |= self.configurations[link].decisions
        return {key: merged[key] for key in PLAN_KEYS if key in merged}

    def _chain(self, name: str) -> list[str]:
        """Return a configuration, the one it inherits from, and so on."""
        chain: list[str] = []
        current: str | None = name
        while current is not None:
            if current not in self.configurations:
                known = ", ".join(sorted(self.configurations)) or "none"
                heir = f", from which {chain[-1]!r} is to inherit" if chain else ""
                raise UserError(
                    f"the plan of {self.dataset_name} has no configuration {current!r}{heir}; "
                    f"it has {known}"
                )
            if current in chain:
                circle = " -> ".join([*chain, current])
                raise UserError(f"configurations inherit in a circle: {circle}")
            chain.append(current)
            current = self.configurations[current].inherit
        return chain

    def missing_ancestor(self, name: str) -> str | None:
        """Return what the plan lacks of a configuration and of those that it inherits from.

        Args:
            name: The configuration.

        Returns:
            The first name that the plan does not have; None where it has them all.
        """
        followed: set[str] = set()
        current: str | None = name
        while current in self.configurations and current not in followed:
            followed.add(current)
            current = self.configurations[current].inherit
        return None if current in self.configurations else current

    def configuration(self, name: str) -> Configuration:
        """Return the checked values of a configuration.

        Args:
            name: The configuration.

        Returns:
            A value for every key.

        Raises:
            UserError: It does not exist, or a value is not usable; the message names the key.
        """
        decisions = self.configuration_decisions(name)
        values = {key: decision.value for key, decision in decisions.items()}
        return build_configuration(values, len(self.channel_names), f"configuration {name}")

    def with_values(self, name: str, values: dict[str, Any], because: str) -> Plan:
        """Set some values of a configuration by hand.

        Args:
            name: The configuration.
            values: The values by key.
            because: The reason to be recorded with them.

        Returns:
            The changed plan.

        Raises:
            UserError: A key is unknown, or a value is not allowed.
        """
        where = f"configuration {name}"
        changed = {
            key: Decision(check_value(key, value, where), because, BY_HAND)
            for key, value in values.items()
        }
        known = self.configurations[name]
        configuration = replace(known, decisions=known.decisions | changed)
        return replace(self, configurations=self.configurations | {name: configuration})

    def only(self, name: str) -> Plan:
        """Reduce the plan to one configuration with nothing inherited, as a trained model has it.

        Args:
            name: The configuration.

        Returns:
            A plan whose `single_name` is that name.
        """
        description = self.configurations[name].description
        planned = PlannedConfiguration(self.configuration_decisions(name), None, description)
        return replace(self, decisions={}, configurations={name: planned}, planned_key="")

    def save(self, path: Path) -> None:
        """Write the plan as JSON.

        Args:
            path: The file.
        """
        write_json(path, to_json(self))

    @classmethod
    def load(cls, path: Path, may_lack: Collection[str] = ()) -> Plan:
        """Read a plan, edited by hand or not. A decision may be written as its bare value.

        Args:
            path: The file.
            may_lack: Configurations that may be missing although others inherit from them. Those
                heirs are usable once the plan has them.

        Returns:
            The plan, with every value checked and in its own type.

        Raises:
            UserError: The file is missing or of another version, or something in it is not usable;
                the message names the key.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
            is_dataset_plan = path.name == PLAN_FILE
            remedy = (
                "samnet_plan --overwrite makes one" if is_dataset_plan else "train the model again"
            )
            raise UserError(
                f"{path}: no plan of schema version {SCHEMA_VERSION}, perhaps of another version "
                f"of samnet; {remedy}"
            )
        _expand_bare_values(content, path)
        return from_json(cls, content, str(path))._with_checked_values(path, may_lack)

    def _with_checked_values(self, path: Path, may_lack: Collection[str]) -> Plan:
        """Return this plan with every value in its own type, as it was before it became JSON."""
        split = {key: self.decisions[key] for key in SPLIT_KEYS if key in self.decisions}
        if "patient_key" in split and split["patient_key"].value != self.patient_key:
            raise UserError(f"{path}: patient_key is part of the splits: {HOW_TO_CHANGE_SPLITS}")
        others = {key: entry for key, entry in self.decisions.items() if key not in split}
        configurations = {}
        for name, entry in self.configurations.items():
            decisions = _check_decisions(entry.decisions, f"{path}: configuration {name}")
            configurations[name] = replace(entry, decisions=decisions)
        checked = replace(
            self,
            decisions=split | _check_decisions(others, f"{path}: decisions"),
            configurations=configurations,
        )
        for name in configurations:
            if checked.missing_ancestor(name) in may_lack:
                continue
            try:
                checked.configuration(name)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
        return checked


def earlier_decisions() -> dict[str, Decision]:
    """Return the decisions that hold in a plan that is older than their keys.

    Returns:
        The decisions by key.
    """
    because = "what samnet did before this key existed; the plan is older"
    return {key: Decision(value, because, OLDER) for key, value in earlier_values().items()}


def decisions_key(plan: Plan) -> str:
    """Return a hash of all values that a plan decides on, except those of the splits.

    Args:
        plan: The plan.

    Returns:
        16 hexadecimal digits.
    """
    values = _values(plan.decisions, without=SPLIT_KEYS)
    configurations = {
        name: [entry.inherit, _values(entry.decisions)]
        for name, entry in plan.configurations.items()
    }
    text = json.dumps([to_json(values), to_json(configurations)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _values(decisions: dict[str, Decision], without: tuple[str, ...] = ()) -> dict[str, Any]:
    return {key: entry.value for key, entry in decisions.items() if key not in without}


def _expand_bare_values(content: dict[str, Any], path: Path) -> None:
    """Turn decisions that a person wrote as bare values into whole ones, in place."""
    groups = [content]
    configurations = content.get("configurations")
    if isinstance(configurations, dict):
        groups += [entry for entry in configurations.values() if isinstance(entry, dict)]
    for group in groups:
        decisions = group.setdefault("decisions", {})
        if not isinstance(decisions, dict):
            raise UserError(f"{path}: decisions: expected an object")
        for key, entry in decisions.items():
            whole = entry if isinstance(entry, dict) else {"value": entry}
            decisions[key] = {"because": "written into the plan", "rule": BY_HAND} | whole


def _check_decisions(decisions: dict[str, Decision], where: str) -> dict[str, Decision]:
    return {
        key: replace(entry, value=check_value(key, entry.value, where))
        for key, entry in decisions.items()
    }
