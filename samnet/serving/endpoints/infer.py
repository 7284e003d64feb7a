"""Predictions: `/infer/{model}`."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from samnet.dataset.cases import Case
from samnet.serving.answers import multipart
from samnet.serving.endpoints.common import Served, name_of, parse_parameters
from samnet.serving.errors import BadRequest
from samnet.serving.names import ORIGINAL_TAG, check_tag, upload_ending
from samnet.serving.predicting import PredictedCase, ResultForm, predict_case
from samnet.serving.saving import save_predicted
from samnet.serving.served_models import ServedModel
from samnet.serving.service import Service
from samnet.serving.uploads import named_in_errors, store, temporary_folder

router = APIRouter()


class Output(str, Enum):
    """What a client requests of a prediction."""

    image = "image"
    json = "json"
    all = "all"
    dicom_seg = "dicom_seg"


@router.post("/infer/{model}")
async def predict(
    request: Request,
    service: Served,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: UploadFile | None = None,
    output: Output | None = None,
) -> Response:
    """Predict an image of the data set, of a session, or one that is sent along.

    Args:
        request: The request.
        service: What the endpoints share.
        model: The name of the model.
        image: What the client calls the image.
        session_id: The session of an uploaded image, in place of `image`.
        params: Parameters in JSON.
        file: The image itself, in place of `image`.
        output: `image`: the label map alone. `json`: what is said of it alone. `dicom_seg`: a DICOM
            segmentation. `all`, or nothing: both in a form.

    Returns:
        The answer.

    Raises:
        BadRequest: No image is named, or a parameter cannot be used.
    """
    parameters = parse_parameters(params)
    form = ResultForm.from_parameters(parameters)
    chosen = service.models.find(model)
    source = Source(service, image, session_id, file)
    async with predicted_case(request, service, chosen, source) as (predicted, folder):
        if parameters.get("save_label") is True and source.is_stored:
            tag = check_tag(parameters.get("label_tag") or ORIGINAL_TAG)
            labels = predicted.prediction.labels
            await run_in_threadpool(
                save_predicted, service.store, image, labels, predicted.image, tag
            )
        return await run_in_threadpool(_answer, predicted, chosen, folder, form, output)


@contextlib.asynccontextmanager
async def predicted_case(
    request: Request, service: Service, model: ServedModel, source: Source
) -> AsyncIterator[tuple[PredictedCase, Path]]:
    """Predict an image when its turn comes, for use in an `async with` statement.

    Args:
        request: The request.
        service: What the endpoints share.
        model: The model.
        source: The image.

    Yields:
        The prediction, and a folder for files, which is removed at the end of the block.
    """
    with contextlib.ExitStack() as stack:
        folder = await run_in_threadpool(stack.enter_context, temporary_folder(service.uploads))
        stack.enter_context(named_in_errors(folder, source.name))
        case = await run_in_threadpool(stack.enter_context, source.opened(folder))
        async with service.queue.turn(request.is_disconnected):
            predicted = await run_in_threadpool(predict_case, service.models, model, case)
        yield predicted, folder


class Source:
    """Where the image of a request comes from.

    Attributes:
        name: What the image is called in messages.
    """

    def __init__(
        self, service: Service, image: str, session_id: str, file: UploadFile | None
    ) -> None:
        """Read nothing yet.

        Args:
            service: What the endpoints share.
            image: What the client calls an image of the data set; empty for none.
            session_id: The session of an uploaded image; empty for none.
            file: An image that is sent along; None for none.

        Raises:
            BadRequest: There is neither of them.
        """
        if not image and not session_id and file is None:
            raise BadRequest("name an image or a session, or send a file")
        self._service, self._image = service, image
        self._session_id, self._file = session_id, file
        self.name = name_of(file) if file is not None else "the image"

    @property
    def is_stored(self) -> bool:
        """Whether it is an image of the data set."""
        return not self._session_id and self._file is None

    @contextlib.contextmanager
    def opened(self, folder: Path) -> Iterator[Case]:
        """Keep the files of the image within the block, for use in a `with` statement.

        Args:
            folder: Where to store an image that is sent along.

        Yields:
            The case.

        Raises:
            RequestError: There is no such image, or it cannot be used.
        """
        if self._file is not None:
            ending = upload_ending(self._file.filename, ".nii.gz")
            limit = self._service.settings.limits.image_bytes
            file = store(self._file.file, folder / f"image{ending}", limit)
            yield Case("image", (file,))
        elif self._session_id:
            with self._service.sessions.in_use(self._session_id) as session:
                yield session.case
        else:
            yield self._service.store.find(self._image).case


def _answer(
    predicted: PredictedCase,
    model: ServedModel,
    folder: Path,
    form: ResultForm,
    output: Output | None,
) -> Response:
    parameters: dict[str, Any] = {"model": model.name} | predicted.parameters()
    if output is Output.json:
        return JSONResponse(parameters)
    if output is Output.dicom_seg:
        file = predicted.write_dicom(folder)
        return _file_answer(file, "application/dicom")
    file = predicted.write(folder, form)
    if output is Output.image:
        return _file_answer(file, "application/octet-stream")
    # Clients store the file under this name, several at a time.
    name = f"{uuid.uuid4().hex}{file.name.removeprefix('labels')}"
    body, content_type = multipart(parameters, file, name)
    return Response(body, media_type=content_type)


def _file_answer(file: Path, content_type: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{file.name}"'}
    return Response(file.read_bytes(), media_type=content_type, headers=headers)
