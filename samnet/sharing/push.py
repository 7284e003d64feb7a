"""Exporting a model to a hub: its archive, and its card as the page that the hub shows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from samnet.models.model_folder import ModelFolder
from samnet.sharing.export import Manifest, collect_facts, export_model
from samnet.sharing.hub import ARCHIVE_NAME, PREFIX, check_name, push_to_hub
from samnet.sharing.model_card import with_front_matter, write_card


def push_model(
    model: ModelFolder,
    name: str,
    *,
    output: Path | None = None,
    folds: Sequence[str] | None = None,
    licence: str | None = None,
    public: bool = False,
) -> tuple[Manifest, str]:
    """Export a model, and put it on a hub with its card.

    Args:
        model: The folder of a configuration, or of a single fold.
        name: `ORG/NAME` on the hub.
        output: Where to keep the archive; None not to keep it.
        folds: As for `export_model`.
        licence: As for `export_model`.
        public: Whether everybody may read it.

    Returns:
        What the archive holds, and the address to install it from.

    Raises:
        UserError: As for `export_model` and `push_to_hub`.
        SamnetError: As for `push_to_hub`.
    """
    check_name(name)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / ARCHIVE_NAME if output is None else output
        manifest = export_model(model, archive, folds, licence)
        facts = collect_facts(model, folds, licence)
        card = with_front_matter(write_card(facts, f"{PREFIX}{name}"), facts)
        address = push_to_hub(name, archive, card, public=public)
    return manifest, address
