"""Figures whatever names and environment are, and work that survives a figure that fails."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from skimage import io

import samnet
from samnet.core.figures import drawing_may_fail, name_legend, new_figure, save_figure

DRAW = """
import sys
from pathlib import Path
from samnet.core.figures import new_figure, save_figure
save_figure(new_figure(2, 2), Path(sys.argv[1]), dpi=50)
"""


def draw_in_a_program(file: Path, backend: str, afterwards: str = "") -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(samnet.__file__).parents[1]),
        "MPLBACKEND": backend,
    }
    process = subprocess.run(
        [sys.executable, "-c", DRAW + afterwards, str(file)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize(
    "backend", ["module://not_installed.backend_inline", "no_such_backend", "", "TkAgg"]
)
def test_figures_do_not_depend_on_the_backend_of_the_environment(
    tmp_path: Path, backend: str
) -> None:
    draw_in_a_program(tmp_path / "figure.png", backend)
    assert io.imread(tmp_path / "figure.png").shape[:2] == (100, 100)


def test_the_backend_of_the_program_around_stays(tmp_path: Path) -> None:
    afterwards = (
        "import matplotlib, os\nprint(matplotlib.rcParams['backend'], os.environ['MPLBACKEND'])"
    )
    assert draw_in_a_program(tmp_path / "figure.png", "svg", afterwards) == "svg svg\n"


@pytest.mark.parametrize(
    "name", ["dose $50_{Gy^$", "$", "a$b$c", "_hidden", "\u809d\u81d3", "\\frac{1}", "a\nb", ""]
)
def test_names_are_shown_literally(tmp_path: Path, name: str, recwarn: pytest.WarningsRecorder):
    figure = new_figure(3, 3)
    axes = figure.subplots()
    axes.plot([0, 1], label="class 0")
    legend = axes.legend()
    name_legend(legend, [name])
    axes.set_title(name)
    axes.set_ylabel(name)
    save_figure(figure, tmp_path / "figure.png", dpi=50)
    assert [text.get_text() for text in legend.get_texts()] == [name]
    assert io.imread(tmp_path / "figure.png").shape[:2] == (150, 150)
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_figure_that_fails_is_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        with drawing_may_fail(tmp_path / "progress.png"):
            raise ValueError("no font")
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "progress.png: not drawn, everything else is unaffected" in record.message
    assert "no font" in record.message


def test_a_stop_while_a_figure_is_drawn_stops(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), drawing_may_fail(tmp_path / "progress.png"):
        raise KeyboardInterrupt
