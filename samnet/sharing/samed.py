"""Conversion of files of SAMed and SAMed_s (arXiv 2304.13785) to samnet models, and back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from samnet.core.errors import UserError
from samnet.core.files import atomic_path, write_json
from samnet.core.machine import Machine
from samnet.dataset.description import DatasetDescription
from samnet.fingerprint.records import (
    PERCENTILES,
    SCHEMA_VERSION,
    SHAPE_PERCENTILES,
    CaseFingerprint,
    ChannelStatistics,
    ClassStatistics,
    Fingerprint,
    ShapeStatistics,
)
from samnet.inference.load import load_network
from samnet.models.base import Base, base_sha256, save_base
from samnet.models.checkpoints import load_checkpoint
from samnet.models.model_folder import ALL_CASES, FINAL, ModelFolder
from samnet.models.network import SegmentationNetwork, build_network, save_weights
from samnet.models.registry import CHECKPOINTS
from samnet.models.samed import SamedFile, from_samed, inspect_samed, save_samed, to_samed
from samnet.plan.configuration import Configuration
from samnet.plan.plan import Decision, Plan, PlannedConfiguration
from samnet.planning.planner import make_plan
from samnet.sharing.samed_limits import differences_of_samed, refuse_beyond_samed

_RULE = "import of a SAMed file"
_SAMEDS_VALUE = "SAMed's released code, or given at the import"
_WITHOUT_EFFECT = "not in SAMed's file; predictions do not depend on it"
_MACHINE = Machine("cpu", 16.0)  # of the values that only training needs


@dataclass(frozen=True)
class SamedOptions:
    """What a SAMed file does not say. The defaults are the way in which SAMed's code predicts.

    Attributes:
        dataset_name: The name of the data set in the plan.
        input_size: Edge of the network's input in pixels.
        frame: How slices lie in the input, see the key `frame` of plans. SAMed's code stretches
            each to 224 pixels and then to its input.
        orientation: In which directions slices, rows and columns ran in the training, see the key
            `orientation` of plans. SAMed's code takes the axes as they lie in a file.
        slice_width: Width in mm that the input shows, with the frame `scale`.
        window: The intensities that become 0 and 1.
        base_file: The weights that it was trained on; None for SAM's released ones.
    """

    dataset_name: str = "Dataset000_SAMed"
    input_size: int = 512
    frame: str = "splines_224"
    orientation: str = "file"
    slice_width: float = 400.0
    window: tuple[float, float] = (-125.0, 275.0)
    base_file: Path | None = None


def import_samed(
    file: Path, description: DatasetDescription, output: Path, options: SamedOptions
) -> Plan:
    """Write the folder of a model that predicts as a `.pth` file of SAMed or SAMed_s does.

    Args:
        file: The file.
        description: Names the channel and, in the order of the file's outputs, the classes.
        output: The folder to write. It may exist if it is empty.
        options: What the file does not say.

    Returns:
        The plan of the model.

    Raises:
        UserError: The file is not SAMed's, has other classes than described, or something is in
            `output` already.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} is there already; choose another folder with -o")
    weights = load_checkpoint(file)
    found = inspect_samed(weights, str(file))
    _check_described(found, description, file)
    base = _base(found, options)
    plan = _plan(found, description, options)
    configuration = plan.single_configuration
    adapter = from_samed(_empty_network(configuration, plan), weights, str(file))
    with atomic_path(output) as temporary:
        model = ModelFolder(temporary)
        run = model.run(ALL_CASES)
        plan.save(run.plan_file)
        save_base(base, run)
        save_weights(adapter, run.checkpoint(FINAL))
        write_json(model.description_file, description.as_json())
        if output.exists():
            output.rmdir()  # an empty one; Windows replaces no folder
    return plan


def export_samed(folder: Path, output: Path, fold: str | None = None) -> list[str]:
    """Write a model trained as `samed` or `samed_s` in the form that SAMed's own code loads.

    Args:
        folder: The folder of the model or of one of its folds.
        output: The `.pth` file to write.
        fold: The fold; None where there is a single one.

    Returns:
        A sentence for each thing that SAMed's code does otherwise with images than the training
        did.

    Raises:
        UserError: There are several folds to choose from, or SAMed has no form for this network, or
            its code would compute other logits.
    """
    runs = ModelFolder(folder).select_runs(None if fold is None else [fold])
    if len(runs) > 1:
        names = ", ".join(run.name for run in runs)
        raise UserError(f"{folder} has {names}; choose one with -f")
    [run] = runs
    configuration = run.configuration
    refuse_beyond_samed(configuration, run.plan.label_scheme, str(run))
    network = load_network(run)
    with atomic_path(output) as temporary:
        save_samed(to_samed(network, str(run)), temporary)
    return differences_of_samed(configuration)


