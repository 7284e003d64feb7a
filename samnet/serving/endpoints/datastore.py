"""Images and label maps of the data set: `/datastore/`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Form, UploadFile
from fastapi.responses import FileResponse, Response

from samnet.serving.endpoints.common import Served, name_of, parse_parameters, text_of
from samnet.serving.errors import Forbidden, NotFound
from samnet.serving.names import check_tag, upload_ending
from samnet.serving.saving import BINARY_ENDING, image_as_nifti, save_image, save_label
from samnet.serving.uploads import named_in_errors, store, temporary_folder

router = APIRouter()
_BINARY = "application/octet-stream"


class Listing(str, Enum):
    """What a client requests of the list."""

    stats = "stats"
    all = "all"
    train = "train"


@router.get("/datastore/")
def read_datastore(service: Served, output: Listing = Listing.stats) -> Any:
    """Return how many images there are, or all of them.

    Args:
        service: What the endpoints share.
        output: `stats`: numbers. `all`: all images and label maps. `train`: those to train on.
    """
    if output is Listing.all:
        return service.store.as_json()
    if output is Listing.train:
        labelled = [image for image in service.store.images() if image.is_labelled]
        return [
            {"image": image.download_name, "label": image.labels["final"].name}
            for image in labelled
        ]
    return service.store.status()


@router.put("/datastore/")
@router.put("/datastore/image")
def upload_image(service: Served, file: UploadFile, image: str = "") -> dict[str, Any]:
    """Add an image without a label map.

    Args:
        service: What the endpoints share.
        file: The image.
        image: What the client calls it; empty for the name of the file.

    Returns:
        What it is called from now on.
    """
    ending = upload_ending(file.filename, service.store.description.file_ending)
    limit, name = service.settings.limits.image_bytes, name_of(file)
    with temporary_folder(service.uploads) as folder, named_in_errors(folder, name):
        stored = store(file.file, folder / f"image{ending}", limit)
        return {"image": save_image(service.store, image or name, stored, ending)}


@router.get("/datastore/image")
def download_image(service: Served, image: str) -> Response:
    """Send the first channel of an image.

    Args:
        service: What the endpoints share.
        image: What the client calls it.
    """
    found = service.store.find(image)
    if found.file.is_dir():
        content = image_as_nifti(found)
        headers = {"Content-Disposition": f'attachment; filename="{found.download_name}"'}
        return Response(content, media_type=_BINARY, headers=headers)
    return FileResponse(found.file, media_type=_BINARY, filename=found.download_name)


@router.head("/datastore/image")
def check_image(service: Served, image: str) -> Response:
    """Say whether there is an image.

    Args:
        service: What the endpoints share.
        image: What the client calls it.
    """
    service.store.find(image)
    return Response()


@router.get("/datastore/image/info")
def read_image_info(service: Served, image: str) -> dict[str, Any]:
    """Return what is known of an image.

    Args:
        service: What the endpoints share.
        image: What the client calls it.
    """
    found = service.store.find(image)
    info: dict[str, Any] = service.store.as_json()["objects"][found.identifier]["image"]["info"]
    return info


@router.put("/datastore/label")
def upload_label(
    service: Served,
    image: str,
    label: UploadFile,
    tag: str = "",
    params: Annotated[str, Form()] = "{}",
) -> dict[str, Any]:
    """Save a label map.

    Args:
        service: What the endpoints share.
        image: What the client calls the image.
        label: The label map.
        tag: `final`, or nothing, for one to train on; others are kept apart.
        params: Parameters in JSON: `label_info` names the values.

    Returns:
        The name of image and label map.
    """
    checked, parameters, name = check_tag(tag), parse_parameters(params), name_of(label)
    info = parameters.get("label_info")
    is_binary = name.endswith(BINARY_ENDING)
    ending = BINARY_ENDING if is_binary else upload_ending(label.filename, ".nii.gz")
    limits = service.settings.limits
    with temporary_folder(service.uploads) as folder, named_in_errors(folder, name):
        file = folder / f"labels{ending}"
        if is_binary:
            file.write_bytes(label.file.read())
        else:
            store(label.file, file, limits.image_bytes)
        saved = save_label(
            service.store,
            image,
            file,
            checked,
            info if isinstance(info, list) else (),
            text_of(parameters, "client_id"),
        )
    return {"image": saved.identifier, "label": saved.identifier, "tag": checked}


@router.get("/datastore/label")
def download_label(service: Served, label: str, tag: str = "") -> FileResponse:
    """Send a label map.

    Args:
        service: What the endpoints share.
        label: What the client calls the image.
        tag: The tag of the label map.
    """
    file = service.store.find_label(label, check_tag(tag))
    return FileResponse(file, media_type=_BINARY, filename=file.name)


@router.head("/datastore/label")
def check_label(service: Served, tag: str = "", image: str = "", label: str = "") -> Response:
    """Say whether there is a label map.

    Args:
        service: What the endpoints share.
        tag: The tag of the label map.
        image: What the client calls the image.
        label: The same, as other clients send it.
    """
    service.store.find_label(image or label, check_tag(tag))
    return Response()


@router.get("/datastore/label/info")
def read_label_info(service: Served, label: str, tag: str = "") -> dict[str, Any]:
    """Return what is known of a label map.

    Args:
        service: What the endpoints share.
        label: What the client calls the image.
        tag: The tag of the label map.
    """
    found, checked = service.store.find(label), check_tag(tag)
    labels = service.store.as_json()["objects"][found.identifier]["labels"]
    if checked not in labels:
        raise NotFound(f"image {found.identifier!r}: has no label map with the tag {checked!r}")
    info: dict[str, Any] = labels[checked]["info"]
    return info


@router.delete("/datastore/")
@router.delete("/datastore/image")
@router.delete("/datastore/label")
def refuse_to_delete() -> None:
    """Say that nothing is deleted.

    Raises:
        Forbidden: Always.
    """
    raise Forbidden("images and label maps are not deleted by clients; delete the files")
