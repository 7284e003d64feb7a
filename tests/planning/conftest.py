from __future__ import annotations

from collections.abc import Callable

import pytest
from builders import fingerprint

from samnet.fingerprint.records import Fingerprint


@pytest.fixture
def make_fingerprint() -> Callable[..., Fingerprint]:
    return fingerprint.make_fingerprint