def _check_described(found: SamedFile, description: DatasetDescription, file: Path) -> None:
    scheme = description.label_scheme
    names = ", ".join(scheme.class_names)
    if scheme.regions is not None:
        raise UserError(
            f"dataset.json names regions ({names}); SAMed's networks tell apart classes, one value "
            "each"
        )
    if found.num_classes != scheme.num_classes:
        raise UserError(
            f"{file} has {found.num_classes} classes, dataset.json names {scheme.num_classes} "
            f"({names}); name as many, in the order SAMed was trained with"
        )
    if len(description.channel_names) != 1:
        raise UserError(
            f"dataset.json names the channels {', '.join(description.channel_names)}; SAMed's "
            "networks see a single one"
        )


def _base(found: SamedFile, options: SamedOptions) -> Base:
    if options.base_file is not None:
        return Base(found.backbone.name, options.base_file.name, base_sha256(options.base_file))
    if found.backbone.name not in CHECKPOINTS:
        raise UserError(
            f"there are no released weights of {found.backbone.name}; name the file with --base"
        )
    released = CHECKPOINTS[found.backbone.name]
    return Base(found.backbone.name, released.file_name, released.sha256)


def _empty_network(configuration: Configuration, plan: Plan) -> SegmentationNetwork:
    """Return the network without memory for its weights: only names and shapes are needed."""
    shape_only = dataclasses.replace(configuration, initial_weights="random")
    with torch.device("meta"):
        network = build_network(shape_only, len(plan.channel_names), plan.label_scheme.num_outputs)
    network.trainable_only = True
    return network


def _plan(found: SamedFile, description: DatasetDescription, options: SamedOptions) -> Plan:
    """Return the plan with SAMed's values, and planned ones for what only training needs.

    These are planned for one slice of the described width.
    """
    values = _prediction_values(found, options)
    name = _configuration_name(found)
    data = _substitute_data(description, options)
    template = make_plan(data, _MACHINE, values, requested=[name]).only(name)
    decisions: dict[str, Decision] = {}
    for key, decision in template.configurations[name].decisions.items():
        decisions[key] = dataclasses.replace(decision, because=_WITHOUT_EFFECT)
    for key, value in values.items():
        decisions[key] = Decision(value, _SAMEDS_VALUE, _RULE)
    kind = "SAMed_s" if found.decoder_lora else "SAMed"
    description_text = f"imported from a file of {kind} (arXiv 2304.13785)"
    configuration = PlannedConfiguration(decisions, None, description_text)
    return dataclasses.replace(template, configurations={name: configuration})


def _configuration_name(found: SamedFile) -> str:
    if found.backbone.name == "vit_h":
        return "samed_h"
    return "samed_s" if found.decoder_lora else "samed"


def _prediction_values(found: SamedFile, options: SamedOptions) -> dict[str, Any]:
    """Return the value of every key that predictions depend on."""
    lower, upper = options.window
    return {
        "slicing_axis": 0,
        "views": [0],
        "in_plane_spacing": options.slice_width / options.input_size,
        "zoom": 1.0,
        "input_size": options.input_size,
        "frame": options.frame,
        "orientation": options.orientation,
        "channel_layout": "repeat",
        "background_outside": False,
        "intensity": [{"scheme": "fixed", "lower": float(lower), "upper": float(upper)}],
        "pixel_statistics": "none",
        "backbone": found.backbone.name,
        "initial_weights": str(options.base_file.absolute()) if options.base_file else "pretrained",
        "encoder_tuning": "lora",
        "lora_rank": found.rank,
        "lora_scale": 1.0,
        "lora_targets": ["q", "v"],
        "lora_blocks": "all",
        "depth": 1,
        "depth_blocks": "last_half",
        "depth_adapters": 1,
        "head": "mask_decoder_lora" if found.decoder_lora else "mask_decoder",
        "precision": "float32",
        "tile_overlap": 0.5,
        "mirror_at_prediction": False,
    }


def _substitute_data(description: DatasetDescription, options: SamedOptions) -> Fingerprint:
    """Return the fingerprint of one slice of the described size.

    The planner needs measured data, and there are none.
    """
    edge = options.input_size
    spacing = options.slice_width / edge
    lower, upper = options.window
    percentiles = (lower,) * (len(PERCENTILES) - 1) + (upper,)
    channel = ChannelStatistics(
        lower, upper, whole_numbers=True, nonzero=percentiles, foreground=percentiles
    )
    diameters = (options.slice_width / 10,) * len(SHAPE_PERCENTILES)
    thicknesses = (options.slice_width / 20,) * len(SHAPE_PERCENTILES)
    shape = ShapeStatistics(diameters, thicknesses)
    names = description.label_scheme.class_names
    case = CaseFingerprint(
        shape=(1, edge, edge),
        spacing=(5 * spacing, spacing, spacing),
        cropped_shape=(1, edge, edge),
        channels=(channel,),
        classes={name: ClassStatistics(1, 1, (1, 1, 1)) for name in names},
        labelled_slices=(1, 1, 1),
    )
    return Fingerprint(
        schema_version=SCHEMA_VERSION,
        dataset_name=options.dataset_name,
        data_key=_RULE,
        channel_names=description.channel_names,
        label_scheme=description.label_scheme,
        file_ending=description.file_ending,
        patient_key=None,
        foreground=(percentiles,),
        shapes=dict.fromkeys(names, (shape,) * 3),
        cases={"imported": case},
    )
