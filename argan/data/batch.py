"""A batch of training photographs: gathered as bytes, made into numbers where the networks run."""

import torch
from torch import Tensor


def gather(images: Tensor, rows: Tensor, flips: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Some of the images (N, 3, S, S), uint8 on the CPU, as the networks take them.

    Args:
        rows: (B,) which images.
        flips: (B,) bool, true where the image is mirrored left to right.
        device: where it is wanted. The host copies bytes there and waits for nothing; the rest is the device's work.

    Returns:
        (B, 3, S, S) float32 in [0, 1], the same bit for bit on every device.
    """
    device = torch.device(device)
    shape = len(rows), *images.shape[1:]
    photos = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    torch.index_select(images, 0, rows, out=photos)
    photos, flips = (x.to(device, non_blocking=True) for x in (photos, flips))
    # White as a tensor: by a number CUDA does not divide, it multiplies with the reciprocal, which rounds differently.
    white = torch.full((), 255.0, device=device)
    return torch.where(flips[:, None, None, None], photos.flip(-1), photos) / white
