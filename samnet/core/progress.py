"""Progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from samnet.core.streams import CosmeticStream


class ProgressBar(tqdm):
    """tqdm's bar on standard error. A bar that cannot be shown does not end the work."""

    def __init__(self, iterable: Iterable | None = None, **options: Any) -> None:
        """Begin a bar.

        Args:
            iterable: What to go through; None for a bar that `update` moves.
            **options: Options of tqdm, such as `total`, `desc` and `unit`.
        """
        super().__init__(iterable, file=CosmeticStream(sys.stderr), **options)
