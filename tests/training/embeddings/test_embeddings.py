from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.data import write_dataset
from builders.tiny import make_case, make_configuration, one_process, prepare_dataset, use_folders
from torch.utils.data import DataLoader

from samnet.cli.train import main
from samnet.core.signals import Interrupted
from samnet.dataset.label_scheme import Regions
from samnet.inference.slices import SlicePredictor
from samnet.models.network import SegmentationNetwork, build_network
from samnet.plan.configuration import IntensityWindow
from samnet.preprocessing.storage import CaseRecord, StoredCase
from samnet.training.checkpoint import FINAL
from samnet.training.embeddings.cache import EmbeddingCache, StoredBlock, embeddings_key, fill_cache
from samnet.training.embeddings.choice import (
    CacheChoice,
    choose_blocks,
    choose_cache,
    embedding_bytes,
)
from samnet.training.embeddings.encoder import SliceEncoder
from samnet.training.embeddings.samples import EmbeddedSamples, collate, predict_logits
from samnet.training.embeddings.views import SliceViews
from samnet.training.loop import Trainer
from samnet.training.loss import segmentation_loss
from samnet.training.sampling import SliceSamples
from samnet.training.task import TrainingTask

CPU = torch.device("cpu")
FROZEN = {
    "encoder_tuning": "frozen",
    "head": "mask_decoder",
    "views": (0, 2),
    "mirror_axes": (0, 1, 2),
}
SLICES = 2 * (6 + 20)  # of both cases, across both axes
GIB = 2**30


@pytest.fixture
def cases(tmp_path: Path) -> list[StoredCase]:
    """Two cases of 6 x 24 x 20 voxels with two classes, whose images show their labels in noise."""
    made = []
    for seed in range(2):
        generator = np.random.default_rng(seed)
        labels = np.zeros((6, 24, 20), dtype=np.uint8)
        labels[1:5, 4:12, 3:10] = 1
        labels[2, 14:18, 12:17] = 2
        image = (
            (40 + 60 * labels + generator.normal(0, 10, labels.shape)).clip(1, 255).astype(np.uint8)
        )
        made.append(
            make_case(
                tmp_path / "slices", image[None], labels, name=f"case_{seed}", views=(0, 1, 2)
            )
        )
    return made


def make_network(seed: int = 0, num_channels: int = 1, **changes: Any) -> SegmentationNetwork:
    torch.manual_seed(seed)
    network = build_network(make_configuration(**(FROZEN | changes)), num_channels, 3)
    torch.manual_seed(seed)
    torch.nn.init.normal_(
        network.encoder.pos_embed
    )  # else an untrained encoder sees next to nothing
    return network


def make_views(cases: list[StoredCase], **changes: Any) -> SliceViews:
    return SliceViews(cases, make_configuration(**(FROZEN | changes)), stride=4, seed=7)


def fill(
    root: Path,
    cases: list[StoredCase],
    network: SegmentationNetwork | None = None,
    *,
    size: float = 1.0,
    num_views: int = 2,
    every: list[StoredCase] | None = None,
    **changes: Any,
) -> list[StoredBlock]:
    cache = EmbeddingCache(root, CacheChoice(size, num_views), every or cases)
    encoder = SliceEncoder(network or make_network(**changes), CPU)
    return fill_cache(cache, make_views(cases, **changes), encoder)


