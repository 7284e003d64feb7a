"""Batch, precision, length and pace of the training, loss, sampling and prediction.

Every rule takes the `Facts` and returns the value and the reason.
"""

from __future__ import annotations

import math

from samnet.dataset.splits import MAX_FOLDS, find_patient_key, patient_of
from samnet.plan.backbones import BACKBONES, PATCH, WINDOW
from samnet.planning.memory import SMALLEST_BATCH
from samnet.planning.rules.facts import Facts

STEPS_RANGE = (1500, 12000)
# Steps, where slices of other cases or across all axes are seen: many more than of one view.
FEWEST_OF_MANY = 3000
PASSES = 60
TILE = 128  # rows and columns of a product that a multiprocessor computes at a time
FILLING_WAVES = 4
LARGEST_BATCH = 128
MAX_LABELLED = 2  # volumes; with one, images without labels helped, with five they did not
MAX_LABELLED_IMAGES = 24  # 2D; measured with the 12 to 20 images of a patient
MAX_REGISTERED = 48  # cases without labels that labels by registration are learnt for
STEPS_IN_A_PASS = 16  # at least, in batches that are larger only to fill a GPU


def patient_key(facts: Facts) -> tuple[str | None, str]:
    """Take the user's expression, else one found in the case names."""
    names = list(facts.fingerprint.cases)
    if facts.fingerprint.patient_key:
        return facts.fingerprint.patient_key, "patient_key of dataset.json"
    key = find_patient_key(names)
    if key is None:
        return None, (
            f"the {len(names)} case names show no groups: every case is taken for one patient"
        )
    patients = {patient_of(name, key) for name in names}
    return key, (
        f"the {len(names)} case names begin with {len(patients)} different patients, such as "
        f"{patient_of(names[0], key)!r}"
    )


def folds(facts: Facts) -> tuple[int, str]:
    """Make five folds, or as many as there are patients."""
    key = facts.values["patient_key"]
    patients = {patient_of(name, key) for name in facts.fingerprint.cases}
    count = len(patients)
    if count == 1:
        return 1, (
            "a single patient: nothing can be held out, the fold validates on its own training "
            "cases"
        )
    return min(MAX_FOLDS, count), f"min({MAX_FOLDS}, {count} patients)"


def batch_size(facts: Facts) -> tuple[int, str]:
    """Take 16 small inputs, 8 on a CPU; fewer of larger inputs, in proportion to their tokens.

    More on a GPU that they do not fill. At most as many as fit into the memory.
    """
    base = 8 if facts.machine.device == "cpu" else 16
    wanted = _base_batch(facts)
    reason = f"{base} inputs of up to {WINDOW * PATCH} pixels, or as many tokens"
    if facts.values["depth"] > 1:
        reason += f", in stacks of {facts.values['depth']}"
    filling = _filling_batch(facts)
    if filling > wanted:
        wanted = filling
        reason = (
            f"{facts.machine.multiprocessors} multiprocessors are full with so many inputs: fewer "
            "would take as long for each step"
        )
    largest = facts.level.largest_batch
    value = wanted if largest is None else min(wanted, largest)
    if value < wanted:
        reason += f", would be {wanted}"
    return value, f"{reason}; {_step(facts, value)}"


def _base_batch(facts: Facts) -> int:
    """Return the batch size that learns well in the fewest passes through the data."""
    size = facts.values["input_size"]
    # Below one window the number stays: in the same time many small steps teach more than few
    # large ones.
    windows = max(1.0, (size / (WINDOW * PATCH)) ** 2)
    base = 8 if facts.machine.device == "cpu" else 16
    return max(SMALLEST_BATCH, round(base / windows / facts.values["depth"]))


