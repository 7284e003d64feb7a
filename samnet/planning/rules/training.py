"""Batch, precision, length and pace of the training, loss, sampling and prediction."""

from __future__ import annotations

from samnet.dataset.splits import MAX_FOLDS, find_patient_key, patient_of
from samnet.plan.backbones import PATCH, WINDOW
from samnet.planning.memory import SMALLEST_BATCH
from samnet.planning.rules.facts import Facts

STEPS_RANGE = (1500, 12000)
PASSES = 60


def patient_key(facts: Facts) -> tuple[str | None, str]:
    """The user's expression, else one found in the case names."""
    names = list(facts.fingerprint.cases)
    if facts.fingerprint.patient_key:
        return facts.fingerprint.patient_key, "patient_key of dataset.json"
    key = find_patient_key(names)
    if key is None:
        return (
            None,
            f"the {len(names)} case names show no groups: every case is taken for one patient",
        )
    patients = len({patient_of(name, key) for name in names})
    return (
        key,
        f"the {len(names)} case names begin with {patients} different patients, such as {patient_of(names[0], key)!r}",
    )


def folds(facts: Facts) -> tuple[int, str]:
    patients = len(
        {patient_of(name, facts.values["patient_key"]) for name in facts.fingerprint.cases}
    )
    if patients == 1:
        return (
            1,
            "a single patient: nothing can be held out, the fold validates on its own training cases",
        )
    return min(MAX_FOLDS, patients), f"min({MAX_FOLDS}, {patients} patients)"


def batch_size(facts: Facts) -> tuple[int, str]:
    """Sixteen small inputs, eight on a CPU; fewer of larger ones, in proportion to their tokens, and what fits."""
    size = facts.values["input_size"]
    windows = max(
        1.0, (size / (WINDOW * PATCH)) ** 2
    )  # in the same time many small steps teach more than few large
    base = 8 if facts.machine.device == "cpu" else 16
    wanted = max(SMALLEST_BATCH, round(base / windows))
    value = wanted if facts.level.largest_batch is None else min(wanted, facts.level.largest_batch)
    reason = f"{base} inputs of up to {WINDOW * PATCH} pixels, or as many tokens"
    return (
        value,
        f"{reason}{f', would be {wanted}' if value < wanted else ''}; {_step(facts, value)}",
    )


def _step(facts: Facts, batch: int) -> str:
    """What is known of the memory of a step of so many images."""
    level, machine = facts.level, facts.machine
    if level.taken is None:
        return f"its memory was not measured; {machine}"
    outcome = "" if level.fits else ", which is too much whatever is given up"
    return f"a step of {batch} takes {level.taken:.1f} of {machine.memory:.0f} GiB by a dry run{outcome}"


def precision(facts: Facts) -> tuple[str, str]:
    if facts.machine.device == "cuda":
        return "bfloat16", "GPUs compute it many times faster"
    return "float32", f"half precision is slower than single on {facts.machine.device}"


def gradient_checkpointing(facts: Facts) -> tuple[bool, str]:
    """The same gradients for a third more time: where a step does not fit without."""
    if facts.values["encoder_tuning"] == "frozen":
        return False, "a frozen encoder keeps nothing for a backward pass"
    step = _step(facts, facts.values["batch_size"])
    if facts.level.checkpointing:
        return True, f"without it {facts.too_much}; with it {step}"
    return False, f"room for everything that the backward pass needs; {step}"


