"""`samnet_convert_dicom`: make a raw data set of DICOM studies with their segmentations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from samnet.cli.command import Command, positive_int
from samnet.core.errors import DatasetFaults, UserError

if TYPE_CHECKING:
    from samnet.dataset.dicom_studies.convert_studies import StudyContents, StudyConversion

_SUMMARY = """\
Make a raw data set of a folder of DICOM studies: series of images, and the segmentations (SEG) and
structure sets (RTSTRUCT) that refer to them, in any order and depth. With --structures a table of
all names of structures is written first; edit it, and run the command again. Patients get new
names, and nothing of the headers is copied except the grid."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-i", "--input", type=Path, required=True, metavar="FOLDER", help="folder of the studies"
    )
    parser.add_argument(
        "-d",
        "--dataset",
        type=positive_int,
        required=True,
        metavar="ID",
        help="number of the data set, 1 to 999",
    )
    parser.add_argument("--name", required=True, metavar="NAME", help="name of the data set")
    parser.add_argument(
        "--structures",
        type=Path,
        metavar="CSV",
        help="table of the names of structures: written where it is not there yet, for you to "
        "merge, rename and drop them; else read",
    )
    parser.add_argument(
        "--channels",
        nargs="+",
        default=(),
        metavar="NAME=PATTERN",
        help="channels of multi-channel studies: the modality, or a pattern of the description of "
        "the series, such as 'T1=*t1*' PET=PT (default: the series that the labels refer to)",
    )
    parser.add_argument(
        "--resample",
        action="store_true",
        help="resample channels on another grid to that of the labelled series",
    )
    parser.add_argument(
        "--segmentations",
        nargs="+",
        default=(),
        metavar="PATTERN",
        help="take only the label files whose description or file name fits, such as '*final*'",
    )
    parser.add_argument(
        "--overlap",
        choices=("first", "last", "regions"),
        help="where structures overlap, take the one that is first or last in the table, or make "
        "all structures regions (default: overlaps are an error)",
    )
    parser.add_argument(
        "--threshold",
        type=_share,
        default=0.5,
        metavar="SHARE",
        help="the lowest share or probability of a fractional segmentation that counts (default: "
        "0.5)",
    )
    parser.add_argument(
        "--patients",
        type=Path,
        metavar="CSV",
        help="also write a table of PatientID and new name, to be kept outside the data set; names "
        "in an older one are kept",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="JSON",
        help="file for the report, which names the original files (default: "
        "DatasetXXX_NAME_report.json in this folder)",
    )
    parser.add_argument(
        "--skip-faulty", action="store_true", help="leave out cases that cannot be converted"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be done, and write nothing"
    )


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if 0 < share <= 1:
        return share
    raise argparse.ArgumentTypeError(f"{text!r} is no share; write a number above 0, up to 1")


def _run(options: argparse.Namespace) -> None:
    from samnet.dataset.dicom_studies.convert_studies import find_contents, plan_studies
    from samnet.dataset.dicom_studies.report import describe_contents, describe_conversion
    from samnet.dataset.dicom_studies.rules import StudyRules, parse_channel
    from samnet.dataset.dicom_studies.structure_names import write_table
    from samnet.dataset.new_dataset import new_dataset_folder

    folder = new_dataset_folder(options.dataset, options.name)
    if options.resample and not options.channels:
        raise UserError("--resample: is for channels; name them with --channels")
    rules = StudyRules(
        channels=tuple(map(parse_channel, options.channels)),
        label_patterns=tuple(options.segmentations),
        threshold=options.threshold,
        overlap=options.overlap,
        resample=options.resample,
        skip_faulty=options.skip_faulty,
    )
    contents = find_contents(options.input, rules)
    print(describe_contents(contents))
    if options.structures is not None and not options.structures.exists():
        if options.dry_run:
            print(f"would write {options.structures}")
            return
        write_table(contents.names, options.structures)
        print(
            f"written: {options.structures}. Next: edit its column 'label' (equal labels merge "
            "structures, an empty one drops a structure), and run the same command again"
        )
        return
    report = options.report or Path(f"{folder.name}_report.json")
    try:
        conversion = plan_studies(contents, options.structures, options.patients)
    except DatasetFaults as error:
        if not options.dry_run:
            _write_report(report, contents, None, error.faults)
        raise
    print(describe_conversion(conversion))
    if options.dry_run:
        print(f"would write {folder}")
        return
    _write(conversion, folder, report, options)


def _write(
    conversion: StudyConversion, folder: Path, report: Path, options: argparse.Namespace
) -> None:
    from samnet.dataset.dicom_studies.patients import write_patients
    from samnet.dataset.dicom_studies.write_studies import write_studies

    write_studies(conversion, folder)
    _write_report(report, conversion.contents, conversion, conversion.faults)
    if options.patients is not None:
        write_patients(conversion.patient_names, options.patients)
        print(f"who the patients are: {options.patients}")
    print(f"report: {report}")
    print(
        f"written: {folder}, {len(conversion.cases)} cases. "
        f"Next: samnet_doctor -d {options.dataset}, then "
        f"samnet_plan_and_preprocess -d {options.dataset}"
    )


def _write_report(
    file: Path, contents: StudyContents, conversion: StudyConversion | None, faults: list[str]
) -> None:
    from samnet.core.files import write_json
    from samnet.dataset.dicom_studies.report import report_of

    write_json(file, report_of(contents, conversion, faults))


COMMAND = Command(
    "samnet_convert_dicom",
    _SUMMARY,
    _add_arguments,
    _run,
    examples=(
        (
            "samnet_convert_dicom -i studies -d 21 --name Organs --structures names.csv",
            "write the table of structures; edited, the same command makes Dataset021_Organs",
        ),
        (
            "samnet_convert_dicom -i studies -d 23 --name Tumours --channels CT=CT PET=PT",
            "take CT and PET as channels",
        ),
    ),
)
main = COMMAND.main
