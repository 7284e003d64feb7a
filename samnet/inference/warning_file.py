"""The file next to label maps that says which of them to look at, and why. Its only owner.

`prediction_warnings.json` holds one list of sentences for each case that has any:
`{"cases": {"case_1": ["the prediction is empty: no voxel is foreground"]}}`. Without any such case
there is no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.core.locks import lock_folder

WARNING_FILE = "prediction_warnings.json"


def read_warnings(folder: Path) -> dict[str, list[str]]:
    """Read the warnings of the label maps in a folder.

    Args:
        folder: The folder.

    Returns:
        Name of a case -> its sentences; empty where there is no file, or not one of this form.
    """
    try:
        content = read_json(folder / WARNING_FILE)
    except UserError:
        return {}
    cases = content.get("cases") if isinstance(content, dict) else None
    return cases if isinstance(cases, dict) else {}


def record_warnings(folder: Path, case: str, sentences: Sequence[str]) -> None:
    """Replace what the file says of a case. A file that would say nothing is deleted.

    Several jobs may predict parts of the cases into one folder at the same time.

    Args:
        folder: The folder of the label maps.
        case: The name of the case.
        sentences: Its warnings; empty for none.
    """
    file = folder / WARNING_FILE
    if not sentences and not file.exists():
        return
    with lock_folder(folder, "prediction warnings"):
        cases = read_warnings(folder)
        cases.pop(case, None)
        if sentences:
            cases[case] = list(sentences)
        if cases:
            write_json(file, {"cases": dict(sorted(cases.items()))})
        else:
            file.unlink(missing_ok=True)
