"""Which image is labelled next: `/activelearning/{strategy}`."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter

from samnet.serving.endpoints.common import JsonBody, Served
from samnet.serving.strategies import SamplePool

router = APIRouter()


@router.post("/activelearning/{strategy}")
def choose_next(service: Served, strategy: str, parameters: JsonBody) -> dict[str, Any]:
    """Return the next image without a label map.

    Args:
        service: What the endpoints share.
        strategy: The name of a strategy.
        parameters: What the client sends along; not used.

    Returns:
        The image, by the protocol's keys; nothing where all are labelled.
    """
    images = {image.identifier: image for image in service.store.unlabelled()}
    cases = [image.case for image in images.values()]
    pool = SamplePool(
        cases, time.time_ns(), service.folder, service.models, service.settings.ranking
    )
    name = service.samples.choose(strategy, pool)
    if name is None:
        return {}
    image = images[name]
    content: dict[str, Any] = {"id": name, "name": image.download_name}
    # A client on this machine reads the file itself in place of downloading it.
    if service.settings.access.is_local and not image.file.is_dir():
        content["path"] = str(image.file.absolute())
    return content
