"""Outlines of 2D labels, as QuPath's extension requests and reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from builders.data import write_dataset
from builders.serving import LABELS, client_of, make_service, write_served_dataset
from builders.tiny import make_configuration, make_model, make_plan
from skimage import io
from skimage.measure import points_in_poly

from samnet.dataset.dataset_folder import DatasetFolder
from samnet.serving.errors import BadRequest
from samnet.serving.polygons import Region, asap_annotations, outlines


def polygons_of(xml: str) -> list[tuple[str, np.ndarray]]:
    """Return the name and the corners `(N, 2)`, x before y, of each annotation."""
    found = []
    for annotation in ElementTree.fromstring(xml).iter("Annotation"):
        points = [(point.get("X"), point.get("Y")) for point in annotation.iter("Coordinate")]
        found.append((annotation.get("Name") or "", np.array(points, float)))
    return found


def rasterise(xml: str, values: dict[str, int], shape: tuple[int, int]) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    pixels = np.argwhere(np.ones(shape))[:, ::-1]
    for name, polygon in polygons_of(xml):
        labels[points_in_poly(pixels, polygon).reshape(shape)] = values[name]
    return labels


def test_outlines_hold_exactly_the_pixels() -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[0:9, 0:12] = 1  # at the edge
    labels[12:20, 5:30] = 2
    labels[22:23, 35:40] = 2  # smaller than 10 pixels
    xml = asap_annotations(labels, {'a & "b"': 1, "two": 2}, Region(smallest_area=10))
    expected = labels.copy()
    expected[22] = 0
    assert np.array_equal(rasterise(xml, {'a & "b"': 1, "two": 2}, labels.shape), expected)
    assert [name for name, _ in polygons_of(xml)] == ['a & "b"', "two"]


def test_holes_are_no_outlines_and_regions_keep_their_place() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:18, 2:18] = True
    mask[5:15, 5:15] = False
    [outline] = outlines(mask, 0)
    assert outline.min() == 1.5
    assert outline.max() == 17.5
    labels = mask.astype(np.uint8)
    xml = asap_annotations(labels, {"one": 1}, Region(10, 0, 10, 4, 0))
    [(_, polygon)] = polygons_of(xml)
    assert polygon.min(axis=0).tolist() == [9.5, 1.5]
    assert polygon.max(axis=0).tolist() == [17.5, 3.5]


@pytest.mark.parametrize(
    "parameters",
    [{"location": [1]}, {"size": [-1, 2]}, {"location": "xy"}, {"size": 5}, {"min_poly_area": "x"}],
)
def test_regions_are_checked(parameters: dict) -> None:
    with pytest.raises(BadRequest):
        Region.from_parameters(parameters)


def test_qupath_outlines_stored_and_sent_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_served_dataset(tmp_path, monkeypatch)
    shutil.rmtree(tmp_path / "raw")
    write_dataset(tmp_path / "raw", labels=LABELS, num_cases=2, file_ending=".png")
    folder = DatasetFolder.of("Dataset501_Tiny")
    plan = make_plan(make_configuration(), file_ending=".png")
    make_model(folder.model("lora") / "fold_0", plan=plan)
    sent = (folder.training_images / "case_00_0000.png").read_bytes()
    with client_of(make_service(folder)) as client:
        assert client.get("/info/").json()["models"]["lora"]["dimension"] == 2
        image = client.post("/infer/lora?image=case_00&output=image")
        (tmp_path / "labels.png").write_bytes(image.content)
        labels = io.imread(tmp_path / "labels.png")
        assert labels.any()
        wish = {"location": [0, 0], "size": [0, 0], "min_poly_area": 0, "tile_size": [1024, 1024]}
        stored = client.post("/infer/wsi/lora?image=case_00&output=asap", json=wish)
        assert stored.headers["content-type"].startswith("text/xml")
        uploaded = client.post(
            "/infer/wsi_v2/lora?output=asap",
            files={"file": ("patch.png", sent)},
            data={"wsi": json.dumps(wish)},
        )
        assert uploaded.text == stored.text
        values = {"one": 1, "two": 2}
        covered = rasterise(stored.text, values, labels.shape)
        assert np.array_equal(covered[labels > 0] > 0, np.ones((labels > 0).sum(), bool))
        assert client.post("/infer/wsi/lora?image=case_00&output=dsa").status_code == 400
        assert client.post("/infer/wsi/lora").status_code == 400
