from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.embeddings import NUM_SLICES, make_network, make_variants
from builders.tiny import TWO_CLASSES

from samnet.preprocessing.storage import StoredCase
from samnet.training.embeddings.choice import (
    CacheChoice,
    choose_blocks,
    choose_cache,
    embedding_bytes,
    size_of_arrays,
)

GIB = 2**30
# Steps of a training run that sees every slice often enough to keep embeddings.
PLENTY = {"steps": 8 * NUM_SLICES, "batch_size": 2}


def choose(
    cases: list[StoredCase],
    requested: float | None = None,
    root: Path = Path("nowhere"),
    **changes: Any,
) -> CacheChoice | None:
    network = make_network(**changes)
    return choose_cache(make_variants(cases, **changes), network, root, requested)


def test_embedding_takes_at_most_two_megabytes() -> None:
    assert embedding_bytes(1024) < 2.2e6
    assert embedding_bytes(448) < 0.42e6


def test_cache_is_used_by_default_where_embeddings_are_used_often(cases: list[StoredCase]) -> None:
    choice = choose(cases, **PLENTY)
    assert choice is not None
    assert choice.variants == 4
    fewer_steps = choose(cases, **(PLENTY | {"steps": 3 * NUM_SLICES}))
    assert fewer_steps is not None
    assert fewer_steps.variants == 3  # each is used twice


@pytest.mark.parametrize(("free", "size"), [(100, 20.0), (40, 20.0), (30, 15.0), (3, 1.5)])
def test_default_cache_takes_half_of_the_free_disk_and_20_gib_at_most(
    cases: list[StoredCase], free: float, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(Path())._replace(free=int(free * GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert choose(cases, **PLENTY) == CacheChoice(size, 4)


def test_embeddings_that_are_there_count_as_free(
    cases: list[StoredCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_a_run").mkdir()
    with (tmp_path / "of_a_run" / "a.npy").open("wb") as handle:
        handle.truncate(4 * GIB)  # takes no room: the file is sparse
    usage = shutil.disk_usage(tmp_path)._replace(free=6 * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    choice = choose_cache(make_variants(cases, **PLENTY), make_network(**PLENTY), tmp_path)
    assert choice == CacheChoice(5.0, 4)


def test_cache_is_not_used_where_embeddings_would_not_be_used_twice(
    cases: list[StoredCase], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert choose(cases, steps=1) is None
    assert "do not see each of the 52 slices 2 times" in caplog.text


def test_slices_that_need_several_inputs_count_as_often(cases: list[StoredCase]) -> None:
    """Each tile of a slice is an embedding, which has to be used twice."""
    tiles = make_variants(cases, zoom=4.0).num_tiles_of_all
    assert tiles > 2 * NUM_SLICES
    assert choose(cases, zoom=4.0, batch_size=1, steps=2 * tiles - 1) is None
    assert choose(cases, zoom=4.0, batch_size=1, steps=2 * tiles) is not None


def test_slices_without_labels_do_not_come_first(cases: list[StoredCase]) -> None:
    scheme = replace(TWO_CLASSES, ignore_label=2)  # class 2 is in slices that show class 1 too
    only_ignored = replace(TWO_CLASSES, ignore_label=1)
    numbers = []
    for label_scheme in (TWO_CLASSES, scheme, only_ignored):
        variants = make_variants(cases, label_scheme=label_scheme, views=(0,))
        blocks = choose_blocks(variants, CacheChoice(1.0, 1))
        numbers.append(sum(len(block.slices) for block in blocks if block.is_labelled))
    assert numbers == [8, 8, 2]


def test_files_that_vanish_while_they_are_counted_do_no_harm(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    """Other folds rename and remove their temporary files at any time."""
    temporary = tmp_path / "key" / ".partial-1"
    temporary.mkdir(parents=True)
    (tmp_path / "key" / "kept.npy").write_bytes(bytes(100))
    # Listed, and gone when its size is read.
    (temporary / "renamed.npy").symlink_to(tmp_path / "gone")
    assert size_of_arrays(tmp_path) == 100
    assert size_of_arrays(tmp_path / "nowhere") == 0
    assert choose(cases, root=tmp_path, **PLENTY) is not None


def test_requested_cache_size_is_kept_to(
    cases: list[StoredCase], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert choose(cases, requested=3.0, steps=1) == CacheChoice(3.0, 4)
    assert choose(cases, requested=3.0, augmentation="none") == CacheChoice(3.0, 1)
    assert choose(cases, requested=0.0, **PLENTY) is None
    assert not caplog.text


def test_cache_is_not_used_for_an_encoder_that_is_trained(
    cases: list[StoredCase], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert choose(cases, encoder_tuning="full", **PLENTY) is None
    assert not caplog.text
    assert choose(cases, requested=3.0, encoder_tuning="full") is None
    assert "--cache-size is for frozen encoders" in caplog.text


def test_cache_is_not_used_where_structures_are_copied(
    cases: list[StoredCase], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert choose(cases, 3.0, **PLENTY, structure_copying=0.5) is None
    assert "structures are copied into slices" in caplog.text


def test_cache_is_not_used_behind_a_trained_mix_of_channels(
    cases: list[StoredCase], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    network = make_network(num_channels=5, channel_layout="stem")
    assert choose_cache(make_variants(cases, steps=5000), network, Path("nowhere"), 3.0) is None
    assert "mix of channels" in caplog.text


def test_blocks_keep_to_the_bound_and_have_labelled_slices_first(cases: list[StoredCase]) -> None:
    bytes_each = embedding_bytes(32)
    num_labelled = 2 * (4 + 7 + 5)
    variants = make_variants(cases)
    filled_exactly = (0, num_labelled, NUM_SLICES, NUM_SLICES + num_labelled, 2 * NUM_SLICES)
    for num_kept in filled_exactly:
        blocks = choose_blocks(variants, CacheChoice((num_kept * bytes_each + 1) / GIB, 2))
        assert sum(len(block.slices) for block in blocks) == num_kept
    first = choose_blocks(variants, CacheChoice((num_labelled * bytes_each + 1) / GIB, 2))
    assert all(block.is_labelled and block.number == 0 for block in first)
