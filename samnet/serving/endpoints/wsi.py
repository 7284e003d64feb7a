"""Predictions of 2D images as polygons, for QuPath: `/infer/wsi/{model}`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from samnet.serving.endpoints.common import JsonBody, Served, parse_parameters
from samnet.serving.endpoints.infer import Source, predicted_case
from samnet.serving.errors import BadRequest, Unusable
from samnet.serving.names import label_names
from samnet.serving.polygons import Region, asap_annotations
from samnet.serving.predicting import PredictedCase
from samnet.serving.service import Service

router = APIRouter()
_ASAP = "asap"


@router.post("/infer/wsi/{model}")
async def outline_stored(
    request: Request,
    service: Served,
    model: str,
    parameters: JsonBody,
    image: str = "",
    session_id: str = "",
    output: str = _ASAP,
) -> Response:
    """Outline the labels of an image of the data set, or of a session.

    Args:
        request: The request.
        service: What the endpoints share.
        model: The name of the model.
        parameters: The region, as QuPath's extension sends it.
        image: What the client calls the image.
        session_id: The session of an uploaded image, in place of `image`.
        output: `asap`; others are refused.
    """
    source = Source(service, image, session_id, None)
    return await _outline(request, service, model, source, parameters, output)


@router.post("/infer/wsi_v2/{model}")
async def outline_sent(
    request: Request,
    service: Served,
    model: str,
    image: str = "",
    session_id: str = "",
    file: UploadFile | None = None,
    wsi: Annotated[str, Form()] = "{}",
    output: str = _ASAP,
) -> Response:
    """Outline the labels of an image that is sent along, or as `outline_stored`.

    Args:
        request: The request.
        service: What the endpoints share.
        model: The name of the model.
        image: What the client calls the image.
        session_id: The session of an uploaded image, in place of `image`.
        file: The image itself.
        wsi: The region in JSON.
        output: `asap`; others are refused.
    """
    source = Source(service, image, session_id, file)
    return await _outline(request, service, model, source, parse_parameters(wsi), output)


async def _outline(
    request: Request,
    service: Service,
    model: str,
    source: Source,
    parameters: dict[str, Any],
    output: str,
) -> Response:
    if output != _ASAP:
        raise BadRequest(f"output {output[:20]!r}: only {_ASAP} is served")
    region = Region.from_parameters(parameters)
    chosen = service.models.find(model)
    async with predicted_case(request, service, chosen, source) as (predicted, _):
        xml = await run_in_threadpool(_annotations, predicted, region)
    return Response(xml, media_type="text/xml")


def _annotations(predicted: PredictedCase, region: Region) -> str:
    labels = predicted.prediction.labels
    if labels.shape[0] != 1:
        raise Unusable(f"polygons are for 2D images, and this one has {labels.shape[0]} slices")
    return asap_annotations(labels[0], label_names(predicted.scheme), region)
