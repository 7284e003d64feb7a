"""What a person is told of finished runs: scores, worst cases, where everything lies, what next."""

from __future__ import annotations

from collections.abc import Sequence

from samnet.core.paths import dataset_number
from samnet.core.tables import align_columns, shorten
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.evaluation.overlays.evaluated_cases import FIGURES_FOLDER
from samnet.evaluation.summary_files import read_summary
from samnet.evaluation.tables import format_overlap
from samnet.evaluation.worst_cases import format_worst_cases, never_found, worst_cases
from samnet.models.model_folder import ALL_CASES, ModelFolder, RunFolder
from samnet.training.curves import ON_TRAINING_CASES, read_epochs

_LONGEST_NAME = 40  # characters of a case's name in a row of a table


def describe_results(runs: Sequence[RunFolder]) -> str:
    """Describe the runs of a command.

    Args:
        runs: The runs of one configuration of a data set, finished or not.

    Returns:
        A text for the screen; of a single run with its scores and worst cases, of several with the
        Dice of each.
    """
    name = runs[0].path.parent.name
    number = dataset_number(runs[0].path.parent.parent.name)
    parts = [_one_run(runs[0]) if len(runs) == 1 else _several_runs(runs)]
    commands = [
        ("report", f"samnet_report -d {number} -c {name}"),
        ("predict", f"samnet_predict -d {number} -c {name} -i IMAGES -o OUT"),
    ]
    if len(runs) > 1:
        commands.insert(1, ("compare", f"samnet_find_best_configuration {number}"))
    parts.append("\n".join(f"{what + ':':<9}{command}" for what, command in commands))
    return "\n\n".join(parts)


def _one_run(run: RunFolder) -> str:
    title = f"{run.path.parent.parent.name}, {run.path.parent.name}, {run.name}"
    summary_file = run.validation / SUMMARY_FILE
    if not summary_file.is_file():
        reason = (
            "the held-out cases are not scored yet" if _holds_out(run) else "no cases are held out"
        )
        return f"{title}: no scores, as {reason}\n\n{_files(run)}"
    summary = read_summary(summary_file)
    num_cases = len(summary["metric_per_case"])
    cases = "1 held-out case" if num_cases == 1 else f"{num_cases} held-out cases"
    parts = [f"{title}: scores of {cases}", format_overlap(summary)]
    worst = format_worst_cases(summary)
    if worst:
        parts.append(worst)
    missing = never_found(summary)
    if missing:
        parts.append(
            f"found in no case, though the reference shows it: {', '.join(missing)} "
            "(docs/troubleshooting.md says what may help)"
        )
    return "\n\n".join([*parts, _files(run)])


def _holds_out(run: RunFolder) -> bool:
    """Tell whether a run has held-out cases; the fold of a single patient has none."""
    if run.path == ModelFolder(run.path.parent).run(ALL_CASES).path:
        return False
    epochs = read_epochs(run.metrics_file)
    return not epochs or epochs[-1].get("validated_on") != ON_TRAINING_CASES


def _files(run: RunFolder) -> str:
    """Return a line for each thing that is there to look at."""
    lines = []
    for what, file in (
        ("scores", run.validation / SUMMARY_FILE),
        ("figures", run.validation / FIGURES_FOLDER),
        ("curves", run.progress_file),
    ):
        if file.exists():
            lines.append(f"{what + ':':<9}{file}")
    return "\n".join(lines)


def _several_runs(runs: Sequence[RunFolder]) -> str:
    model = ModelFolder(runs[0].path.parent)
    rows = [("fold", "held-out cases", "Dice", "worst case")]
    for run in runs:
        summary_file = run.validation / SUMMARY_FILE
        if not summary_file.is_file():
            rows.append((run.name, "-", "-", "not scored yet"))
            continue
        summary = read_summary(summary_file)
        dice = summary["foreground_mean"]["Dice"]
        worst = worst_cases(summary, 1)
        text = f"{shorten(worst[0].case, _LONGEST_NAME)} {worst[0].dice:.3f}" if worst else "-"
        rows.append((run.name, str(len(summary["metric_per_case"])), f"{dice:.4f}", text))
    title = f"{model.path.parent.name}, {model.path.name}: {len(runs)} folds"
    files = [f"scores and figures: {model}/fold_*/validation"]
    if model.progress_file.is_file():
        files.append(f"curves: {model.progress_file}")
    return "\n\n".join([title, align_columns(rows), "\n".join(files)])
