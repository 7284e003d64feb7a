"""A small project that uses samnet from Python, for `mypy --strict`."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt

import samnet


def show(done: float, total: float | None, what: str) -> None:
    """Print how far the work is."""
    print(f"{what}: {done} of {total}")


def run(raw: Path, work: Path) -> float:
    """Take a data set through all steps and return its Dice."""
    pre = work / "preprocessed"
    found: samnet.Verification = samnet.verify(8, raw=raw, progress=show)
    for fault in found.faults:
        print(fault.case, fault.value, fault.remedy)
    found.raise_if_faulty()
    planned: samnet.PlanResult = samnet.plan(8, raw=raw, preprocessed=pre, settings={"zoom": 2})
    print(planned.configurations["lora"]["batch_size"], planned.explain(["lora"]))
    prepared: samnet.Preprocessed = samnet.preprocess(8, raw=raw, preprocessed=pre)
    assert prepared.folder.is_dir()
    trained: samnet.TrainingResult = samnet.train(
        8, "lora", fold="cv", raw=raw, preprocessed=pre, results=work / "results", max_seconds=60.0
    )
    if trained.scores is not None:
        worst: samnet.LowScore = trained.worst_cases[0]
        print(worst.case, worst.dice, trained.scores.cases[worst.case]["liver"]["HD95"])
    out = work / "out"
    predicted: samnet.Predictions = samnet.predict(raw / "scans", out, model=trained.folder)
    for case, expected in predicted.confidence.items():
        print(case, expected["liver"].dice, predicted.warnings.get(case, ()))
    evaluated: samnet.Evaluation = samnet.evaluate(out, raw / "labelsTs", tubes=["vessel"])
    score: samnet.MeanScore = evaluated.scores.classes["liver"]["Dice"]
    page: samnet.ReportResult = samnet.report(trained.folder, results=work / "results")
    print(page.url, score.low, score.high)
    return evaluated.dice


def segment(folder: Path, image: nibabel.Nifti1Image, array: npt.NDArray[np.int16]) -> None:
    """Segment images in memory."""
    predictor = samnet.Predictor.from_folder(folder)
    labels: nibabel.Nifti1Image = predictor.predict(image)
    mask: npt.NDArray[np.int16] = predictor.predict(array, affine=np.eye(4))
    mask, maps = predictor.predict(
        array, orientation="LPS", spacing=(1.0, 1.0, 5.0), return_probabilities=True
    )
    result: samnet.Segmentation[nibabel.Nifti1Image] = predictor.segment(image)
    print(labels.shape, mask.shape, maps.shape, result.confidence, result.warnings)
    ensemble = samnet.EnsemblePredictor.from_folders([folder, folder])
    nibabel.save(ensemble.predict("scan.nii.gz"), "labels.nii.gz")


def main() -> int:
    """Run the project."""
    try:
        print(run(Path("raw"), Path("work")))
    except samnet.UserError as error:
        print(error)
        return error.exit_code
    return 0
