"""Everything that defines one training run, as plain values: what a plan decides, without reasons.

To add a key, declare it here and write its rule in `samnet.planning.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, get_type_hints

from samnet.core.geometry import is_orientation
from samnet.plan.allowed_values import are_axes, are_blocks, are_labels, is_weights
from samnet.plan.backbones import BACKBONES, PATCH
from samnet.plan.plan_key import REQUIRED, PlanKey, Role, Scope, declared_keys, plan_key

DEPTHS = (1, 3, 5)

GROUPS = ("What the network sees", "The network", "The training")
_INPUT, _NETWORK, _TRAINING = (partial(plan_key, group=group) for group in GROUPS)
_EVERYTHING = Role.EMBEDDINGS | Role.MEMORY | Role.FOLDS


@dataclass(frozen=True)
class IntensityWindow:
    """How the intensities of one channel become numbers from 0 to 1.

    Attributes:
        scheme: `fixed`: clip to [lower, upper] in the image's own units. `percentiles`: lower and
            upper are percentiles of each image's own non-zero voxels. `slice_range`: from the
            lowest to the highest value of each slice; lower and upper (0, 100) change nothing.
        lower: What becomes 0.
        upper: What becomes 1.
    """

    scheme: str
    lower: float
    upper: float


def _backbone_names() -> tuple[str, ...]:
    return tuple(BACKBONES)


@dataclass(frozen=True)
class Configuration:
    """The values of one configuration. Each field says what it means and what depends on it.

    Axes are canonical: 0 is Z (to the head), 1 is Y (to the front), 2 is X (to the right).
    """

    slicing_axis: int = _INPUT(
        "the axis across which the slices lie",
        Role.NONE,
        scope=Scope.DATASET,
        limits=(0, 2),
        possible="0, 1, 2",
    )
    views: tuple[int, ...] = _INPUT(
        "all axes whose slices the network sees; their probabilities are averaged. Another one "
        "needs `samnet_preprocess`",
        Role.FOLDS,
        scope=Scope.DATASET,
        is_valid=are_axes,
        possible="a list of some of the axes 0, 1, 2, each once, with `slicing_axis` in it",
    )
    in_plane_spacing: float = _INPUT(
        "mm of a pixel before enlarging",
        Role.EMBEDDINGS | Role.FOLDS,
        scope=Scope.DATASET,
        limits=(1e-6, None),
        possible="above 0",
    )
    channel_layout: str = _INPUT(
        "how the channels fill SAM's three",
        _EVERYTHING,
        scope=Scope.DATASET,
        choices=("neighbours", "repeat", "pair_mean", "as_is", "stem"),
        possible="`neighbours`, `repeat` (1 channel), `pair_mean` (2), `as_is` (3), "
        "`stem` (any number)",
    )
    intensity: tuple[IntensityWindow, ...] = _INPUT(
        'one window for each channel: `{"scheme": ..., "lower": ..., "upper": ...}`',
        Role.EMBEDDINGS | Role.FOLDS,
        scope=Scope.DATASET,
        possible="`fixed`: in the image's own units; `percentiles`: of each image's non-zero "
        "voxels; `slice_range`: of each slice",
    )
    pixel_statistics: str = _INPUT(
        "whether SAM's mean and standard deviation are applied",
        Role.EMBEDDINGS | Role.MEMORY,
        scope=Scope.DATASET,
        choices=("sam", "none"),
    )
    background_outside: bool = _INPUT(
        "whether predictions are background outside the field of view: where every channel of an "
        "image is at its lowest, up to the border of the slice",
        Role.RESUMABLE,
        scope=Scope.DATASET,
        possible="`true`, `false`",
        earlier=False,
    )
    mirror_axes: tuple[int, ...] = _TRAINING(
        "axes along which slices may be mirrored, in training and prediction",
        Role.RESUMABLE | Role.EMBEDDINGS,
        scope=Scope.DATASET,
        is_valid=are_axes,
        possible="a list of some of the axes 0, 1, 2, each once",
    )
    backbone: str = _NETWORK("the image encoder", _EVERYTHING, choices=_backbone_names)
    initial_weights: str = _NETWORK(
        "the weights from which the training starts ([models.md](models.md))",
        Role.NONE,
        is_valid=is_weights,
        possible="`pretrained`, `random`, or a file ending in .pth, .pt or .safetensors",
    )
    encoder_tuning: str = _NETWORK(
        "what of the encoder is trained", Role.MEMORY, choices=("full", "lora", "frozen")
    )
    lora_rank: int = _NETWORK(
        "rank of the low-rank updates", Role.MEMORY, limits=(1, 1024), possible="1 to 1,024"
    )
    lora_scale: float = _NETWORK(
        "their factor: alpha / rank in the words of the LoRA paper (arXiv 2106.09685)",
        Role.NONE,
        limits=(0, None),
        possible="0 and above",
    )
    lora_targets: tuple[str, ...] = _NETWORK(
        "the layers that get them",
        Role.MEMORY,
        choices=("q", "k", "v", "projection", "mlp"),
        is_valid=bool,
        possible="a list of some of `q`, `k`, `v`, `projection`, `mlp`",
    )
    lora_blocks: str = _NETWORK(
        "the blocks that get them",
        Role.MEMORY,
        is_valid=are_blocks,
        possible="`all`, `last_half`, `last_quarter`, or numbers from 0 such as `2,5,8,11`",
    )
    depth: int = _NETWORK(
        "neighbouring slices of a stack, which the encoder sees together through adapters over the "
        "slices; 1: every slice by itself",
        Role.MEMORY | Role.FOLDS,
        limits=(DEPTHS[0], DEPTHS[-1]),
        is_valid=lambda value: value in DEPTHS,
        possible="1, 3, 5; only 1 with a frozen encoder",
        earlier=1,
    )
    depth_blocks: str = _NETWORK(
        "the blocks that get these adapters, with a `depth` above 1",
        Role.MEMORY | Role.FOLDS,
        is_valid=are_blocks,
        possible="`all`, `last_half`, `last_quarter`, or numbers from 0 such as `2,5,8,11`",
        earlier="last_half",
    )
    depth_adapters: int = _NETWORK(
        "adapters of each of these blocks: 1 before it; 2 also between its attention and its "
        "perceptron, as in MA-SAM",
        Role.MEMORY | Role.FOLDS,
        limits=(1, 2),
        possible="1, 2",
        earlier=1,
    )
    input_size: int = _INPUT(
        "edge of the square input in pixels",
        _EVERYTHING,
        limits=(PATCH, 4096),
        is_valid=lambda value: value % PATCH == 0,
        possible=f"a multiple of {PATCH}, best of 224, up to 4,096",
    )
    zoom: float = _INPUT(
        "pixels of the network's input for each pixel of `in_plane_spacing`",
        Role.EMBEDDINGS | Role.FOLDS,
        limits=(1e-3, 1e3),
        possible="0.001 to 1,000",
    )
    frame: str = _INPUT(
        "how slices lie in the input. `scale`: all at one scale, larger ones in several inputs; "
        "`stretch`: each is stretched to the input, whatever its size and shape; `splines`: "
        "stretched, and in prediction resampled as SAMed's code does, by cubic splines and back to "
        "the nearest pixel; `splines_224`: the same through 224 pixels",
        Role.EMBEDDINGS | Role.FOLDS,
        choices=("scale", "stretch", "splines", "splines_224"),
        earlier="scale",
    )
    orientation: str = _INPUT(
        "the directions of slices, rows and columns. `patient`: canonical; `file`, "
        "`file_transposed`: as they lie in a file (Z, Y, X or Z, X, Y), for imported models; other "
        "directions likewise. Training runs need `patient`",
        Role.FOLDS,
        is_valid=is_orientation,
        possible="`patient`, `file`, `file_transposed`, or three letters of R, L, A, P, S, I such "
        "as `SPL`: slices to the head, rows to the back, columns to the left",
        earlier="patient",
    )
    head: str = _NETWORK(
        "from the embedding to the classes",
        Role.MEMORY | Role.FOLDS,
        choices=(
            "mask_decoder",
            "mask_decoder_lora",
            "mask_decoder_full",
            "vit",
            "cnn",
            "cnn_slim",
            "linear",
            "upsampling",
            "upsampling_quarter",
        ),
    )
    batch_size: int = _TRAINING(
        "slices in a step, or stacks of `depth` slices",
        Role.RESUMABLE | Role.MEMORY,
        limits=(1, None),
        possible="1 and above",
    )
    precision: str = _TRAINING(
        "precision of the computation on a CUDA GPU, or on a CPU with units for bfloat16",
        Role.RESUMABLE | Role.MEMORY,
        choices=("float32", "bfloat16"),
    )
    gradient_checkpointing: bool = _TRAINING(
        "less memory for more time", Role.RESUMABLE | Role.MEMORY, possible="`true`, `false`"
    )
    steps: int = _TRAINING(
        "optimiser steps", Role.RESUMABLE, limits=(1, None), possible="1 and above"
    )
    steps_per_epoch: int = _TRAINING(
        "steps between two validations", Role.RESUMABLE, limits=(1, None), possible="1 and above"
    )
    patience: int = _TRAINING(
        "validations without a better one before the training stops early; only with held-out "
        "cases",
        Role.RESUMABLE,
        limits=(0, None),
        possible="0 (never) and above",
    )
    learning_rate: float = _TRAINING(
        "peak of the learning rate", Role.RESUMABLE, limits=(1e-12, None), possible="above 0"
    )
    warmup_steps: int = _TRAINING(
        "steps of linear rise to the peak",
        Role.RESUMABLE,
        limits=(0, None),
        possible="0 and above",
    )
    weight_decay: float = _TRAINING(
        "weight decay of the optimiser", Role.RESUMABLE, limits=(0, None), possible="0 and above"
    )
    decay_power: float = _TRAINING(
        "power of the polynomial fall `(1 - decay_share p)^decay_power`, with p from 0 to 1 after "
        "the warm-up",
        Role.RESUMABLE,
        limits=(0, None),
        possible="0 and above",
    )
    decay_share: float = _TRAINING(
        "share of the polynomial fall at which the training ends",
        Role.RESUMABLE,
        limits=(0, 1),
        possible="0 to 1",
    )
    optimizer: str = _TRAINING(
        "the optimiser; `sgd` with a momentum of 0.9", Role.NONE, choices=("adamw", "adam", "sgd")
    )
    schedule: str = _TRAINING(
        "what follows the warm-up: a polynomial fall; `plateau`: a tenth whenever the training "
        "loss has not fallen for ten epochs; `plateau_by_pass`: the same by the last batch of each "
        "pass over the slices, as AutoSAM's code",
        Role.RESUMABLE,
        choices=("polynomial", "plateau", "plateau_by_pass"),
    )
    loss: str = _TRAINING(
        "`samed`: cross-entropy and Dice over all classes with squared denominators; "
        "`autosam_release`: cross-entropy and Dice over the foreground of the whole batch, with "
        "squared denominators and 1 added above and below, as AutoSAM's code; `autosam`: the same "
        "with plain denominators and next to nothing added",
        Role.RESUMABLE | Role.MEMORY,
        choices=("samed", "autosam", "autosam_release"),
    )
    gradient_clip: float = _TRAINING(
        "largest norm of all gradients together",
        Role.RESUMABLE,
        limits=(0, None),
        possible="0 (no limit) and above",
    )
    cross_entropy_weight: float = _TRAINING(
        "weight of the cross-entropy", Role.RESUMABLE, limits=(0, None), possible="0 and above"
    )
    dice_weight: float = _TRAINING(
        "weight of the Dice loss", Role.RESUMABLE, limits=(0, None), possible="0 and above"
    )
    foreground_share: float = _TRAINING(
        "share of the slices that are chosen because they show a class, every class equally often",
        Role.RESUMABLE,
        limits=(0, 1),
        possible="0 to 1",
    )
    slice_order: str = _TRAINING(
        "how the other slices are chosen: each at random, or in `passes` that show every slice "
        "once",
        Role.RESUMABLE,
        choices=("random", "passes"),
        earlier="random",
    )
    augmentation: str = _TRAINING(
        "random changes of the slices",
        Role.RESUMABLE | Role.EMBEDDINGS,
        choices=("planned", "samed", "none"),
    )
    structure_copying: float = _TRAINING(
        "share of the samples into which a structure of another slice is copied "
        "([copying.md](copying.md))",
        Role.RESUMABLE,
        limits=(0, 1),
        possible="0 to 1",
        earlier=0.0,
    )
    copied_labels: tuple[int, ...] = _TRAINING(
        "the labels whose structures are copied, with `structure_copying` above 0",
        Role.RESUMABLE,
        is_valid=are_labels,
        possible="a list of labels above 0, each once",
        earlier=(),
    )
    weight_average: float = _TRAINING(
        "what a step keeps of the average of the trained weights, which is validated and kept",
        Role.RESUMABLE | Role.MEMORY,
        limits=(0, 0.99999),
        possible="0 (the weights of a single step) to 0.99999",
        earlier=0.0,
    )
    unlabelled_weight: float = _TRAINING(
        "weight of slices without labels ([unlabelled.md](unlabelled.md)); needs `weight_average`",
        Role.RESUMABLE | Role.MEMORY,
        limits=(0, None),
        possible="0 (labelled slices alone) and above",
        earlier=0.0,
    )
    unlabelled_share: float = _TRAINING(
        "slices without labels in a step for each labelled one",
        Role.RESUMABLE | Role.MEMORY,
        limits=(0.01, 100),
        possible="0.01 to 100",
        earlier=1.0,
    )
    registered_cases: int = _TRAINING(
        "cases without labels that are trained on at most, with labels that registration brings "
        "to them ([unlabelled.md](unlabelled.md))",
        Role.NONE,
        limits=(0, None),
        possible="0 (none) and above",
        earlier=0,
    )
    tile_overlap: float = _INPUT(
        "overlap of inputs where a slice needs several",
        Role.RESUMABLE,
        limits=(0, 0.9),
        possible="0 to 0.9",
    )
    mirror_at_prediction: bool = _TRAINING(
        "whether a prediction averages over mirrored inputs",
        Role.RESUMABLE,
        possible="`true`, `false`",
    )


PLAN_KEYS: dict[str, PlanKey] = declared_keys(Configuration, get_type_hints(Configuration))


def keys_with(role: Role) -> tuple[str, ...]:
    """Return the keys that have a role.

    Args:
        role: What depends on their values.

    Returns:
        The keys in their declared order.
    """
    return tuple(name for name, key in PLAN_KEYS.items() if role in key.role)


def earlier_values() -> dict[str, Any]:
    """Return what plans and runs have that are older than some of the keys.

    Returns:
        The values by key; keys without such a value are left out.
    """
    return {name: key.earlier for name, key in PLAN_KEYS.items() if key.earlier is not REQUIRED}
