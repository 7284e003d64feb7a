"""What ITK's readers leave out of the headers of NRRD and MetaImage: units, scales, data files.

NRRD's fields: http://teem.sourceforge.net/nrrd/format.html, MetaImage's:
https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import re
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.units import millimetres_per

NRRD_ENDINGS = (".nrrd", ".nhdr")
_HEADER_BYTES = 65536
_QUOTED = re.compile(r'"([^"]*)"')
_NUMBERED = re.compile(r"(?P<name>\S*%\d*d\S*) (?P<first>-?\d+) (?P<last>-?\d+) (?P<step>-?\d+).*")
_SCALE = {"ElementToIntensityFunctionSlope": 1.0, "ElementToIntensityFunctionOffset": 0.0}
_NOT_STATED = ("", "none", "?", "???", "pixel", "pixels", "voxel", "voxels", "unknown")


def nrrd_units(file: Path, dimension: int) -> tuple[str, ...]:
    """Read the units of the axes of a NRRD file.

    Args:
        file: The file, or the header of a file.
        dimension: Number of its axes in space, 2 or 3.

    Returns:
        The unit of each axis in space as the header names it; empty where it names none, which
        means mm.

    Raises:
        UserError: The header names a unit that is not known.
    """
    fields = _nrrd_fields(file)
    listed = _QUOTED.findall(fields.get("space units") or fields.get("units") or "")
    units = [unit for unit in listed if unit.strip().lower() not in _NOT_STATED]
    if not units:
        return ()
    unknown = [unit for unit in units if millimetres_per(unit) is None]
    if unknown or (len(units) != dimension and len(set(units)) > 1):
        raise UserError(
            f"{file}: its axes have the units {listed}; write a unit of length, such as mm, for "
            f"each of its {dimension} axes in space"
        )
    return tuple(units) if len(units) == dimension else (units[0],) * dimension


def units_of_axes(file: Path, dimension: int) -> tuple[str, ...]:
    """Read the units of the axes of a file.

    Args:
        file: A NRRD or MetaImage file.
        dimension: Number of its axes in space, 2 or 3.

    Returns:
        The unit of each axis as the header names it; empty where it names none, which means mm.

    Raises:
        UserError: The header names a unit that is not known.
    """
    if file.suffix.lower() in NRRD_ENDINGS:
        return nrrd_units(file, dimension)
    unit = _metaimage_fields(file).get("distanceunits", "")
    if unit.lower() in _NOT_STATED:
        return ()
    if millimetres_per(unit) is None:
        raise UserError(f"{file}: its DistanceUnits are {unit!r}; write a unit of length, as mm")
    return (unit,) * dimension


def states_spacing(file: Path) -> bool:
    """Tell whether a header states the distances of voxels; ITK takes 1 mm where none are stated.

    Args:
        file: A NRRD or MetaImage file.
    """
    if file.suffix.lower() in NRRD_ENDINGS:
        fields = _nrrd_fields(file)
        return any(word in fields for word in ("space directions", "spacings"))
    fields = _metaimage_fields(file)
    return "elementspacing" in fields or "elementsize" in fields


def check_geometry(file: Path) -> None:
    """Check that a header gives numbers for directions and spacings; ITK takes 1 mm for others.

    Args:
        file: A NRRD or MetaImage file.

    Raises:
        UserError: One of them is no number.
    """
    fields = _nrrd_fields(file) if file.suffix.lower() in NRRD_ENDINGS else {}
    directions = fields.get("space directions", "")
    if "nan" in directions.lower() or "inf" in directions.lower():
        raise UserError(
            f"{file}: its space directions are {directions}; write the distance of voxels in mm"
        )


def check_scale(file: Path) -> None:
    """Check that the values of a MetaImage are not to be scaled: ITK would leave them unscaled.

    Args:
        file: A NRRD or MetaImage file.

    Raises:
        UserError: The header states another factor than 1, or another offset than 0.
    """
    if file.suffix.lower() in NRRD_ENDINGS:
        return
    fields = _metaimage_fields(file)
    for name, expected in _SCALE.items():
        value = fields.get(name.lower())
        if value is not None and _number(value) != expected:
            raise UserError(
                f"{file}: its header has {name} = {value}, which is not applied by ITK; save the "
                "scaled values"
            )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def add_units(file: Path, units: tuple[str, ...]) -> None:
    """Add units of space to a NRRD or MetaImage file.

    Args:
        file: A file with a header that states none.
        units: The unit of each axis in space.
    """
    if file.suffix.lower() in NRRD_ENDINGS:
        add_nrrd_units(file, units)
        return
    first, end, rest = file.read_bytes().partition(b"\n")
    file.write_bytes(first + end + f"DistanceUnits = {units[0]}\n".encode() + rest)


def add_nrrd_units(file: Path, units: tuple[str, ...]) -> None:
    """Add units of space to a NRRD file.

    Args:
        file: A file with a header that states none.
        units: The unit of each axis in space.
    """
    header, end, voxels = file.read_bytes().partition(b"\n\n")
    line = "\nspace units: " + " ".join(f'"{unit}"' for unit in units)
    file.write_bytes(header + line.encode() + end + voxels)


def files_of_voxels(file: Path) -> list[Path]:
    """Return the files that hold the voxels of a header.

    Args:
        file: A NRRD or MetaImage file.

    Returns:
        Paths, existing or not; an empty list where the voxels follow their header.

    Raises:
        UserError: A MetaImage header names no file, or several.
    """
    if file.suffix.lower() in NRRD_ENDINGS:
        return _files_of_nrrd(file)
    return _file_of_metaimage(file)


def _file_of_metaimage(file: Path) -> list[Path]:
    match = re.search(rb"^ElementDataFile\s*=\s*(.+?)\s*$", _read_start(file), re.MULTILINE)
    if match is None and file.suffix.lower() == ".mha":
        return []  # no MetaImage at all, which its reader reports
    if match is None:
        raise UserError(f"{file}: is no MetaImage header (no ElementDataFile in it)")
    name = match[1].decode("utf-8", errors="replace")
    if name.upper() == "LOCAL":
        return []
    if name.upper().startswith("LIST") or "%" in name:
        raise UserError(f"{file}: has its voxels in several files ({name}); save it as one .mha")
    return [file.parent / name]


def _files_of_nrrd(file: Path) -> list[Path]:
    """Return the files of voxels: one, a numbered row of them, or those that a list names."""
    fields = _nrrd_fields(file)
    value = fields.get("data file") or fields.get("datafile")
    if value is None:
        return []
    if value.upper().startswith("LIST"):
        text = _read_start(file).decode("utf-8", errors="replace")
        listed = re.split(r"^data ?file:\s*LIST.*$", text, maxsplit=1, flags=re.M | re.I)[1]
        return [file.parent / name.strip() for name in listed.splitlines() if name.strip()]
    numbered = _NUMBERED.fullmatch(value)
    if numbered is None:
        return [file.parent / value]
    first, last, step = (int(numbered[key]) for key in ("first", "last", "step"))
    numbers = range(first, last + (1 if step > 0 else -1), step or 1)
    return [file.parent / (numbered["name"] % number) for number in numbers]


def _nrrd_fields(file: Path) -> dict[str, str]:
    """Return the fields of a NRRD header, which ends with an empty line or the file."""
    text = _read_start(file).replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        decoded = text.decode("latin-1")
    fields = {}
    for line in decoded.splitlines():
        name, separator, value = line.partition(": ")
        if separator and not line.startswith("#"):
            fields[name.strip().lower()] = value.strip()
    return fields


def _metaimage_fields(file: Path) -> dict[str, str]:
    """Return the fields of a MetaImage header, which ends with the name of the file of voxels."""
    text = _read_start(file).partition(b"ElementDataFile")[0]
    fields = {}
    for line in text.decode("latin-1").splitlines():
        name, separator, value = line.partition("=")
        if separator:
            fields[name.strip().lower()] = value.strip()
    return fields


def _read_start(file: Path) -> bytes:
    with file.open("rb") as handle:
        return handle.read(_HEADER_BYTES)
