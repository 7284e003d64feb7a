"""The named configurations of the papers have the values of the released code."""

from __future__ import annotations

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import GPU, plan_all

from samnet.core.machine import Machine
from samnet.planning.replan import replan

SAMED = ("samed", "samed_s", "samed_h")
AUTOSAM = ("autosam", "autosam_cnn", "autosam_linear")
MA_SAM = "ma_sam"


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("samed", "float32"),
        ("samed_s", "float32"),
        ("samed_h", "bfloat16"),
        ("ma_sam", "bfloat16"),
        ("lora", "bfloat16"),
    ],
)
def test_samed_is_computed_in_single_precision_samed_h_and_ma_sam_in_half(
    name: str, precision: str
) -> None:
    for machine in (GPU, Machine("cpu", 16, True)):
        assert plan_all(make_fingerprint(), machine).configuration(name).precision == precision


@pytest.mark.parametrize("name", AUTOSAM)
def test_autosam_is_trained_as_by_its_code(name: str) -> None:
    configuration = plan_all(make_fingerprint(), GPU).configuration(name)
    assert configuration.loss == "autosam_release"
    assert (configuration.cross_entropy_weight, configuration.dice_weight) == (1, 1)
    assert configuration.schedule == "plateau_by_pass"
    assert (configuration.optimizer, configuration.learning_rate) == ("adam", 5e-4)
    assert configuration.batch_size == 4


@pytest.mark.parametrize("name", [*SAMED, *AUTOSAM, MA_SAM])
def test_papers_draw_slices_without_replacement(name: str) -> None:
    configuration = plan_all(make_fingerprint(), GPU).configuration(name)
    assert (configuration.slice_order, configuration.foreground_share) == ("passes", 0)


@pytest.mark.parametrize("name", SAMED)
@pytest.mark.parametrize("frame", ["stretch", "splines_224"])
def test_stretched_slices_can_be_planned_for_samed(name: str, frame: str) -> None:
    assert plan_all(make_fingerprint(), GPU).configuration(name).frame == "scale"
    stretched = plan_all(make_fingerprint(), GPU, {"frame": frame}).configuration(name)
    assert stretched.frame == frame


@pytest.mark.parametrize("name", AUTOSAM)
def test_autosam_on_another_backbone_stays_autosam(name: str) -> None:
    """Its script takes ViT-L, its README ViT-B: `--backbone vit_l` changes nothing else."""
    plan = plan_all(make_fingerprint(), GPU)
    with_vit_l = replan(plan, make_fingerprint(), name, {"backbone": "vit_l"})
    values, changed = plan.configuration(name), with_vit_l.configuration(name)
    differing = {key for key in vars(values) if getattr(values, key) != getattr(changed, key)}
    assert differing == {"backbone"}
    assert changed.backbone == "vit_l"


def test_stacks_are_planned_only_where_a_configuration_can_have_them() -> None:
    plan = plan_all(make_fingerprint(), GPU, {"depth": 3})
    depths = {name: plan.configuration(name).depth for name in plan.configurations}
    assert {name for name, depth in depths.items() if depth == 3} == {"lora", "full", "scratch"}
    assert depths.pop(MA_SAM) == 5
    assert set(depths.values()) == {1, 3}


def test_ma_sam_mirrors_within_slices_and_has_no_stacks_of_2d_images() -> None:
    for axis, within in ((0, (1, 2)), (1, (0, 2)), (2, (0, 1))):
        settings = {"slicing_axis": axis, "views": [axis]}
        configuration = plan_all(make_fingerprint(), GPU, settings).configuration(MA_SAM)
        assert (configuration.mirror_axes, configuration.depth) == (within, 5)
    flat = make_fingerprint(shape=(1, 80, 80))
    assert plan_all(flat, GPU).configuration(MA_SAM).depth == 1
