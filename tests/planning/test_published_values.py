"""The constants of the papers and of their released code, as they are planned."""

from __future__ import annotations

from typing import Any

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import GPU, plan_all

from samnet.plan.configuration import Configuration, IntensityWindow

NUM_SLICES = 6 * 40  # of `make_fingerprint`
# Zhang & Liu 2023, arXiv 2304.13785, and its released code.
SAMED: dict[str, Any] = {
    "precision": "float32",
    "backbone": "vit_b",
    "initial_weights": "pretrained",
    "encoder_tuning": "lora",
    "lora_rank": 4,
    "lora_scale": 1.0,
    "lora_targets": ("q", "v"),
    "lora_blocks": "all",
    "head": "mask_decoder",
    "input_size": 512,
    "channel_layout": "repeat",
    "intensity": (IntensityWindow("fixed", -125, 275),),
    "pixel_statistics": "none",
    "loss": "samed",
    "cross_entropy_weight": 0.2,
    "dice_weight": 0.8,
    "optimizer": "adamw",
    "learning_rate": 0.005,
    "weight_decay": 0.1,
    "schedule": "polynomial",
    "decay_power": 0.9,
    "warmup_steps": 250,
    "gradient_clip": 0.0,
    "batch_size": 24,
    "slice_order": "passes",
    "steps": 160 * NUM_SLICES // 24,
    "augmentation": "samed",
    "mirror_axes": (0, 1, 2),
    "foreground_share": 0.0,
    "mirror_at_prediction": False,
    "patience": 0,
}
# Hu, Xu & Shi 2023, arXiv 2306.13731, and its released code.
AUTOSAM: dict[str, Any] = {
    "initial_weights": "pretrained",
    "encoder_tuning": "frozen",
    "head": "vit",
    "input_size": 1024,
    "channel_layout": "repeat",
    "intensity": (IntensityWindow("slice_range", 0, 100),),
    "loss": "autosam_release",
    "cross_entropy_weight": 1.0,
    "dice_weight": 1.0,
    "optimizer": "adam",
    "learning_rate": 5e-4,
    "weight_decay": 0.0,
    "schedule": "plateau_by_pass",
    "warmup_steps": 0,
    "gradient_clip": 0.0,
    "batch_size": 4,
    "slice_order": "passes",
    "steps": 120 * NUM_SLICES // 4,
    "foreground_share": 0.0,
    "mirror_at_prediction": False,
    "patience": 0,
}
# Chen et al. 2024, arXiv 2309.08842, and its released code; LoRA in place of FacT.
MA_SAM: dict[str, Any] = SAMED | {
    "backbone": "vit_h",
    "precision": "bfloat16",
    "lora_rank": 32,
    "depth": 5,
    "depth_blocks": "all",
    "depth_adapters": 2,
    "head": "mask_decoder_full",
    "intensity": (IntensityWindow("fixed", -200, 250),),
    "learning_rate": 8e-4,
    "decay_power": 7.0,
    "steps": 300 * NUM_SLICES // 24,
    "augmentation": "planned",
    "mirror_axes": (1, 2),
}
PUBLISHED = {
    "samed": SAMED,
    "samed_s": SAMED | {"head": "mask_decoder_lora"},
    "samed_h": SAMED
    | {
        "backbone": "vit_h",
        "decay_power": 7.0,
        "steps": 300 * NUM_SLICES // 24,
        "precision": "bfloat16",
    },
    "ma_sam": MA_SAM,
    "autosam": AUTOSAM,
    "autosam_cnn": AUTOSAM | {"head": "cnn"},
    "autosam_linear": AUTOSAM | {"head": "linear"},
}
# The share of the polynomial schedule that is trained: 160 of 200 epochs, 300 of 400.
STOPS_AT = {"samed": 0.8, "samed_s": 0.8, "samed_h": 0.75, "ma_sam": 0.75}


def planned(name: str, channel: str) -> Configuration:
    values = (-1000.0, 1000.0) if channel == "CT" else (0.0, 1000.0)
    return plan_all(make_fingerprint(channels=(channel,), values=values), GPU).configuration(name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configuration_has_the_values_of_its_paper(name: str) -> None:
    configuration = planned(name, "CT")
    found = {key: getattr(configuration, key) for key in PUBLISHED[name]}
    assert found == PUBLISHED[name]


@pytest.mark.parametrize("name", STOPS_AT)
def test_published_schedule_stops_before_its_end(name: str) -> None:
    configuration = planned(name, "CT")
    trained = (configuration.steps - configuration.warmup_steps) / configuration.steps
    assert configuration.decay_share == pytest.approx(STOPS_AT[name] * trained)


def test_windows_are_for_ct_alone_except_that_of_autosam_for_any_single_channel() -> None:
    assert planned("ma_sam", "MRI").intensity[0].scheme == "percentiles"
    assert planned("samed", "MRI").intensity[0].scheme == "percentiles"
    assert planned("autosam", "MRI").intensity == (IntensityWindow("slice_range", 0, 100),)