def _filling_batch(facts: Facts) -> int:
    """Return the batch size that fills a GPU; 0 where its multiprocessors are unknown.

    Up to it, a larger batch takes less time for each input. A GPU computes a product in tiles, one
    at a time on each multiprocessor. Where the products of a block make fewer than `FILLING_WAVES`
    tiles for each, multiprocessors wait. This is arithmetic, and has not been measured on a GPU.
    """
    count = facts.machine.multiprocessors
    if not count:
        return 0
    tokens_of_input = facts.values["depth"] * (facts.values["input_size"] // PATCH) ** 2
    # The four products of a block have 3, 1, 4 and 1 times the width as outputs.
    mean_outputs = 2.25 * BACKBONES[facts.values["backbone"]].width
    tokens = FILLING_WAVES * count * TILE**2 / mean_outputs
    enough_steps = facts.labelled_slices // STEPS_IN_A_PASS
    return min(math.ceil(tokens / tokens_of_input), enough_steps, LARGEST_BATCH)


def _step(facts: Facts, batch: int) -> str:
    """Say what is known of the memory of a step of so many images."""
    level, machine = facts.level, facts.machine
    if level.taken is None:
        return f"its memory was not measured; {machine}"
    if level.is_estimate:
        taken = math.ceil(level.taken * 10) / 10
        return f"a step of {batch} takes at most {taken:.1f} of {machine.memory:.0f} GiB"
    outcome = "" if level.fits else ", which is too much whatever is given up"
    return (
        f"a step of {batch} takes {level.taken:.1f} of {machine.memory:.0f} GiB by a dry run"
        f"{outcome}"
    )


def precision(facts: Facts) -> tuple[str, str]:
    """Take bfloat16 on CUDA and on CPUs with units for it, single precision elsewhere."""
    if facts.machine.device == "cuda":
        return "bfloat16", "GPUs compute it many times faster"
    if facts.machine.cpu_bfloat16:
        return "bfloat16", "this CPU has units for it: a product was measured to be faster in it"
    return "float32", f"half precision is slower than single on {facts.machine.device}"


def gradient_checkpointing(facts: Facts) -> tuple[bool, str]:
    """Checkpoint where a step does not fit without: the same gradients in a third more time."""
    if facts.values["encoder_tuning"] == "frozen":
        return False, "a frozen encoder keeps nothing for a backward pass"
    step = _step(facts, facts.values["batch_size"])
    if facts.level.checkpointing:
        return True, f"without it {facts.reason_for_less}; with it {step}"
    return False, f"room for everything that the backward pass needs; {step}"


def steps(facts: Facts) -> tuple[int, str]:
    """Pass `PASSES` times through the labelled slices, within limits.

    A published configuration passes as often through all slices as its paper.
    """
    batch, passes = facts.values["batch_size"], facts.recipe.passes
    if passes is not None:
        per_pass = -(-facts.all_slices // batch)
        return max(1, passes * per_pass), (
            f"{passes} epochs of {per_pass} steps through {facts.all_slices} slices"
        )
    slices, in_batch = facts.labelled_slices, batch * facts.values["depth"]
    lowest, highest = STEPS_RANGE
    more = ""
    if _learns_from_registered(facts):
        lowest, more = FEWEST_OF_MANY, "; cases without labels are learnt from too"
    elif len(facts.values["views"]) > 1:
        lowest, more = FEWEST_OF_MANY, f"; of {len(facts.values['views'])} views"
    value = min(max(PASSES * slices // in_batch, lowest), highest)
    return value, (
        f"{PASSES} passes over {slices} labelled slices in batches of {in_batch}, from {lowest} to "
        f"{highest}{more}"
    )


def steps_per_epoch(facts: Facts) -> tuple[int, str]:
    """Validate about 30 times, every 50 to 250 steps."""
    value = max(50, min(250, facts.values["steps"] // 30))
    return value, f"about 30 validations in {facts.values['steps']} steps"


def patience(facts: Facts) -> tuple[int, str]:
    """Stop after 15 validations in a row without a better one."""
    return 15, "so many validations in a row without a better one end the training"


def learning_rate(facts: Facts) -> tuple[float, str]:
    """Take 0.001, more for adapters of the small backbone, less where SAM is trained as a whole.

    For a batch that is larger only to fill a GPU, the rate grows with the root of its size, as is
    right for Adam (Malladi et al. 2022, arXiv 2205.10287).
    """
    rate, reason = _base_rate(facts)
    batch, base = facts.values["batch_size"], _base_batch(facts)
    if _filling_batch(facts) <= base or batch <= base:
        return rate, reason
    value = float(f"{rate * math.sqrt(batch / base):.2g}")
    return value, f"{rate:g} for batches of {base}, times the root of {batch} / {base}; {reason}"


def _base_rate(facts: Facts) -> tuple[float, str]:
    """Return the rate for batches of `_base_batch`, and its reason."""
    tuning, is_small = facts.values["encoder_tuning"], facts.values["backbone"] == "small"
    if tuning == "lora" and is_small:
        return 4e-3, "measured: adapters of the small backbone learn too little at 0.001"
    if tuning != "full":
        return 1e-3, "only adapters and head are trained"
    if facts.values["initial_weights"] == "random":
        return 1e-3, "everything starts from random weights"
    if is_small:
        return 1e-3, (
            "synthetic images taught the small backbone little that larger steps could spoil"
        )
    return 1e-4, "pre-trained weights are changed everywhere: small steps keep what they know"


def warmup_steps(facts: Facts) -> tuple[int, str]:
    """Warm up for 250 steps, at most a tenth of the training."""
    value = min(250, facts.values["steps"] // 10)
    return value, "250 as SAMed (arXiv 2304.13785), at most a tenth of the training"


def weight_decay(facts: Facts) -> tuple[float, str]:
    """Take SAMed's."""
    return 0.1, "as SAMed (arXiv 2304.13785)"


def decay_power(facts: Facts) -> tuple[float, str]:
    """Take that of SAMed and nnU-Net."""
    return 0.9, "as SAMed and nnU-Net"


def decay_share(facts: Facts) -> tuple[float, str]:
    """Take 1, less for a published schedule that is not trained to its end.

    Then it is the share that the steps after the warm-up are of the longer schedule.
    """
    stops_at = facts.recipe.stops_at
    if stops_at == 1.0:
        return 1.0, "the rate falls to 0 at the last step"
    steps, warmup = facts.values["steps"], facts.values["warmup_steps"]
    value = stops_at * max(0, steps - warmup) / steps
    return value, f"stopped after {steps} of the {steps / stops_at:.0f} steps of its schedule"


def optimizer(facts: Facts) -> tuple[str, str]:
    """Take SAMed's."""
    return "adamw", "as SAMed (arXiv 2304.13785)"


def schedule(facts: Facts) -> tuple[str, str]:
    """Take that of SAMed and nnU-Net."""
    return "polynomial", "as SAMed and nnU-Net"


def loss(facts: Facts) -> tuple[str, str]:
    """Take SAMed's, in its binary form for regions."""
    if facts.fingerprint.label_scheme.regions is not None:
        return "samed", (
            "binary cross-entropy and Dice of each region, weighted as in SAMed (arXiv 2304.13785)"
        )
    return "samed", (
        "cross-entropy and Dice over all classes, background included (arXiv 2304.13785)"
    )


def gradient_clip(facts: Facts) -> tuple[float, str]:
    """Limit the norm of all gradients together to 1."""
    return 1.0, "keeps a single odd batch from undoing many good ones"


def cross_entropy_weight(facts: Facts) -> tuple[float, str]:
    """Take SAMed's."""
    return 0.2, "as SAMed (arXiv 2304.13785)"


def dice_weight(facts: Facts) -> tuple[float, str]:
    """Take SAMed's."""
    return 0.8, "as SAMed (arXiv 2304.13785)"


def foreground_share(facts: Facts) -> tuple[float, str]:
    """Choose two of three slices because they show a class."""
    return 0.67, "two of three slices show a chosen class, so that rare classes are seen"


def slice_order(facts: Facts) -> tuple[str, str]:
    """Draw each slice at random."""
    return "random", "most slices are drawn by class; the others are drawn alike"


def augmentation(facts: Facts) -> tuple[str, str]:
    """Take samnet's own."""
    return "planned", "rotation, scaling, shift, bending, mirroring, and changes of intensities"


def weight_average(facts: Facts) -> tuple[float, str]:
    """Average where labels are not all true; short runs on true ones did not gain from it."""
    if _learns_from_registered(facts):
        return 0.99, "labels that registration has found differ from slice to slice"
    return 0.0, "the rate falls to 0: averages of short runs were measured to be no better"


def unlabelled_weight(facts: Facts) -> tuple[float, str]:
    """Learn from no predictions."""
    return 0.0, "no predictions are learnt from: this gained on one data set, and lost on another"


def unlabelled_share(facts: Facts) -> tuple[float, str]:
    """Take as many as of labelled slices."""
    return 1.0, "as many as labelled slices, where there is an unlabelled_weight"


def registered_cases(facts: Facts) -> tuple[int, str]:
    """Use images without labels where a gain was measured: with few labelled ones."""
    labelled, others = len(facts.fingerprint.cases), facts.fingerprint.num_unlabelled
    if not others:
        return 0, "no images without labels in imagesUn"
    if facts.values["encoder_tuning"] == "frozen":
        return 0, "the stored embeddings of a frozen encoder are those of labelled slices"
    if facts.flat_axis == 0:
        if labelled > MAX_LABELLED_IMAGES:
            return 0, f"{labelled} labelled images: a gain was measured with those of one patient"
    elif facts.flat_axis is not None:
        return 0, "single slices are registered where they lie across Z"
    elif labelled > MAX_LABELLED:
        return 0, f"{labelled} labelled cases: a gain was measured with one, and none with five"
    return min(MAX_REGISTERED, math.ceil(others / 2)), (
        f"{labelled} labelled and {others} other cases, of which the most alike take labels over; "
        "about a second for each, if the volumes are small"
    )


def _learns_from_registered(facts: Facts) -> bool:
    return bool(facts.values.get("registered_cases", registered_cases(facts)[0]))


def tile_overlap(facts: Facts) -> tuple[float, str]:
    """Take nnU-Net's."""
    return 0.5, "as nnU-Net; only slices larger than the input are tiled"


def mirror_at_prediction(facts: Facts) -> tuple[bool, str]:
    """Average over mirrored inputs."""
    return True, "averaging over mirrored inputs costs time and seldom fails to help"
