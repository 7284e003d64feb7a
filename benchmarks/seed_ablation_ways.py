"""The claims of SAMed and AutoSAM that `seed_ablations.py` repeats, as ways to train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Settings = Mapping[str, Any]
_SGD = {"optimizer": "sgd", "weight_decay": 1e-4}  # as the option of SAMed's code
_NO_WARMUP = {"warmup_steps": 0}
_EVERY_LAYER = ["q", "k", "v", "projection", "mlp"]


@dataclass(frozen=True)
class Way:
    """One way to train.

    Attributes:
        name: What tables call it.
        configuration: The configuration of the plan.
        settings: Values that replace planned ones, by key.
        rate_factor: Multiplies the planned learning rate.
    """

    name: str
    configuration: str = "lora"
    settings: Settings = field(default_factory=dict)
    rate_factor: float = 1.0


@dataclass(frozen=True)
class Claim:
    """Ways that a paper compares.

    Attributes:
        statement: What the paper says.
        ways: The ways, the paper's own first.
        by_patients: Whether they are compared with few patients, instead of all.
    """

    statement: str
    ways: tuple[Way, ...]
    by_patients: bool = False


def _lora(name: str, **settings: Any) -> Way:
    return Way(name, settings=settings)


def _frozen(head: str) -> Way:
    return Way(f"frozen, {head}", "frozen", {"head": head})


CLAIMS = {
    "optimizer": Claim(
        "SAMed: AdamW with a warm-up trains better than SGD, and than either without a warm-up",
        (
            Way("AdamW, warm-up"),
            Way("AdamW", settings=_NO_WARMUP),
            Way("SGD, warm-up", settings=_SGD),
            Way("SGD", settings=_SGD | _NO_WARMUP),
            # SGD's steps are shorter at the same rate: it is not to lose for that alone.
            Way("SGD, warm-up, 10 x the rate", settings=_SGD, rate_factor=10),
            Way("SGD, 10 x the rate", settings=_SGD | _NO_WARMUP, rate_factor=10),
        ),
    ),
    "rank": Claim(
        "SAMed: a rank of 4 is enough",
        tuple(_lora(f"rank {rank}", lora_rank=rank) for rank in (4, 1, 16, 64)),
    ),
    "placement": Claim(
        "SAMed: LoRA on q and v is enough",
        (
            _lora("q, v", lora_targets=["q", "v"]),
            _lora("q", lora_targets=["q"]),
            _lora("q, k, v", lora_targets=["q", "k", "v"]),
            _lora("every layer", lora_targets=_EVERY_LAYER),
        ),
    ),
    "decoder": Claim(
        "SAMed: training the whole mask decoder is better than LoRA in it (SAMed_s)",
        (
            _lora("all of the decoder", head="mask_decoder"),
            _lora("LoRA in the decoder", head="mask_decoder_lora"),
        ),
    ),
    "patients": Claim(
        "AutoSAM: with few patients, a head on a frozen encoder beats training from scratch",
        (*(_frozen(head) for head in ("vit", "cnn", "linear")), Way("scratch", "scratch")),
        by_patients=True,
    ),
}
