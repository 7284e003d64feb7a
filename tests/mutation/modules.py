"""The modules on which a mask depends, and the tests that have to notice a change of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Module:
    """Source files that make one concept, and the tests of it.

    Attributes:
        sources: Source files, relative to the root of the repository.
        tests: Further test files or glob patterns, relative to `tests/`. The test files that mirror
            the sources need not be named.
    """

    sources: tuple[str, ...]
    tests: tuple[str, ...] = ()

    def test_patterns(self) -> list[str]:
        """Return the glob patterns of all tests of this module, relative to `tests/`.

        Returns:
            For `samnet/core/files.py` the pattern `core/test_files*.py`, and `tests` after it.
        """
        mirrored = []
        for source in self.sources:
            package, name = source.removeprefix("samnet/").removesuffix(".py").rsplit("/", 1)
            mirrored.append(f"{package}/test_{name}*.py")
        return [*mirrored, *self.tests]


MODULES = {
    "geometry": Module(("samnet/core/geometry.py",), ("dataset/test_alignment.py",)),
    "slice_frame": Module(
        ("samnet/preprocessing/slice_frame.py", "samnet/preprocessing/interpolation.py"),
        ("inference/test_slices.py",),
    ),
    "sampling": Module(("samnet/training/sampling.py", "samnet/training/slice_reader.py")),
    "augmentation": Module(
        (
            "samnet/training/augmentation.py",
            "samnet/training/placement.py",
            "samnet/training/intensity_draws.py",
            "samnet/training/intensity_draws.py",
            "samnet/training/intensity_changes.py",
            "samnet/training/smooth_fields.py",
        ),
        ("training/test_slice_reader.py",),
    ),
    "intensity": Module(("samnet/preprocessing/intensity.py",)),
    "channels": Module(("samnet/preprocessing/channels.py",), ("inference/test_slices.py",)),
    "lora": Module(
        ("samnet/models/lora.py", "samnet/models/lora_product.py"),
        ("models/test_segmentation_network.py", "models/test_image_encoder.py"),
    ),
    "loss": Module(("samnet/training/loss.py",)),
    "schedule": Module(("samnet/training/schedule.py",)),
    "slices": Module(
        (
            "samnet/inference/slices.py",
            "samnet/inference/volume.py",
            "samnet/inference/view_store.py",
        ),
        ("inference/test_predictor.py",),
    ),
    "reconstruction": Module(("samnet/inference/reconstruction.py",)),
    "outputs": Module(
        ("samnet/inference/outputs.py",),
        ("inference/test_reconstruction.py", "inference/test_volume.py"),
    ),
    "metrics": Module(
        (
            "samnet/evaluation/metrics.py",
            "samnet/evaluation/overlaps.py",
            "samnet/evaluation/surface.py",
        )
    ),
    "files": Module(("samnet/core/files.py",)),
    "locks": Module(("samnet/core/locks.py",)),
}
