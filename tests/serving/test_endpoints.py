"""Every endpoint, with what clients send and with what they should not send."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import SimpleITK
from builders.data import write_volume
from builders.serving import client_of, files_below, listening, make_service
from fastapi.testclient import TestClient

from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.images import read_image, read_labels
from samnet.serving import served_models
from samnet.serving.settings import Access, Limits

TRICKS = ["../../x", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "a\\..\\b", "%00", "." * 400, "a%0ab"]


def image_bytes(folder: DatasetFolder, name: str = "case_03") -> bytes:
    return (folder.raw / "imagesUnlabelled" / f"{name}_0000.nii.gz").read_bytes()


def parts_of(body: bytes, content_type: str) -> list[tuple[bytes, bytes]]:
    """Return headers and content of each part of a form."""
    boundary = content_type.partition("boundary=")[2].encode()
    parts = body.split(b"--" + boundary)[1:-1]
    found = []
    for part in parts:
        header, _, content = part.partition(b"\r\n\r\n")
        found.append((header, content[:-2]))
    return found


def test_info_has_what_clients_show(client: TestClient) -> None:
    info = client.get("/info/").json()
    assert info["labels"] == ["one", "two"]
    assert info["models"]["lora"]["type"] == "segmentation"
    assert info["trainers"]["lora"]["config"]["start"] == ["last model", "scratch"]
    assert set(info["strategies"]) == {"random", "first", "ranked"}
    assert info["datastore"] == {"total": 6, "completed": 3, "label_tags": {"final": 3}}
    assert client.get("/info").status_code == 200  # by a redirection
    assert client.get("/").json() == info


def test_predictions_in_all_forms(
    client: TestClient, folder: DatasetFolder, tmp_path: Path
) -> None:
    image = read_image([folder.raw / "imagesUnlabelled" / "case_03_0000.nii.gz"])
    answer = client.post("/infer/lora?image=case_03")
    (header, params), (file_header, content) = parts_of(
        answer.content, answer.headers["content-type"]
    )
    assert b'name="params"' in header
    assert b"application/json" in header
    assert b'filename="' in file_header
    file = tmp_path / "all.nii.gz"
    file.write_bytes(content)
    labels = read_labels(file)
    assert labels.grid.difference(image.grid) is None
    assert labels.array.any()
    told = json.loads(params)
    assert told["label_names"] == {"one": 1, "two": 2}
    for name, value in told["label_names"].items():
        middle = np.argwhere(labels.array[0] == value).mean(axis=0)
        voxel = [str(round(float(position))) for position in middle[::-1]]
        assert told["centroids"][name] == [str(value), *voxel]

    single = client.post("/infer/lora?image=case_03.nii.gz&output=image")
    file.write_bytes(single.content)
    assert np.array_equal(read_labels(file).array, labels.array)
    only = client.post("/infer/lora?image=case_03&output=json").json()
    assert only["centroids"] == told["centroids"]

    sent = client.post(
        "/infer/lora?image=&output=all", files={"file": ("x.nii.gz", image_bytes(folder))}
    )
    [_, (_, content)] = parts_of(sent.content, sent.headers["content-type"])
    file.write_bytes(content)
    assert np.array_equal(read_labels(file).array, labels.array)


def test_form_that_ohif_reads(client: TestClient, tmp_path: Path) -> None:
    """It decodes the answer as text, and takes what follows the first empty line of a part."""
    affine = np.array([[0, -1, 0, 30], [1.5, 0, 0, -40], [0, 0, 2, 55], [0, 0, 0, 1.0]])
    values = np.random.default_rng(0).integers(0, 200, (5, 24, 20)).astype(np.uint8)
    write_volume(tmp_path / "sent.nii.gz", values, affine)
    sent = {"file": ("sent.nii.gz", (tmp_path / "sent.nii.gz").read_bytes())}
    form = {"result_extension": ".nrrd", "result_dtype": "uint16", "result_compress": False}
    answer = client.post("/infer/lora?output=all", data={"params": json.dumps(form)}, files=sent)
    text = answer.content.decode("latin-1")
    parts = text.split("--" + answer.headers["content-type"].partition("boundary=")[2])
    [part] = [part for part in parts if "Content-Type: application/octet-stream" in part]
    nrrd = part.split("\r\n\r\n")[1]
    nrrd = nrrd[: nrrd.rindex("\r\n")]
    header, _, voxels = nrrd.partition("\n\n")
    assert "encoding: raw" in header
    assert "type: unsigned short" in header
    assert len(voxels) == 2 * 5 * 24 * 20
    (tmp_path / "a.nrrd").write_bytes(nrrd.encode("latin-1"))
    image = client.post("/infer/lora?output=image", files=sent)
    (tmp_path / "b.nii.gz").write_bytes(image.content)
    one, other = (SimpleITK.ReadImage(str(tmp_path / name)) for name in ("a.nrrd", "b.nii.gz"))
    assert one.GetOrigin() == pytest.approx(other.GetOrigin())
    assert one.GetSpacing() == pytest.approx(other.GetSpacing())
    assert one.GetDirection() == pytest.approx(other.GetDirection())
    arrays = [SimpleITK.GetArrayFromImage(image) for image in (one, other)]
    assert np.array_equal(*arrays)


def test_prediction_can_be_kept_but_not_as_training_data(
    client: TestClient, folder: DatasetFolder
) -> None:
    wish = {"params": '{"save_label": true}'}
    assert client.post("/infer/lora?image=case_03", data=wish).status_code == 200
    assert (folder.raw / "annotations" / "original" / "case_03.nii.gz").is_file()
    objects = client.get("/datastore/?output=all").json()["objects"]
    info = objects["case_03"]["labels"]["original"]["info"]
    assert info["params"]["label_names"] == {"one": 1, "two": 2}
    assert client.get("/datastore/").json()["completed"] == 3
    wish = {"params": '{"save_label": true, "label_tag": "final"}'}
    assert client.post("/infer/lora?image=case_03", data=wish).status_code == 400
    assert not (folder.training_labels / "case_03.nii.gz").exists()


def test_images_and_labels_are_sent(client: TestClient, folder: DatasetFolder) -> None:
    answer = client.get("/datastore/image?image=case_03")
    assert answer.content == image_bytes(folder)
    assert 'filename="case_03.nii.gz"' in answer.headers["content-disposition"]
    label = client.get("/datastore/label?label=case_00&tag=final")
    assert label.content == (folder.training_labels / "case_00.nii.gz").read_bytes()
    assert client.get("/datastore/image/info?image=case_00").json()["name"] == "case_00.nii.gz"
    assert "ts" in client.get("/datastore/label/info?label=case_00&tag=final").json()
    for path in ("image?image=case_03", "label?image=case_00&tag=final"):
        assert client.head(f"/datastore/{path}").status_code == 200
    for path in ("image?image=no", "label?image=case_03&tag=final", "label?image=no&tag=final"):
        assert client.head(f"/datastore/{path}").status_code == 404
    assert client.get("/datastore/?output=train").json() == [
        {"image": f"case_0{number}.nii.gz", "label": f"case_0{number}.nii.gz"}
        for number in range(3)
    ]


def test_nothing_is_deleted(client: TestClient, folder: DatasetFolder) -> None:
    before = files_below(folder.raw)
    for path in ("?id=case_00&type=image", "image?id=case_00", "label?id=case_00&tag=final"):
        assert client.delete(f"/datastore/{path}").status_code == 403
    assert files_below(folder.raw) == before


def test_next_samples_differ_until_all_are_given(client: TestClient) -> None:
    given = [client.post("/activelearning/first", json={}).json()["id"] for _ in range(4)]
    assert given == ["case_03", "case_04", "case_05", "case_03"]
    assert client.post("/activelearning/random").json()["id"] in given
    assert client.post("/activelearning/best").status_code == 404


def test_next_sample_of_a_labelled_data_set_is_empty(folder: DatasetFolder) -> None:
    for file in (folder.raw / "imagesUnlabelled").iterdir():
        file.unlink()
    with client_of(make_service(folder)) as client:
        assert client.post("/activelearning/first").json() == {}


def test_paths_are_told_to_this_machine_alone(folder: DatasetFolder) -> None:
    access = Access(host="0.0.0.0", token="x" * 32)
    with client_of(make_service(folder, access)) as client:
        client.headers["Authorization"] = f"Bearer {'x' * 32}"
        assert "path" not in client.post("/activelearning/first").json()
        assert str(folder.raw) not in client.get("/info/").text
        assert str(folder.raw) not in client.get("/datastore/?output=all").text


def test_session_is_used_and_removed(client: TestClient, folder: DatasetFolder) -> None:
    files = [("files", ("scan.nii.gz", image_bytes(folder)))]
    created = client.put("/session/?expiry=60", files=files).json()
    session = created["session_id"]
    assert created["session_info"]["expiry"] == 60
    assert client.get(f"/session/{session}?update_ts=true").json()["name"] == session
    assert client.get(f"/session/{session}?image=true").content == image_bytes(folder)
    assert client.post(f"/infer/lora?session_id={session}").status_code == 200
    assert client.delete(f"/session/{session}").status_code == 200
    for answer in (client.get(f"/session/{session}"), client.delete(f"/session/{session}")):
        assert answer.status_code == 404
    assert client.post(f"/infer/lora?session_id={session}").status_code == 404
    assert client.put("/session/?uncompress=true", files=files).status_code == 400
    assert client.put("/session/", files=[("files", ("a.exe", b"MZ"))]).status_code == 400
    assert files_below(folder.preprocessed) == set()


def test_absent_tasks_are_404(client: TestClient) -> None:
    for path in ("/scoring/", "/batch/infer", "/train/", "/train/?check_if_running=true", "/no"):
        assert client.get(path).status_code == 404
        assert "detail" in client.get(path).json()
    for path in ("/scoring/dice", "/batch/infer/lora", "/train/full", "/infer/full?image=case_03"):
        assert client.post(path).status_code == 404
    assert client.get("/logs/").text == "no training run yet\n"


@pytest.mark.parametrize(
    "parameters", [{"steps": -1}, {"steps": "x"}, {"max_time": "; rm -rf"}, {"start": "../m"}, 5]
)
def test_parameters_of_training_are_checked(client: TestClient, parameters: object) -> None:
    assert client.post("/train/lora", json=parameters).status_code == 400
    assert client.get("/train/").status_code == 404


@pytest.mark.parametrize("trick", TRICKS)
def test_paths_from_the_network_lead_nowhere(
    client: TestClient, folder: DatasetFolder, trick: str
) -> None:
    root = folder.raw.parents[1]
    before = files_below(root)
    label = {"label": (f"{trick}.nii.gz", (folder.training_labels / "case_00.nii.gz").read_bytes())}
    query = {"image": trick}
    answers = [
        client.post("/infer/lora", params=query),
        client.post(f"/infer/{trick}", params={"image": "case_03"}),
        client.get("/datastore/image", params=query),
        client.get("/datastore/label", params={"label": trick, "tag": trick}),
        client.put("/datastore/label", params=query, files=label),
        client.put("/datastore/label", params={"image": "case_03", "tag": trick}, files=label),
        client.post(f"/activelearning/{trick}"),
        client.post(f"/train/{trick}"),
        client.get(f"/session/{trick}"),
        client.get(f"/logs/{trick}"),
    ]
    assert {answer.status_code // 100 for answer in answers} <= {4}
    assert files_below(root) == before


def test_broken_requests_are_4xx(client: TestClient, folder: DatasetFolder) -> None:
    before = files_below(folder.raw.parents[1])
    answers = [
        client.post("/infer/lora"),
        client.post("/infer/lora?image=case_03", data={"params": "{"}),
        client.post("/infer/lora?image=case_03", data={"params": "[1]"}),
        client.post("/infer/lora?image=case_03", data={"params": '{"result_dtype": "x"}'}),
        client.post("/infer/lora?image=case_03", data={"params": '{"result_extension": "/x"}'}),
        client.post("/infer/lora?image=case_03&output=other"),
        client.post("/infer/lora?image=case_03&output=dicom_seg"),
        client.post("/infer/lora", files={"file": ("a.nii.gz", b"junk")}),
        client.post("/infer/lora", files={"file": ("a.exe", b"junk")}),
        client.put("/datastore/?image=new", files={"file": ("a.nii.gz", b"junk")}),
        client.put("/datastore/?image=new"),
        client.put("/datastore/label?image=case_03", files={"label": ("a.nii.gz", b"junk")}),
        client.post("/train/lora", content=b"\xff"),
        client.post("/train/lora", content=b"{"),
        client.post("/info/"),
        client.put("/session/"),
    ]
    for answer in answers:
        assert 400 <= answer.status_code < 500, answer.text
        assert "detail" in answer.json()
        assert str(folder.preprocessed) not in answer.text
    assert files_below(folder.raw.parents[1]) == before


def test_image_that_decompresses_to_too_much_is_refused(folder: DatasetFolder) -> None:
    limits = Limits(image_bytes=1000)
    with client_of(make_service(folder, limits=limits)) as client:
        sent = ("a.nii.gz", image_bytes(folder))
        answers = [
            client.post("/infer/lora", files={"file": sent}),
            client.put("/datastore/?image=new", files={"file": sent}),
            client.put("/session/", files=[("files", sent)]),
            client.put("/datastore/label?image=case_03", files={"label": sent}),
        ]
        assert [answer.status_code for answer in answers] == [413] * 4
    assert files_below(folder.preprocessed) == set()


def test_full_queue_is_503(folder: DatasetFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    began, may_end = threading.Event(), threading.Event()
    predict = served_models.ServedModels.predict

    def slow(*arguments: Any) -> Any:
        began.set()
        assert may_end.wait(60)
        return predict(*arguments)

    monkeypatch.setattr(served_models.ServedModels, "predict", slow)
    path, limits = "/infer/lora?image=case_03&output=json", Limits(waiting=0)
    with client_of(make_service(folder, limits=limits)) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, path)
        assert began.wait(60)
        second = client.post(path)
        may_end.set()
        assert second.status_code == 503
        assert second.headers["retry-after"] == "5"
        assert first.result().status_code == 200
        assert client.post(path).status_code == 200


def test_failure_of_the_server_is_500_without_details(
    folder: DatasetFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("secret of the server")

    monkeypatch.setattr(served_models.Predictor, "from_folder", fail)
    with client_of(make_service(folder)) as client:
        answer = client.post("/infer/lora?image=case_03")
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert client.get("/info/").status_code == 200
    assert files_below(folder.preprocessed) == set()


def test_errors_do_not_tell_the_folders_of_the_server(
    client: TestClient, folder: DatasetFolder
) -> None:
    broken = folder.raw / "imagesUnlabelled" / "case_03_0000.nii.gz"
    broken.write_bytes(b"no image")
    answer = client.post("/infer/lora?image=case_03")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("imagesUnlabelled/case_03_0000.nii.gz: cannot be")
    assert str(folder.raw.parent) not in answer.text


def test_server_that_listens_answers(folder: DatasetFolder) -> None:
    with listening(make_service(folder)) as url:
        assert httpx.get(f"{url}/info/").json()["name"] == folder.name