def make_samples(
    cases: list[StoredCase],
    blocks: list[StoredBlock],
    *,
    uses_image: bool = False,
    stride: int = 4,
    **changes: Any,
) -> EmbeddedSamples:
    configuration = make_configuration(**(FROZEN | changes))
    return EmbeddedSamples(
        cases, configuration, stride=stride, seed=7, blocks=blocks, uses_image=uses_image
    )


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each call of an encoder."""
    counts: list[int] = []
    plain = SegmentationNetwork.embed

    def embed(self: SegmentationNetwork, images: torch.Tensor) -> torch.Tensor:
        counts.append(len(images))
        return plain(self, images)

    monkeypatch.setattr(SegmentationNetwork, "embed", embed)
    return counts


def content(root: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(root.rglob("*.npy"))}


@pytest.mark.parametrize(
    ("head", "layout", "zoom"),
    [
        ("mask_decoder", "repeat", 2.5),
        ("cnn_slim", "neighbours", 1.0),
        ("upsampling", "neighbours", 2.5),
    ],
)
def test_the_loss_is_that_of_the_whole_network(
    tmp_path: Path, cases: list[StoredCase], head: str, layout: str, zoom: float
) -> None:
    changes = {"head": head, "channel_layout": layout, "zoom": zoom, "views": (0,)}
    network = make_network(**changes)
    blocks = fill(tmp_path, cases, network, **changes)
    # With images beside the embeddings both ways can be gone.
    samples = make_samples(cases, blocks, uses_image=True, stride=network.stride, **changes)
    inputs, target = collate([samples[number] for number in range(12)])
    assert inputs.is_embedded.all()
    assert inputs.images is not None
    assert network.head.uses_image == (head == "upsampling")
    given = inputs if network.head.uses_image else inputs._replace(images=None)
    logits = [predict_logits(network, given, CPU), network(inputs.images)]
    assert not torch.equal(*logits)  # half precision: they did come from the cache
    cached, whole = (
        segmentation_loss(values, target, cross_entropy_weight=0.2, dice_weight=0.8)
        for values in logits
    )
    assert cached.item() == pytest.approx(whole.item(), rel=2e-3)
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    gradients = [torch.autograd.grad(loss, trained, allow_unused=True) for loss in (cached, whole)]
    one, other = (
        torch.cat([part.flatten() for part in parts if part is not None]) for parts in gradients
    )
    assert (one - other).norm() < 0.02 * other.norm()


def test_what_is_not_kept_is_encoded_when_it_is_drawn(
    tmp_path: Path, cases: list[StoredCase], encoded: list[int]
) -> None:
    network = make_network()
    blocks = fill(tmp_path, cases, network)[:3]
    encoded.clear()
    samples = make_samples(cases, blocks)
    batch = [samples[number] for number in range(12)]
    inputs, _ = collate(batch)
    assert 0 < inputs.is_embedded.sum() < 12
    logits = predict_logits(network, inputs, CPU)
    assert encoded == [12 - int(inputs.is_embedded.sum())]
    for number, (embedding, image, _) in enumerate(batch):
        if embedding is None:
            alone = network(image[None])
        else:
            alone = network.decode(embedding[None].float())
        assert torch.allclose(logits[number], alone[0], atol=1e-4)

    nothing, plain = (
        make_samples(cases, []),
        SliceSamples(cases, samples.configuration, stride=4, seed=7),
    )
    for number in range(4):
        assert nothing[number][0] is None
        assert all(
            torch.equal(*pair) for pair in zip(nothing[number][1:], plain[number], strict=True)
        )


@pytest.mark.parametrize("zoom", [1.0, 1.5, 4.0], ids=["fits", "larger in one axis", "larger"])
@pytest.mark.parametrize("axis", [0, 2])
def test_image_and_target_of_a_view_are_aligned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoom: float, axis: int
) -> None:
    """The image shows its own labels, which have no symmetry."""
    monkeypatch.setattr(
        "samnet.training.embeddings.views.change_intensities", lambda image, generator: image
    )
    labels = np.zeros((22, 24, 26), dtype=np.uint8)
    labels[4:18, 6:20, 5:11] = labels[4:10, 6:20, 5:20] = labels[4:18, 14:20, 5:20] = 1
    case = make_case(tmp_path, 255 * labels[None], labels, views=(axis,), spacing=(1.0, 1.1, 0.9))
    views = make_views([case], views=(axis,), slicing_axis=axis, zoom=zoom)
    seen = 0
    for number in range(8):
        view = views.draw_view(0, axis, 8, number)
        image, target = views.image(0, axis, view), views.target(0, axis, view)
        shown = torch.nn.functional.avg_pool2d(image[:1], 4)[0] > 0.5
        differing = (shown != (target == 1)).float()
        assert (
            torch.nn.functional.avg_pool2d(differing[None], 3, 1).max() < 1
        )  # lines of a pixel, never areas
        assert view.classes == ((1,) if target.any() else ())
        seen += bool(target.any())
    assert seen >= 6


@pytest.mark.parametrize("zoom", [1.0, 2.5], ids=["whole", "tiles"])
def test_the_first_views_show_what_prediction_sees(cases: list[StoredCase], zoom: float) -> None:
    views = make_views(cases, zoom=zoom, views=(0,))
    tiles = views.num_tiles(0, 0)
    assert tiles == (1 if zoom == 1 else 4)
    predictor = SlicePredictor(
        [make_network()], views.configuration, cases[0].volume(), 0, mirror=False
    )
    canvas = predictor.canvases(2, 3)[0]
    shown = torch.zeros(canvas.shape[1:], dtype=torch.bool)
    for number in range(tiles):
        view = views.draw_view(0, 0, 2, number)
        image = views.image(0, 0, view)
        starts = [
            (row, column)
            for row in range(0, canvas.shape[1] - 31, 16)
            for column in range(0, canvas.shape[2] - 31, 16)
            if torch.allclose(image, canvas[:, row : row + 32, column : column + 32], atol=1e-4)
        ]
        assert len(starts) == 1
        shown[starts[0][0] : starts[0][0] + 32, starts[0][1] : starts[0][1] + 32] = True
    assert shown.all()
    assert not torch.allclose(views.image(0, 0, views.draw_view(0, 0, 2, tiles)), image, atol=0.05)


def test_a_view_depends_on_nothing_but_the_slice_and_its_number(cases: list[StoredCase]) -> None:
    views = make_views(cases)
    other = SliceViews(cases[::-1], views.configuration, stride=2, seed=99)
    drawn = [views.draw_view(1, 0, index, number) for index in (1, 2) for number in range(4)]
    np.random.seed(3)
    assert drawn == [
        other.draw_view(1, 0, index, number) for index in (1, 2) for number in range(4)
    ]
    assert len({view.centre for view in drawn}) > 4
    alone = make_views(cases[1:])
    assert drawn[3] == alone.draw_view(0, 0, 1, 3)


def test_killed_and_run_again_it_encodes_the_rest(
    tmp_path: Path, cases: list[StoredCase], encoded: list[int]
) -> None:
    network = make_network()
    fill(tmp_path / "whole", cases, network)
    batches, images = len(encoded), sum(encoded)
    assert images == 2 * SLICES
    encoded.clear()
    context = multiprocessing.get_context("fork")
    for after in (2, 4):
        process = context.Process(
            target=_fill_until_killed, args=(tmp_path / "killed", cases, network, after)
        )
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    left = content(tmp_path / "killed")
    assert 0 < len(left) < len(content(tmp_path / "whole"))
    fill(tmp_path / "killed", cases, network)
    assert 0 < len(encoded) < batches
    assert {name for name in content(tmp_path / "killed") if not name.startswith(".")} == set(
        content(tmp_path / "whole")
    )
    assert content(tmp_path / "whole").items() <= content(tmp_path / "killed").items()
    encoded.clear()
    fill(tmp_path / "killed", cases, network)
    assert encoded == []


def _fill_until_killed(
    root: Path, cases: list[StoredCase], network: SegmentationNetwork, after: int
) -> None:
    plain, calls = network.embed, []

    def embed(images: torch.Tensor) -> torch.Tensor:
        calls.append(None)
        if len(calls) > after:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(images)

    network.embed = embed
    fill(root, cases, network)


def test_what_killed_runs_left_is_removed(tmp_path: Path, cases: list[StoredCase]) -> None:
    folder = fill(tmp_path, cases)[0].file.parent
    left = folder / ".partial-1-a.npy"
    left.touch()
    fill(tmp_path, cases)
    assert not left.exists()


def key_of(
    network: SegmentationNetwork | None = None, precision: str = "float32", **changes: Any
) -> str:
    return embeddings_key(
        make_network().encoder if network is None else network.encoder,
        make_views([], **changes),
        precision,
    )[0]


def test_the_key_holds_what_an_embedding_depends_on(cases: list[StoredCase]) -> None:
    key = key_of()
    same = {
        "head": "linear",
        "learning_rate": 3e-4,
        "batch_size": 7,
        "steps": 99,
        "views": (0, 1),
        "loss": "autosam",
        "foreground_share": 0.1,
        "tile_overlap": 0.2,
    }
    assert all(key_of(**{name: value}) == key for name, value in same.items())
    assert key_of(make_network(head="cnn_slim")) == key
    other = {
        "zoom": 1.1,
        "in_plane_spacing": 0.9,
        "channel_layout": "neighbours",
        "intensity": (IntensityWindow("percentiles", 1, 99),),
        "augmentation": "samed",
        "mirror_axes": (1, 2),
        "pixel_statistics": "none",
        "input_size": 64,
    }
    keys = {key_of(**{name: value}) for name, value in other.items()}
    assert (
        len(keys | {key, key_of(make_network(seed=1)), key_of(precision="bfloat16")})
        == len(other) + 3
    )


def test_another_case_of_the_data_is_encoded_anew_alone(
    tmp_path: Path, cases: list[StoredCase], encoded: list[int]
) -> None:
    fill(tmp_path, cases)
    before = content(tmp_path)
    record = CaseRecord(**(cases[1].record.__dict__ | {"source_key": "other"}))
    encoded.clear()
    fill(tmp_path, [cases[0], StoredCase(cases[1].folder, record)])
    assert sum(encoded) == SLICES  # two views of the slices of one of the two cases
    assert content(tmp_path) == before


def test_folds_and_heads_share_what_is_encoded(
    tmp_path: Path, cases: list[StoredCase], encoded: list[int]
) -> None:
    fill(tmp_path, cases[:1], every=cases)
    assert sum(encoded) == SLICES
    fill(tmp_path, cases)
    assert sum(encoded) == 2 * SLICES
    fill(tmp_path, cases, make_network(head="cnn_slim"), head="cnn_slim")
    fill(tmp_path, cases, make_network(head="upsampling"), head="upsampling", steps=50)
    fill(tmp_path, cases[1:], every=cases)
    assert sum(encoded) == 2 * SLICES
    assert len({file.parent for file in tmp_path.rglob("*.npy") if "slices" not in file.parts}) == 1


def test_the_bound_holds_and_is_used_for_labelled_slices_first(
    tmp_path: Path, cases: list[StoredCase], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    each = embedding_bytes(32)
    labelled = 2 * (4 + 7 + 5)
    for num_kept in (0, labelled, SLICES, SLICES + labelled, 2 * SLICES):
        blocks = choose_blocks(make_views(cases), CacheChoice((num_kept * each + 1) / GIB, 2))
        assert sum(len(block.slices) for block in blocks) == num_kept
    first = choose_blocks(make_views(cases), CacheChoice((labelled * each + 1) / GIB, 2))
    assert all(block.is_labelled and block.number == 0 for block in first)

    size = (0.8 * SLICES * each) / GIB
    stored = fill(tmp_path / "part", cases, size=size)
    assert sum(len(entry.block.slices) for entry in stored) <= 0.8 * SLICES
    assert sum(
        file.stat().st_size for file in (tmp_path / "part").rglob("*.npy")
    ) <= size * GIB + 128 * len(stored)
    assert "encoded whenever they are drawn" in caplog.text
    assert make_samples(cases, stored)[0][2].shape == (8, 8)


def test_no_embedding_takes_more_than_two_megabytes(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    assert embedding_bytes(1024) < 2.2e6
    assert embedding_bytes(448) < 0.42e6
    stored = fill(tmp_path, cases)[0]
    assert stored.file.stat().st_size == len(stored.views) * embedding_bytes(32) + 128


def test_every_view_is_drawn_and_shows_the_class_it_is_drawn_for(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    changes = {"zoom": 4.0, "views": (0,), "foreground_share": 1.0}
    blocks = fill(tmp_path, cases, num_views=3, **changes)
    samples = make_samples(cases, blocks, **changes)
    entries = [entry for known in samples.embedded.values() for entry in known]
    assert len(entries) == 12 * samples.num_tiles(0, 0) * 3
    shown = [set(samples[number][2].unique().tolist()) - {0} for number in range(200)]
    assert all(shown)
    assert sum(2 in classes for classes in shown) == pytest.approx(
        100, abs=30
    )  # though few of the views show it


def test_worker_processes_change_nothing(tmp_path: Path, cases: list[StoredCase]) -> None:
    samples = make_samples(cases, fill(tmp_path, cases)[:4])
    samples[0]
    batches = []
    for workers in (0, 1):
        loader = DataLoader(samples, 2, sampler=range(8), num_workers=workers, collate_fn=collate)
        batches.append([(inputs.embeddings, inputs.images, target) for inputs, target in loader])
    for one, other in zip(*batches, strict=True):
        for left, right in zip(one, other, strict=True):
            assert (left is None and right is None) or torch.equal(left, right)


def choose(
    cases: list[StoredCase], asked: float | None = None, **changes: Any
) -> CacheChoice | None:
    network = make_network(**changes)
    return choose_cache(make_views(cases, **changes), network, Path("nowhere"), asked)


def test_when_embeddings_are_kept(
    cases: list[StoredCase], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plenty = {"steps": 8 * SLICES, "batch_size": 2}
    choice = choose(cases, **plenty)
    assert choice is not None
    assert choice.views == 4
    assert 0 < choice.size <= 20
    assert choose(cases, asked=3.0, steps=1) == CacheChoice(3.0, 4)
    assert choose(cases, asked=3.0, augmentation="none") == CacheChoice(3.0, 1)
    fewer = choose(cases, **(plenty | {"steps": 3 * SLICES}))
    assert fewer is not None
    assert fewer.views == 3  # each is used twice
    assert choose(cases, asked=0.0, **plenty) is None
    assert not caplog.text
    assert choose(cases, steps=1) is None
    assert "do not see each of the 52 slices 2 times" in caplog.text
    assert choose(cases, encoder_tuning="full", **plenty) is None


def test_a_learned_mix_of_channels_before_the_encoder_forbids_it(
    cases: list[StoredCase], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    network = make_network(num_channels=5, channel_layout="stem")
    assert choose_cache(make_views(cases, steps=5000), network, Path("nowhere"), 3.0) is None
    assert "mix of channels" in caplog.text


@pytest.fixture
def make_trainer(tmp_path: Path, cases: list[StoredCase]) -> Callable[..., Trainer]:
    def make(name: str, root: str = "embeddings", num_kept: int = 30, **changes: Any) -> Trainer:
        configuration = make_configuration(
            **(FROZEN | {"head": "upsampling", "steps": 5} | changes)
        )
        cache = EmbeddingCache(
            tmp_path / root, CacheChoice(num_kept * embedding_bytes(32) / GIB, 2), cases
        )
        task = TrainingTask(
            configuration, ("one", "two"), None, cases[:1], cases[1:], True, 3, None, 0, cache
        )
        torch.manual_seed(task.seed)
        return Trainer(build_network(configuration, 1, 3), task, tmp_path / name, CPU)

    return make


def losses(trainer: Trainer) -> list[float]:
    return [
        json.loads(line)["loss"]
        for line in (trainer.folder / "metrics.jsonl").read_text().splitlines()
    ]


def test_a_training_from_the_cache_is_the_same_each_time_and_after_a_stop(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, encoded: list[int]
) -> None:
    whole = make_trainer("whole")
    whole.run()
    assert encoded
    again = make_trainer("again", root="other")
    again.run()
    assert losses(again) == losses(whole)
    assert (again.folder / FINAL).read_bytes() == (whole.folder / FINAL).read_bytes()

    plain_step = Trainer._step

    def stop(self: Trainer, *batch: Any) -> float:
        if self.progress.step == 2:
            monkeypatch.setattr(Trainer, "_step", plain_step)
            os.kill(os.getpid(), signal.SIGTERM)
        return plain_step(self, *batch)

    monkeypatch.setattr(Trainer, "_step", stop)
    with pytest.raises(Interrupted):
        make_trainer("stopped").run()
    encoded.clear()
    resumed = make_trainer("stopped")
    resumed.run()
    assert losses(resumed) == losses(whole)
    assert (resumed.folder / FINAL).read_bytes() == (whole.folder / FINAL).read_bytes()


def test_a_stop_while_encoding_saves_what_is_done(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, encoded: list[int]
) -> None:
    plain = SegmentationNetwork.embed

    def embed(self: SegmentationNetwork, images: torch.Tensor) -> torch.Tensor:
        if len(encoded) == 2:
            monkeypatch.setattr(SegmentationNetwork, "embed", plain)
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, images)

    monkeypatch.setattr(SegmentationNetwork, "embed", embed)
    with pytest.raises(Interrupted, match="step 0"):
        make_trainer("stopped", num_kept=100).run()
    done = len(encoded)
    assert done == 2
    make_trainer("whole", root="other", num_kept=100).run()
    all_batches = len(encoded) - done
    encoded.clear()
    make_trainer("stopped", num_kept=100).run()
    assert len(encoded) < all_batches


def test_the_command_keeps_embeddings_as_asked_and_records_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    encoded: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_dataset(tmp_path / "raw", shape=(5, 24, 20))
    prepare_dataset(tmp_path, 501, monkeypatch, views=[0], slicing_axis=0, initial_weights="random")
    use_folders(tmp_path, tmp_path / "results", monkeypatch)
    one_process(monkeypatch)
    folder, root = (tmp_path / name / "Dataset501_Tiny" for name in ("results", "preprocessed"))
    common = ["501", "frozen", "all", "--device", "cpu", "--workers", "0"]

    def record() -> dict[str, Any]:
        return json.loads((folder / "frozen" / "fold_all" / "run.json").read_text())

    assert main([*common, "--no-cache"]) == 0
    assert record()["asked"]["cache_size"] == 0
    assert record()["sittings"][0]["embeddings"] is None
    assert not (root / "embeddings").exists()
    assert main([*common, "--restart", "--cache-size", "0.5G"]) == 0
    assert record()["asked"]["cache_size"] == 0.5
    assert record()["sittings"][0]["embeddings"] == {"size": 0.5, "views": 4}
    assert sum(encoded) == 4 * 6 * 5
    assert len(list((root / "embeddings").glob("*/*.npy"))) > 0
    assert main([*common, "--continue", "--steps", "8"]) == 0
    assert record()["sittings"][1]["embeddings"] == {"size": 0.5, "views": 4}
    assert main([*common, "--restart"]) == 0  # 6 steps of 2 slices: not worth it
    assert record()["sittings"][0]["embeddings"] is None
    assert sum(encoded) == 4 * 6 * 5
    with pytest.raises(SystemExit, match="2"):
        main([*common, "--no-cache", "--cache-size", "1"])


def test_regions_share_embeddings_with_plain_classes(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    """What a view shows does not depend on what is asked of it; only the target does."""
    network = make_network()
    regions = Regions(((1, 2), (2,)), (1, 2))
    blocks = fill(tmp_path, cases, network)
    plain, configuration = make_samples(cases, blocks), make_configuration(**FROZEN)
    nested = EmbeddedSamples(cases, configuration, stride=4, seed=7, blocks=blocks, regions=regions)
    samples = [(plain[number], nested[number]) for number in range(8)]
    for (embedding, _, classes), (same, _, masks) in samples:
        assert torch.equal(embedding, same)
        assert torch.equal(masks, torch.stack([classes > 0, classes == 2]).int())
    _, target = collate([sample for _, sample in samples])
    assert target.shape == (8, 2, 8, 8)
    assert target[:, 1].any()
