"""One way from logits to labels, in a separate process. `export.py` runs it and describes the ways.

Imports only the packages that the way needs, so that `nnunet` runs in nnU-Net's environment.
Prints its cost as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

CHUNK = 8  # slices that a network returns at once


def main() -> None:
    """Convert the logits by one way, print the cost and save the labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument(
        "--logits",
        type=Path,
        required=True,
        help="file of the logits in half precision, of the given shape, without a header",
    )
    parser.add_argument(
        "--shape",
        type=int,
        nargs=4,
        required=True,
        help="slices, classes, rows, columns of the logits",
    )
    parser.add_argument(
        "--size", type=int, required=True, help="edge of the volume's slices in pixels"
    )
    parser.add_argument("--threads", type=int, required=True, help="threads of torch")
    parser.add_argument("--labels", type=Path, required=True, help="the .npy file to write")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    work = WAYS[options.way](options.logits, tuple(options.shape), options.size)
    started, cpu_started = time.perf_counter(), time.process_time()
    labels = work()
    cost = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started,
    }
    cost["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(cost))
    np.save(options.labels, labels)


def samnet(file: Path, shape: tuple[int, int, int, int], size: int) -> Callable[[], np.ndarray]:
    """Prepare samnet's reconstruction, chunk by chunk as the logits come from a network.

    Args:
        file: The file of the logits.
        shape: Numbers of slices, classes, rows and columns of the logits `(N, K, h, w)`.
        size: Edge of the volume's slices in pixels.

    Returns:
        The work to time; it returns labels `(N, size, size)`.
    """
    from samnet.dataset.label_scheme import Label, LabelScheme
    from samnet.inference.outputs import outputs_for
    from samnet.inference.reconstruction import ViewMaps, label_slices
    from samnet.preprocessing.slice_frame import frame_slice

    num_slices, num_classes, rows, _ = shape
    stride = 4
    frame = frame_slice((size, size), (1.0, 1.0), 1.0, rows * stride / size, rows * stride)
    classes: dict[str, Label] = {"background": 0}
    classes |= {f"class {value}": value for value in range(1, num_classes)}
    outputs = outputs_for(LabelScheme(classes))

    def work() -> np.ndarray:
        labels: np.ndarray = np.empty((num_slices, size, size), outputs.label_type(num_classes))
        for start, logits in chunks(file, shape):
            maps = outputs.probabilities(torch.from_numpy(logits).float()).transpose(0, 1)
            view = ViewMaps(maps, 0, frame, stride, torch.device("cpu"))
            label_slices(outputs, view, labels[start : start + len(logits)])
        return labels

    return work


def transcribed(
    file: Path, shape: tuple[int, int, int, int], size: int
) -> Callable[[], np.ndarray]:
    """Prepare nnU-Net's method: all classes at full size in single precision, then the largest.

    Args:
        file: The file of the logits.
        shape: Numbers of slices, classes, rows and columns of the logits `(N, K, h, w)`.
        size: Edge of the volume's slices in pixels.

    Returns:
        The work to time; it returns labels `(N, size, size)`.
    """
    from skimage.transform import resize

    logits = whole(file, shape)

    def work() -> np.ndarray:
        resampled = np.empty((*logits.shape[:2], size, size), np.float32)
        for target, values in zip(resampled, logits, strict=True):
            for index, plane in enumerate(values):
                target[index] = resize(
                    plane.astype(float), (size, size), 1, mode="edge", anti_aliasing=False
                )
        return torch.from_numpy(resampled).argmax(0).numpy().astype(np.uint8)

    return work


def nnunet(file: Path, shape: tuple[int, int, int, int], size: int) -> Callable[[], np.ndarray]:
    """Prepare nnU-Net's own functions, called as by its `2d` configuration for distant slices.

    Args:
        file: The file of the logits.
        shape: Numbers of slices, classes, rows and columns of the logits `(N, K, h, w)`.
        size: Edge of the volume's slices in pixels.

    Returns:
        The work to time; it returns labels `(N, size, size)`.
    """
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    logits = torch.from_numpy(whole(file, shape))
    names = {"background": 0} | {f"class {value}": value for value in range(1, shape[1])}
    manager = LabelManager(names, None)

    def work() -> np.ndarray:
        spacing, native = (5.0, size / shape[2], size / shape[3]), (5.0, 1.0, 1.0)
        target = (shape[0], size, size)
        options = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
        resampled = resample_data_or_seg_to_shape(logits, target, spacing, native, **options)
        return np.asarray(manager.convert_logits_to_segmentation(resampled)).astype(np.uint8)

    return work


def chunks(file: Path, shape: tuple[int, int, int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Read the logits from the file in chunks of slices.

    Args:
        file: The file of the logits.
        shape: Numbers of slices, classes, rows and columns of the logits `(N, K, h, w)`.

    Yields:
        The index of the first slice, and the logits `(n, K, h, w)` of a chunk of n slices.
    """
    values = int(np.prod(shape[1:]))
    for start in range(0, shape[0], CHUNK):
        count = min(CHUNK, shape[0] - start)
        flat = np.fromfile(file, np.float16, count * values, offset=2 * start * values)
        yield start, flat.reshape(count, *shape[1:])


def whole(file: Path, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Read all logits, with the classes first.

    Args:
        file: The file of the logits.
        shape: Numbers of slices, classes, rows and columns of the logits `(N, K, h, w)`.

    Returns:
        Logits `(K, N, h, w)` float16.
    """
    logits = np.empty((shape[1], shape[0], *shape[2:]), np.float16)
    for start, chunk in chunks(file, shape):
        logits[:, start : start + len(chunk)] = chunk.swapaxes(0, 1)
    return logits


WAYS = {"samnet": samnet, "transcribed": transcribed, "nnunet": nnunet}


if __name__ == "__main__":
    main()
