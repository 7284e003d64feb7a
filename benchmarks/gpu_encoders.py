"""The encoders of `gpu.py`, and what a prediction makes of a full batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from gpu_bench import Bench, Work, peak_bytes
from gpu_rows import Row, attempt, name_limit, profile_kernels
from operations import count_encoder
from sam_encoder import shipped_encoder
from torch import Tensor, nn
from torch_timing import time_repeatedly

from samnet.inference.replays import WARM_UP_BATCHES, NetworkReplays
from samnet.models.cuda_graph import record_graph
from samnet.models.encoder import build_encoder
from samnet.models.heads.mask_decoder import MaskDecoderHead
from samnet.models.network import SegmentationNetwork
from samnet.models.precision import autocast
from samnet.plan.backbones import BACKBONES, PATCH

_NUM_OUTPUTS = 6  # of the networks that predict


def own_encoder(backbone: str, size: int) -> nn.Module:
    """Return samnet's encoder."""
    return build_encoder(BACKBONES[backbone], size)


def other_encoder(backbone: str, size: int) -> nn.Module:
    """Return the encoder of `segment_anything`."""
    return shipped_encoder(backbone, size, build_encoder(BACKBONES[backbone], size))


# Another encoder, such as a captured one, is one entry.
ENCODERS: Mapping[str, Callable[[str, int], nn.Module]] = {
    "samnet": own_encoder,
    "segment_anything": other_encoder,
}
_ENCODER_TARGETS = {1024: "350", 512: "900", 448: "2,000"}


def measure_encoders(bench: Bench) -> Iterator[Row]:
    """Measure the forward pass of each encoder at each size.

    Args:
        bench: Where to measure.

    Yields:
        The rows.
    """
    for edge, batch in bench.sizes.encoders:
        for way in ENCODERS:
            name = f"encoder {bench.sizes.encoder}, {edge} x {batch}, {way}"
            yield attempt(name, partial(_measure_encoder, bench, (edge, batch), way, name))


@torch.inference_mode()
def _measure_encoder(bench: Bench, size: tuple[int, int], way: str, name: str) -> Row:
    edge, batch = size
    torch.manual_seed(0)
    encoder = ENCODERS[way](bench.sizes.encoder, edge).eval().to(bench.device)
    images = torch.rand(batch, 3, edge, edge, device=bench.device)

    def encode() -> None:
        with autocast("bfloat16", bench.device):
            encoder(images)

    seconds = time_repeatedly(encode, bench.device, bench.sizes.seconds)
    operations = batch * count_encoder(bench.sizes.encoder, edge)
    kernels = profile_kernels(encode, bench.device)
    share = bench.share(operations, seconds)
    return Row(
        name,
        batch / seconds,
        "images/s",
        name_limit(seconds, kernels, share, bench.precision),
        _ENCODER_TARGETS.get(edge, "") if way == "samnet" else "",
        {
            "seconds": seconds,
            "operations": operations,
            "share_of_peak": share,
            "kernel_seconds": kernels and kernels.seconds,
            "launches": kernels and kernels.launches,
            "peak_bytes": peak_bytes(encode, bench.device),
        },
    )


def ordinary_prediction(bench: Bench, predict: Callable[[Tensor], Tensor], images: Tensor) -> Work:
    """Return the prediction of a batch whose operators are launched one by one."""
    return partial(predict, images)


def replayed_prediction(bench: Bench, predict: Callable[[Tensor], Tensor], images: Tensor) -> Work:
    """Return a replayed prediction: a CUDA graph on a GPU, where its recording works."""
    is_cuda = bench.device.type == "cuda"
    # Elsewhere nothing can be recorded, and the work is repeated.
    replays = NetworkReplays(bench.device, record_graph if is_cuda else lambda work: work)
    replay = partial(replays.compute, "network", predict, images)
    for _ in range(WARM_UP_BATCHES + 1):
        replay()
    if not replays.is_recording:
        raise RuntimeError("the prediction could not be recorded")
    return replay


PREDICTION_WAYS: Mapping[str, Callable[[Bench, Callable[[Tensor], Tensor], Tensor], Work]] = {
    "one by one": ordinary_prediction,
    "replayed": replayed_prediction,
}


def measure_predictions(bench: Bench) -> Iterator[Row]:
    """Measure what a network makes of a full batch in each way.

    Args:
        bench: Where to measure.

    Yields:
        The rows.
    """
    for size in bench.sizes.predictions:
        for way in PREDICTION_WAYS:
            name = f"prediction, {size[0]}, {size[1]} x {size[2]}, {way}"
            yield attempt(name, partial(_measure_prediction, bench, size, way, name))


@torch.inference_mode()
def _measure_prediction(bench: Bench, size: tuple[str, int, int], way: str, name: str) -> Row:
    backbone, edge, batch = size
    torch.manual_seed(0)
    head = MaskDecoderHead(_NUM_OUTPUTS, edge // PATCH, BACKBONES[backbone].decoder_mlp)
    encoder = build_encoder(BACKBONES[backbone], edge)
    network = SegmentationNetwork(nn.Identity(), encoder, head, trainable_only=False)
    network = network.eval().to(bench.device)

    def predict(images: Tensor) -> Tensor:
        with autocast("bfloat16", bench.device):
            logits = network(images).float()
        return logits.softmax(dim=1)

    images = torch.rand(batch, 3, edge, edge, device=bench.device)
    work = PREDICTION_WAYS[way](bench, predict, images)
    seconds = time_repeatedly(work, bench.device, bench.sizes.seconds)
    # Of the encoder alone: the head has a few hundredths of them.
    operations = batch * count_encoder(backbone, edge)
    kernels = profile_kernels(work, bench.device)
    share = bench.share(operations, seconds)
    return Row(
        name,
        batch / seconds,
        "images/s",
        name_limit(seconds, kernels, share, bench.precision),
        "",
        {
            "seconds": seconds,
            "operations_of_encoder": operations,
            "share_of_peak": share,
            "kernel_seconds": kernels and kernels.seconds,
            "launches": kernels and kernels.launches,
            "peak_bytes": peak_bytes(work, bench.device),
        },
    )
