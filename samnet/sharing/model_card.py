"""The card of a model: what it does, what it was trained on, how good it is, and its limits.

It is made of the plan, the ranges of the training data, the scores and the calibration, and names
no case, no file and no folder. The same model gives the same text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from samnet import __version__
from samnet.confidence.calibration import Calibration
from samnet.core.errors import UserError
from samnet.core.paths import dataset_number
from samnet.dataset.images import is_2d_image
from samnet.evaluation.intervals import ENOUGH_PATIENTS
from samnet.evaluation.volumes import PIXELS
from samnet.fingerprint.training_data import MM, Range, TrainingData
from samnet.models.base import Base, comes_with_samnet
from samnet.models.registry import CHECKPOINTS, find_released
from samnet.plan.plan import Plan
from samnet.sharing.model_scores import DiceScore, ModelScores
from samnet.training.steps_done import show_steps

CARD_FILE = "MODEL_CARD.md"
NOT_STATED = "not stated"
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+-]{0,60}")
_DIRECTIONS = ("head-feet", "front-back", "left-right")  # of the canonical (Z, Y, X)
_SPECIAL = re.compile(r"([\\`*\[\]<>|#])")


@dataclass(frozen=True)
class CardFacts:
    """What a card is made of.

    Attributes:
        plan: The plan of the model's configuration.
        folds: The folders of its folds.
        base: The weights that are needed in addition, or None.
        training_data: The ranges of the training data; None where they are not recorded.
        scores: The scores of held-out cases, or None.
        calibration: What Dice signals let expect, or None.
        postprocessing: A line for each structure with rules.
        licence: The licence as its owner states it, or None.
        steps: The training steps that each fold has done, of those of which they are known.
    """

    plan: Plan
    folds: tuple[str, ...]
    base: Base | None
    training_data: TrainingData | None
    scores: ModelScores | None
    calibration: Calibration | None
    postprocessing: tuple[str, ...] = ()
    licence: str | None = None
    steps: tuple[int, ...] = ()

    @property
    def is_2d(self) -> bool:
        """Whether it is a model of 2D images, not of volumes."""
        data = self.training_data
        if data is None:  # a TIFF may be a volume
            return is_2d_image(self.plan.file_ending, num_slices=2)
        is_one_slice = data.unit != MM and data.size[0] == (1, 1)
        return data.unit == PIXELS or is_one_slice


def check_licence(licence: str | None) -> str | None:
    """Check what a user states as the licence.

    Args:
        licence: Such as `Apache-2.0` or `CC-BY-4.0`; None for none.

    Returns:
        The same.

    Raises:
        UserError: It cannot stand in a card.
    """
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise UserError(
            f"--license {licence!r}: expected an identifier such as Apache-2.0 or CC-BY-4.0 "
            "(letters, digits, spaces and .+-)"
        )
    return licence


def write_card(facts: CardFacts, source: str = "FILE.zip") -> str:
    """Write the card of a model in Markdown.

    Args:
        facts: What it is made of.
        source: What the reader installs the model from.

    Returns:
        The text.
    """
    plan = facts.plan
    parts = [
        f"# {_plain(plan.dataset_name)}, {_plain(plan.single_name)}",
        _introduction(facts),
        "**This is not a medical device.** Nobody has approved it for diagnosis or treatment, and "
        "every result has to be checked by a person who can judge it.",
        _overview(facts),
        "## How to use it\n\n" + _usage(facts, source),
        "## Training data\n\n" + _training_data(facts),
        "## Scores\n\n" + _scores(facts),
    ]
    if facts.calibration is not None:
        parts.append("## Expected Dice\n\n" + _calibration(facts.calibration))
    parts.append("## Limits\n\n" + _limits(facts))
    return "\n\n".join(parts) + "\n"


def with_front_matter(card: str, facts: CardFacts) -> str:
    """Put the lines before a card by which a model hub sorts models.

    Args:
        card: The card.
        facts: What it is made of.

    Returns:
        The text with YAML front matter.
    """
    lines = [
        "---",
        "library_name: samnet",
        "pipeline_tag: image-segmentation",
        "tags:",
        "- medical",
        "- segment-anything",
        "- image-segmentation",
    ]
    if facts.licence is not None:
        lines.append(f'license: "{facts.licence.lower()}"')
    return "\n".join([*lines, "---", "", card])


def _introduction(facts: CardFacts) -> str:
    names = ", ".join(map(_plain, facts.plan.label_scheme.class_names))
    channels = ", ".join(map(_plain, facts.plan.channel_names))
    noun = "channel" if len(facts.plan.channel_names) == 1 else "channels"
    return f"A segmentation model of samnet. It labels {names} in images of the {noun} {channels}."


def _overview(facts: CardFacts) -> str:
    plan, configuration = facts.plan, facts.plan.single_configuration
    labels = []
    for name, label in plan.label_scheme.foreground.items():
        values = label if isinstance(label, tuple) else (label,)
        labels.append(f"{_plain(name)} ({'+'.join(map(str, values))})")
    kind = "classes" if plan.label_scheme.regions is None else "regions"
    rows = [
        ("licence", _plain(facts.licence or NOT_STATED)),
        ("channels", ", ".join(map(_plain, plan.channel_names))),
        (f"{kind} (value in label maps)", ", ".join(labels)),
        (
            "network",
            f"{configuration.backbone} encoder (tuning: {configuration.encoder_tuning}), head "
            f"{configuration.head}, input of {configuration.input_size} pixels",
        ),
        ("folds", ", ".join(facts.folds)),
        ("training steps", show_steps(facts.steps, configuration.steps)),
        ("base weights", _base(facts.base)),
        ("postprocessing", "; ".join(map(_plain, facts.postprocessing)) or "none"),
        ("planned by", f"samnet {plan.samnet_version}"),
        ("exported by", f"samnet {__version__}"),
    ]
    return _table(("", ""), rows)


def _base(base: Base | None) -> str:
    if base is None:
        return "none needed"
    released = find_released(base.sha256)
    origin = f"the released {released}" if released else "none of the released files"
    if comes_with_samnet(base):
        origin = "comes with samnet"
    return f"{_plain(base.file_name)} ({origin}), sha256 `{base.sha256}`"


def _usage(facts: CardFacts, source: str) -> str:
    plan, base = facts.plan, facts.base
    commands = [f"samnet_install_model {source}"]
    notes = []
    if base is not None:
        released = find_released(base.sha256)
        if released in CHECKPOINTS:
            commands.insert(0, f"samnet_download_checkpoint {released}")
        elif released is None:
            notes.append(
                f"Get the base weights {_plain(base.file_name)} from the owner of this model, and "
                "put them into the folder of checkpoints."
            )
    number = dataset_number(plan.dataset_name)
    commands.append(f'samnet_predict -d {number} -c "{plan.single_name}" -i IMAGES -o MASKS')
    return "\n\n".join(["\n".join(["```", *commands, "```"]), *notes])


def _training_data(facts: CardFacts) -> str:
    data = facts.training_data
    if data is None:
        return "Not recorded in this model."
    noun = "image" if facts.is_2d else "case"
    cases = f"1 {noun}" if data.num_cases == 1 else f"{data.num_cases} {noun}s"
    rows = _sizes_2d(data) if facts.is_2d else _sizes_of_volumes(data)
    for name, channel in zip(facts.plan.channel_names, data.channels, strict=True):
        ends = (channel.percentiles[0][0], channel.percentiles[-1][1])
        rows.append((f"intensities of {_plain(name)} (without outliers)", _range(ends)))
    text = f"Each fold was trained on up to {cases}. Their ranges, from the lowest to the highest:"
    return f"{text}\n\n{_table(('', 'range'), rows)}"


def _sizes_of_volumes(data: TrainingData) -> list[tuple[str, str]]:
    rows = []
    for title, ranges in (("spacing", data.spacing), ("size", data.size)):
        if title == "spacing" and data.unit != MM:
            continue
        for direction, ends in zip(_DIRECTIONS, ranges, strict=True):
            rows.append((f"{title} {direction}", f"{_range(ends)} {data.unit}"))
    return rows


def _sizes_2d(data: TrainingData) -> list[tuple[str, str]]:
    _, height, width = data.size
    return [("height", f"{_range(height)} pixels"), ("width", f"{_range(width)} pixels")]


def _range(ends: Range) -> str:
    low, high = (f"{end:.4g}" for end in ends)
    return low if low == high else f"{low} to {high}"


def _scores(facts: CardFacts) -> str:
    scores = facts.scores
    if scores is None:
        return "None are known: no held-out cases were scored where this model was exported."
    rows = [(_plain(name), *_cells(score)) for name, score in scores.classes.items()]
    if len(rows) > 1:
        rows.append(("mean of the classes", *_cells(scores.foreground)))
    # Where each 2D image stands for itself, nothing is known of patients.
    has_patients = scores.num_patients is not None and not _stand_alone(facts, scores)
    patients = f" of {scores.num_patients} patients" if has_patients else ""
    noun = "image" if facts.is_2d else "case"
    cases = (
        f"1 held-out {noun}" if scores.num_cases == 1 else f"{scores.num_cases} held-out {noun}s"
    )
    lines = [
        f"Dice of {cases}{patients} of the same data set ({', '.join(scores.folds)}). Each was "
        "predicted by a fold that was not trained on it."
    ]
    if not set(scores.folds) <= set(facts.folds):
        lines.append(
            "These are scores of the cross-validation of this configuration. The weights in this "
            "archive are others, of which no cases were held out."
            if "fold_all" in facts.folds
            else "Not all of these folds are in this archive."
        )
    table = _table(("class", f"{noun}s", "Dice", "95 % interval of the mean"), rows)
    units = "images" if _stand_alone(facts, scores) else "patients"
    lines += ["", table, "", f"Intervals are by the bootstrap over {units}."]
    return "\n".join(lines)


def _stand_alone(facts: CardFacts, scores: ModelScores) -> bool:
    """Tell whether the cases are 2D images of which several of a patient are not known."""
    return facts.is_2d and scores.num_patients in (None, scores.num_cases)


def _cells(score: DiceScore) -> tuple[str, str, str]:
    mean = "-" if score.mean is None else f"{score.mean:.3f}"
    known = score.low is not None and score.high is not None
    interval = f"{score.low:.3f} to {score.high:.3f}" if known else "-"
    return str(score.num_cases), mean, interval


def _calibration(calibration: Calibration) -> str:
    rows = []
    for name, of_class in calibration.classes.items():
        typical, doubtful = f"{of_class.typical_dice:.2f}", f"{of_class.doubtful_below:.2f}"
        rows.append((_plain(name), str(of_class.num_cases), typical, doubtful))
    table = _table(("class", "structures", "median Dice", "doubtful below"), rows)
    return (
        "With each prediction samnet says what Dice it expects, with an interval that is meant to "
        f"hold {calibration.level:.0%} of the cases. That rests on {calibration.num_cases} "
        f"held-out cases, and holds for images like those only.\n\n{table}"
    )


def _limits(facts: CardFacts) -> str:
    sources = "scanners, protocols, hospitals or groups of patients"
    chosen = "patients"
    if facts.is_2d:
        sources, chosen = "devices, protocols or places", "they"
    items = [
        f"Not tried on images of other {sources} than those of its training data, and not "
        "compared with a second reader.",
        f"Where the training images come from, how {chosen} were chosen, who drew the labels, and "
        f"by which licence the images may be used: {NOT_STATED} here. Its owner knows.",
    ]
    scores = facts.scores
    if scores is None:
        items.append("Its accuracy is not known.")
    else:
        items.append(
            "All scores are of its own data set. There is no independent test set here. Where a "
            "fold keeps its best epoch, that was chosen by some of the same held-out cases, so "
            "scores may be a little too high."
        )
        if len(facts.folds) > 1:
            items.append(
                "A prediction averages the folds of this archive. The scores are of single folds."
            )
        units = "images" if _stand_alone(facts, scores) else "patients"
        items += _limits_of_scores(scores, units)
    if facts.training_data is not None:
        items.append(
            "Images outside of the ranges above are predicted all the same, with a warning in "
            "`prediction_warnings.json`."
        )
    if facts.calibration is None:
        items.append("It does not say what Dice to expect of a prediction.")
    return "\n".join(f"- {item}" for item in items)


def _limits_of_scores(scores: ModelScores, units: str) -> list[str]:
    items = []
    if scores.num_patients is not None and scores.num_patients < ENOUGH_PATIENTS:
        items.append(
            f"The scores rest on {scores.num_patients} {units}. With fewer than "
            f"{ENOUGH_PATIENTS}, intervals are too narrow."
        )
    unseen = [_plain(name) for name, score in scores.classes.items() if score.mean is None]
    if unseen:
        items.append(
            f"No held-out {'image' if units == 'images' else 'case'} shows {', '.join(unseen)}."
        )
    return items


def _plain(text: str) -> str:
    """Return a name so that Markdown shows it as it is."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