def steps(facts: Facts) -> tuple[int, str]:
    """`PASSES` times through the labelled slices, within limits; or as often through all slices as a paper did."""
    if facts.recipe.passes is not None:
        an_epoch = -(-facts.all_slices // facts.values["batch_size"])
        value = max(1, facts.recipe.passes * an_epoch)
        return (
            value,
            f"{facts.recipe.passes} epochs of {an_epoch} steps through {facts.all_slices} slices",
        )
    slices, batch = facts.labelled_slices, facts.values["batch_size"]
    lowest, highest = STEPS_RANGE
    value = min(max(PASSES * slices // batch, lowest), highest)
    return (
        value,
        f"{PASSES} passes over {slices} labelled slices in batches of {batch}, from {lowest} to {highest}",
    )


def steps_per_epoch(facts: Facts) -> tuple[int, str]:
    value = max(50, min(250, facts.values["steps"] // 30))
    return value, f"about 30 validations in {facts.values['steps']} steps"


def patience(facts: Facts) -> tuple[int, str]:
    return 15, "half of the planned validations without a better one"


def learning_rate(facts: Facts) -> tuple[float, str]:
    tuning, is_small = facts.values["encoder_tuning"], facts.values["backbone"] == "small"
    if tuning == "lora" and is_small:
        return 4e-3, "measured: adapters of the small backbone learn too little at 0.001"
    if tuning == "full":
        if facts.values["initial_weights"] == "random":
            return 1e-3, "everything starts from random weights"
        if is_small:
            return (
                1e-3,
                "made images taught the small backbone little that larger steps could spoil",
            )
        return 1e-4, "pre-trained weights are changed everywhere: small steps keep what they know"
    return 1e-3, "only adapters and head are trained"


def warmup_steps(facts: Facts) -> tuple[int, str]:
    value = min(250, facts.values["steps"] // 10)
    return value, "250 as SAMed (arXiv 2304.13785), at most a tenth of the training"


def weight_decay(facts: Facts) -> tuple[float, str]:
    return 0.1, "as SAMed (arXiv 2304.13785)"


def decay_power(facts: Facts) -> tuple[float, str]:
    return 0.9, "as SAMed and nnU-Net"


def decay_share(facts: Facts) -> tuple[float, str]:
    """1, or what the steps after the warm-up are of a longer schedule that is not trained to its end."""
    if facts.recipe.stops_at == 1.0:
        return 1.0, "the rate falls to 0 at the last step"
    steps, warmup = facts.values["steps"], facts.values["warmup_steps"]
    value = facts.recipe.stops_at * max(0, steps - warmup) / steps
    return (
        value,
        f"stopped after {steps} of the {steps / facts.recipe.stops_at:.0f} steps of its schedule",
    )


def optimizer(facts: Facts) -> tuple[str, str]:
    return "adamw", "as SAMed (arXiv 2304.13785)"


def schedule(facts: Facts) -> tuple[str, str]:
    return "polynomial", "as SAMed and nnU-Net"


def loss(facts: Facts) -> tuple[str, str]:
    if facts.fingerprint.regions is not None:
        return (
            "samed",
            "binary cross-entropy and Dice of each region, weighed as in SAMed (arXiv 2304.13785)",
        )
    return (
        "samed",
        "cross-entropy and Dice over all classes, background included (arXiv 2304.13785)",
    )


def gradient_clip(facts: Facts) -> tuple[float, str]:
    return 1.0, "keeps a single odd batch from undoing many good ones"


def cross_entropy_weight(facts: Facts) -> tuple[float, str]:
    return 0.2, "as SAMed (arXiv 2304.13785)"


def dice_weight(facts: Facts) -> tuple[float, str]:
    return 0.8, "as SAMed (arXiv 2304.13785)"


def foreground_share(facts: Facts) -> tuple[float, str]:
    return 0.67, "two of three slices show a chosen class, so that rare classes are seen"


def augmentation(facts: Facts) -> tuple[str, str]:
    return "planned", "rotation, scaling, shift, bending, mirroring, and changes of intensities"


def tile_overlap(facts: Facts) -> tuple[float, str]:
    return 0.5, "as nnU-Net; only slices larger than the input are tiled"


def mirror_at_prediction(facts: Facts) -> tuple[bool, str]:
    return True, "averaging over mirrored inputs costs time and seldom fails to help"
