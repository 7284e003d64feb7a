"""Every command that the documentation shows: all are parsed, most are run on small files.

The commands of a page are run in its order, in a folder that holds the files which the pages name.
Where a page does not train by itself, trained models are there. What makes the commands short (a
tiny network, 20 steps) is added to each command line.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders.pages import PAGES, ShownCommand, page_name, shown_commands, shown_spans
from builders.tiny import add_tiny_backbone
from builders.workshop import fill_workshop
from matplotlib.figure import Figure

from samnet.cli.main import COMMANDS, main

# What stands for a value of the reader -> a value.
PLACEHOLDERS = {
    "ID": "8",
    "FOLD": "0",
    "MODEL1": "samnet_data/results/Dataset008_Liver/lora",
    "MODEL2": "samnet_data/results/Dataset008_Liver/frozen",
}
TINY_PLAN = (
    "--device cpu -np 0 --set backbone=tiny --set input_size=32 --set batch_size=1 --set views=[0] "
    "--set depth=1 --set mirror_at_prediction=false"
)
# What makes a command quick.
SHORTER = {
    "plan_and_preprocess": TINY_PLAN,
    "plan": TINY_PLAN,
    "train": "--device cpu --steps 20 --set steps_per_epoch=20 --lr 0.01 --workers 0",
    "predict": "--device cpu",
    "verify_dataset": "-np 0",
    "doctor": "-np 0 --device cpu",
    "evaluate": "-np 0",
    "measure": "-np 0",
    "report": "-np 0",
    "find_best_configuration": "-np 0 --device cpu",
    "next": "--device cpu",
    "install_model": "--name Dataset108_Liver",  # as on the machine of another person
}
# Pages whose commands are parsed, and not run -> why.
PARSED_PAGES = {
    "docs/measurements.md": "measurements on real data take minutes to hours",
    "docs/results.md": "measurements on real data take minutes to hours",
    "docs/cluster.md": "needs four GPUs; tests/training/test_distributed.py runs two processes",
    "benchmarks/README.md": "measurements on real data take minutes to hours",
}
# Commands that are parsed, and not run: how the line begins -> why.
PARSED_COMMANDS = {
    "samnet_demo": "takes minutes; tests/demo runs it with few cases",
    "samnet_download_checkpoint vit_b": "downloads 375 MB; tests/models/test_download.py has a "
    "server of its own",
    "samnet_train 8 lora --track": "needs an extra package; tests/training/tracking runs it",
    "samnet_install_model https://example.org/models/liver.zip": "needs a network; tests/sharing "
    "has a server of its own",
    "samnet_install_model hf://ORG/NAME@REVISION": "needs a network; tests/sharing has a server of "
    "its own",
    "samnet_export_model -m samnet_data/results/Dataset008_Liver/lora --push": "needs a network; "
    "tests/sharing has a server of its own",
    "samnet_serve": "does not end by itself; tests/serving runs it",
    "samnet_pretrain": "takes hours; tests/pretraining runs it with few steps",
    "samnet_zero_shot": "needs the weights of vit_b; tests/inference/test_zero_shot.py runs it "
    "with a small SAM",
    "samnet_evaluate -p boxes": "scores what samnet_zero_shot predicts",
    "samnet_import_samed": "needs a file of SAMed; tests/sharing/test_samed.py makes such files",
    "samnet_export_samed": "SAMed's code has no tiny backbone; tests/sharing/test_samed.py",
    "samnet_train 8 lora --set structure_copying=0.5": "needs a rare class; "
    "tests/training/test_structure_copying.py has one",
    "samnet_train 4 samed": "is measured with the small backbone and takes minutes",
    "samnet_plan_and_preprocess -d 4": "prepares real data for the line above",
    "samnet_convert_dicom -i studies -d 22": "needs studies of several series; "
    "tests/dataset/dicom_studies/test_convert_dicom.py makes such studies",
    "samnet_convert_dicom -i studies -d 23": "needs studies of several series; "
    "tests/dataset/dicom_studies/test_convert_dicom.py makes such studies",
}
# What is done before the commands of a page, because another page shows it.
BEFORE = {
    "docs/models.md": ("convert_msd -i Task09_Spleen", "plan_and_preprocess -d 9"),
    "docs/ensembles.md": (
        "train 8 frozen 0",
        "predict -i imagesTs -o preds_lora -d 8 -c lora --save-probabilities",
        "predict -i imagesTs -o preds_frozen -d 8 -c frozen --save-probabilities",
    ),
}
ABOUT_FIGURES = ("docs/figures.md", "docs/report.md")
NEED_A_MODEL = ("predict", "export_model", "report", "next")
COMMANDS_OF_PAGES = {page_name(page): shown_commands(page) for page in PAGES}
ALL = [command for commands in COMMANDS_OF_PAGES.values() for command in commands]
SPANS = [command for page in PAGES for command in shown_spans(page)]


def reason_to_parse_only(command: ShownCommand) -> str:
    """Return why a command is not run; empty where it is run."""
    if command.page in PARSED_PAGES:
        return PARSED_PAGES[command.page]
    for beginning, reason in PARSED_COMMANDS.items():
        if f"{command.line} ".startswith(f"{beginning} "):
            return reason
    return ""


def trains_the_first_model(commands: list[ShownCommand]) -> bool:
    """Tell whether a page trains before it uses a model."""
    for command in commands:
        if command.name in NEED_A_MODEL or "--from" in command.words:
            return False
        if command.name == "train":
            return True
    return False


def run_lines(page: str) -> list[ShownCommand]:
    """Return the commands of a page that are run."""
    return [command for command in COMMANDS_OF_PAGES[page] if not reason_to_parse_only(command)]


def pages_to_run() -> list[str]:
    """Return the pages whose commands are run; not those that repeat what another page shows."""
    lines = {}
    for page in COMMANDS_OF_PAGES:
        lines[page] = {command.line for command in run_lines(page)}
    chosen: list[str] = []
    for page in sorted(lines, key=lambda page: -len(lines[page])):
        repeated = any(lines[page] <= lines[other] for other in chosen)
        if lines[page] and not repeated:
            chosen.append(page)
    return sorted(chosen)


RUN_PAGES = pages_to_run()


def test_commands_are_found_in_the_pages() -> None:
    assert len(ALL) > 100
    assert len(RUN_PAGES) > 12


def test_every_command_is_named_in_the_pages() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in COMMANDS if f"samnet_{name}" not in text] == []


@pytest.mark.parametrize("line", sorted({command.line for command in ALL}))
def test_commands_are_accepted_by_their_parsers(line: str) -> None:
    command = next(command for command in ALL if command.line == line)
    parser = importlib.import_module(f"samnet.cli.{command.name}").COMMAND.parser()
    parser.parse_args(list(command.words))


def test_commands_in_sentences_have_existing_names_and_options() -> None:
    faults = []
    for span in SPANS:
        if span.name not in COMMANDS:
            faults.append(f"{span.page}: {span.line}: no such command")
            continue
        page = main_help(span.name)
        for word in span.words:
            option = word.split("=")[0]
            if option.startswith("-") and " " not in word and option not in page:
                faults.append(f"{span.page}: {span.line}: no option {option}")
    assert not faults, "\n".join(faults)


def main_help(name: str) -> str:
    """Return the help of a command, with that of its subcommands."""
    parser = importlib.import_module(f"samnet.cli.{name}").COMMAND.parser()
    pages = [parser.format_help()]
    for action in parser._actions:
        if isinstance(action.choices, dict):
            pages += [subparser.format_help() for subparser in action.choices.values()]
    return "\n".join(pages)


def test_lists_of_commands_that_are_only_parsed_have_no_entry_too_many() -> None:
    unused = set(PARSED_COMMANDS)
    for command in ALL:
        unused -= {line for line in unused if f"{command.line} ".startswith(f"{line} ")}
    assert not unused
    assert set(PARSED_PAGES) <= set(COMMANDS_OF_PAGES)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data set 8 planned, prepared and trained, and what pages predict with it."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        hide_folders(patch)
        add_tiny_backbone(patch)
        skip_rendering(patch)
        fill_workshop()
        for line in (
            "plan_and_preprocess -d 8",
            "train 8 lora 0",
            "train 8 lora all",
            "predict -i imagesTs -o preds -d 8 -c lora -f 0",
        ):
            run_line(line)
        yield folder


def hide_folders(patch: pytest.MonkeyPatch) -> None:
    """Let samnet use its default folders, below the current one."""
    for name in ("raw", "preprocessed", "results"):
        patch.delenv(f"samnet_{name}", raising=False)


def skip_rendering(patch: pytest.MonkeyPatch) -> None:
    """Write empty figures: rendering them takes half of the time of a short training run."""
    patch.setattr(Figure, "savefig", lambda figure, file, **options: Path(file).touch())


def run(name: str, words: list[str]) -> int:
    """Run a command in its short form; return the exit code."""
    words = [PLACEHOLDERS.get(word, word) for word in words]
    return main([name, *words, *SHORTER.get(name, "").split()])


def run_line(line: str) -> None:
    """Run a command that is needed before those of a page."""
    name, *words = line.split()
    assert run(name, words) == 0, line


@pytest.mark.parametrize("page", RUN_PAGES)
def test_commands_of_a_page_run(
    page: str, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_folders(monkeypatch)
    add_tiny_backbone(monkeypatch)
    if page not in ABOUT_FIGURES:
        skip_rendering(monkeypatch)
    folder = tmp_path / "workshop"
    shutil.copytree(filled, folder, symlinks=True)
    monkeypatch.chdir(folder)
    commands = run_lines(page)
    if trains_the_first_model(commands):
        shutil.rmtree("samnet_data/results")
        shutil.rmtree("preds")
    for line in BEFORE.get(page, ()):
        run_line(line)
    failed = []
    for command in commands:
        code = run(command.name, list(command.words))
        if code != 0:
            failed.append(f"{command.line}: exit code {code}")
    assert not failed, "\n".join(failed)
