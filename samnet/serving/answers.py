"""Bodies of answers: forms with several parts, as a browser would send them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def multipart(parameters: Mapping[str, Any], file: Path, name: str) -> tuple[bytes, str]:
    """Put the parameters and the file of a prediction into one form.

    Clients take the first part that has a file name as the label map, under this name. OHIF finds
    the parts by their content types, and the file behind the first empty line of its part.

    Args:
        parameters: What is said of the prediction.
        file: The label map.
        name: Its name for the client.

    Returns:
        The body, and its content type.
    """
    boundary = uuid.uuid4().hex
    content = file.read_bytes()
    opening = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="params"\r\n'
        "Content-Type: application/json\r\n\r\n"
        f"{json.dumps(parameters)}\r\n"
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="image"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = opening.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"
