"""Images that are uploaded for a while: `/session/`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, UploadFile
from fastapi.responses import FileResponse

from samnet.serving.endpoints.common import Served, name_of
from samnet.serving.errors import BadRequest
from samnet.serving.uploads import store_any, temporary_folder

router = APIRouter()
_MOST_FILES = 5000


@router.put("/session/")
def create(
    service: Served, files: list[UploadFile], uncompress: bool = False, expiry: int = 0
) -> dict[str, Any]:
    """Upload an image for a while.

    Args:
        service: What the endpoints share.
        files: The image: one file, the channels in the order of their names, or a DICOM series.
        uncompress: Whether the file is an archive; archives are refused.
        expiry: How long to keep it after its last use, in seconds; 0 for the longest.

    Returns:
        The session.

    Raises:
        BadRequest: The files are too many, or an archive.
    """
    if uncompress:
        raise BadRequest("archives are not unpacked; send the files themselves")
    if len(files) > _MOST_FILES:
        raise BadRequest(f"{len(files)} files; the most are {_MOST_FILES}")
    limit = service.settings.limits.image_bytes
    with temporary_folder(service.uploads) as folder:
        stored = []
        for number, file in enumerate(sorted(files, key=name_of)):
            name = f"{number:04d}"
            stored.append(store_any(file.file, folder / name, file.filename, limit))
        session = service.sessions.add(stored, expiry)
    return {"session_id": session.identifier, "session_info": session.as_json()}


@router.get("/session/{session_id}")
def read(service: Served, session_id: str, update_ts: bool = False, image: bool = False) -> Any:
    """Return a session, or its image.

    Args:
        service: What the endpoints share.
        session_id: The session.
        update_ts: Whether this counts as a use.
        image: Whether to send the image.

    Raises:
        BadRequest: The image consists of several files.
    """
    session = service.sessions.find(session_id, is_used=update_ts)
    if not image:
        return session.as_json()
    [file, *others] = session.case.image_files
    if others or file.is_dir():
        raise BadRequest("the image of this session consists of several files")
    return FileResponse(file, media_type="application/octet-stream", filename=file.name)


@router.delete("/session/{session_id}")
def remove(service: Served, session_id: str) -> dict[str, Any]:
    """End a session and remove its files.

    Args:
        service: What the endpoints share.
        session_id: The session.

    Returns:
        The session as it was.
    """
    return service.sessions.remove(session_id).as_json()
