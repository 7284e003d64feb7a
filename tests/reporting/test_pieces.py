"""Numbers, drawings, agreement and encoded slices of reports, against known answers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from builders.reports import write_predictions

from samnet.dataset.cases import Case
from samnet.dataset.description import DatasetDescription
from samnet.reporting.agreement import compare_volumes
from samnet.reporting.drawing import Drawing, Scale, show_tick
from samnet.reporting.numbers import show_interval, show_score, show_size
from samnet.reporting.slice_codes import encode_image, encode_runs
from samnet.reporting.source import ClassResult, ReportedCase
from samnet.reporting.stacks import make_stacks


def test_agreement_is_the_mean_difference_and_its_spread() -> None:
    names = ["a", "b", "c", "absent", "unknown"]
    found = compare_volumes(names, [11, 22, 33, 0, math.nan], [10, 20, 30, 0, 5])
    assert found is not None
    assert found.names == ("a", "b", "c")
    assert found.differences == (1, 2, 3)
    assert found.means == (10.5, 21, 31.5)
    # The deviation of 1, 2 and 3 is 1.
    assert (found.bias, found.low, found.high) == pytest.approx((2, 0.04, 3.96))
    assert compare_volumes(["a"], [0], [0]) is None
    single = compare_volumes(["a"], [2], [1])
    assert single is not None
    assert math.isnan(single.low)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (12345.6, "12,346"), (12.345, "12.3"), (0.01234, "0.0123"), (-1.5, "-1.50")],
)
def test_sizes_have_three_digits(value: float, shown: str) -> None:
    assert show_size(value) == shown


def test_unknown_numbers_are_a_dash() -> None:
    dashes = {show_size(math.nan), show_size(None), show_score(math.nan), show_interval(None)}
    assert dashes == {show_interval([math.nan, math.nan])} == {"\N{EN DASH}"}


@pytest.mark.parametrize("high", [1e-5, 0.3, 1.0, 7.0, 150.0, 2e6])
def test_ticks_are_round_and_within_the_range(high: float) -> None:
    ticks = Scale(0.0, high, 0, 100).ticks
    assert 3 <= len(ticks) <= 7
    assert 0 <= min(ticks) <= max(ticks) <= high * (1 + 1e-9)
    assert len({show_tick(tick, ticks) for tick in ticks}) == len(ticks)


def test_texts_of_drawings_are_escaped() -> None:
    drawing = Drawing(10, 10, '"<x>"')
    drawing.text((1, 2), "<b> & c")
    drawing.dot((1, 2), 3, "dot", "<tip>")
    text = drawing.finish()
    assert "<b>" not in text
    assert "<x>" not in text
    assert "<tip>" not in text
    assert "&lt;b&gt; &amp; c" in text


def decode_runs(text: str, shape: tuple[int, int]) -> np.ndarray:
    """Read a label map as the page's script does."""
    words = [int(word, 36) for word in text.split()]
    values = np.repeat(np.array(words[::2], int), np.array(words[1::2], int))
    return np.zeros(shape, int) if not words else values.reshape(shape)


@pytest.mark.parametrize("highest", [0, 1, 3, 40_000])
def test_runs_hold_the_whole_label_map(highest: int) -> None:
    generator = np.random.default_rng(highest)
    labels = generator.integers(0, highest + 1, (7, 5)).repeat(3, axis=1)
    assert np.array_equal(decode_runs(encode_runs(labels), labels.shape), labels)


def test_small_images_are_exact_and_large_ones_small() -> None:
    noise = np.random.default_rng(0).random((40, 40))
    assert encode_image(noise).startswith("data:image/png;base64,")
    large = np.random.default_rng(0).random((300, 300, 3))
    assert encode_image(large).startswith("data:image/jpeg;base64,")
    assert len(encode_image(large)) < 300 * 300 * 3


DESCRIPTION = DatasetDescription(("MRI",), {"background": 0, "ball": 1}, None, ".nii.gz")


@pytest.fixture
def cases(tmp_path: Path) -> list[ReportedCase]:
    """Four cases, of which the last one is the worst."""
    dataset = write_predictions(tmp_path, num_cases=4, shape=(60, 24, 20))
    found = []
    for number in range(4):
        name = f"case_0{number}"
        file = f"{name}.nii.gz"
        image = Case(name, (dataset / "imagesTr" / f"{name}_0000.nii.gz",))
        results = {"ball": ClassResult(dice=1 - number / 10)}
        files = dataset / "preds" / file, dataset / "labelsTr" / file
        found.append(ReportedCase(name, image, *files, results=results))
    return found


def test_the_worst_case_is_shown_first(cases: list[ReportedCase]) -> None:
    shown = make_stacks(cases, DESCRIPTION, number=4)
    names = [stack.identifier for stack in shown.stacks]
    assert names == ["case_03", "case_02", "case_01", "case_00"]
    assert shown.stacks[0].heading == "worst of 4 cases"
    assert [stack.identifier for stack in make_stacks(cases, DESCRIPTION, 1).stacks] == names[:1]
    assert make_stacks(cases, DESCRIPTION, 0).stacks == ()


def test_slices_stay_below_the_largest_size(cases: list[ReportedCase]) -> None:
    whole = make_stacks(cases, DESCRIPTION, number=2)
    size = sum(stack.num_bytes for stack in whole.stacks)
    half = make_stacks(cases, DESCRIPTION, number=2, most_bytes=size // 2)
    assert sum(stack.num_bytes for stack in half.stacks) <= size // 2
    for stack, fewer in zip(whole.stacks, half.stacks, strict=True):
        shown = fewer.content["slices"]
        assert 1 < len(shown) < len(stack.content["slices"])
        # The slice of the largest error is there all the same.
        worst = stack.content["slices"][stack.first]
        assert shown[fewer.first]["position"] == worst["position"]
        assert "of 60 slices are shown, every" in fewer.left_out
    nothing = make_stacks(cases, DESCRIPTION, number=2, most_bytes=10)
    assert (nothing.stacks, nothing.left_out) == ((), ("case_03", "case_01"))


def test_large_slices_are_reduced(cases: list[ReportedCase], tmp_path: Path) -> None:
    dataset = write_predictions(tmp_path / "large", num_cases=1, shape=(3, 700, 40))
    image = Case("case_00", (dataset / "imagesTr" / "case_00_0000.nii.gz",))
    file = dataset / "preds" / "case_00.nii.gz"
    shown = make_stacks([ReportedCase("case_00", image, file)], DESCRIPTION, number=1)
    (stack,) = shown.stacks
    assert (stack.content["rows"], stack.content["columns"]) == (350, 20)
    labels = decode_runs(stack.content["slices"][stack.first]["prediction"], (350, 20))
    assert labels.any()
    assert stack.content["pixel"] == [2.0, 2.0]
    assert "One of 2 pixels along each side" in stack.left_out
