"""What names without a partner suggest: the option that the user probably needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from samnet.dataset.pairing.candidates import Candidate

_SEPARATORS = "_-. "
_MOST_SUFFIXES = 12  # with more, the ends of the names rather tell cases


def suggest_options(images: Iterable[Candidate], masks: Iterable[Candidate]) -> list[str]:
    """Return the options that would pair files whose names only begin alike.

    Args:
        images: Images without a partner.
        masks: Masks without a partner.

    Returns:
        Such as `--class-suffixes _liver _tumour`, or nothing where the names suggest nothing.
    """
    masks = list(masks)
    image_names = [image.name for image in images]
    mask_names = [mask.name for mask in masks]
    ends = _common_ends(image_names, mask_names) or _common_folders(image_names, masks)
    if ends:
        option = "--mask-suffix" if len(ends) == 1 else "--class-suffixes"
        return [f"{option} {' '.join(ends)}"]
    ends = _common_ends(mask_names, image_names)
    return [f"--channel-suffixes {' '.join(ends)}"] if ends else []


def _common_ends(beginnings: list[str], names: list[str]) -> list[str]:
    """Return the ends of names that begin as others do, if some end occurs more than once."""
    count: dict[str, int] = defaultdict(int)
    known = set(beginnings)
    for name in names:
        # The longest beginning counts.
        for position in reversed(range(1, len(name))):
            if name[position] in _SEPARATORS and name[:position] in known:
                count[name[position:]] += 1
                break
    is_regular = sum(count.values()) == len(names) and len(count) <= _MOST_SUFFIXES
    return sorted(count) if is_regular and (max(count.values(), default=0) > 1) else []


def _common_folders(image_names: list[str], masks: list[Candidate]) -> list[str]:
    """Return the folders of masks, if several hold masks of the names of images."""
    names = [mask.name.removeprefix(f"{mask.folder}_") for mask in masks]
    folders = sorted({mask.folder for mask in masks if mask.folder})
    return folders if len(folders) > 1 and set(names) <= set(image_names) else []
