"""Bring pictures and maps to another size, in a form that every exporter keeps dynamic."""

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.kernels.sizes import plain, smaller


def resize(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear resize of (B, C, H, W) to `size` = (height, width), area-weighted (anti-aliased) where it shrinks."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)


def resize_short_side(image: Tensor, size: int) -> Tensor:
    """Resize `image` (B, C, H, W) so that its short side is `size` px and its proportions stay: (B, C, h, w).

    Bilinear, area-weighted (anti-aliased) where it shrinks, half-pixel centres; the long side is rounded to whole
    pixels. H and W may be symbolic: the sizes are found by integer arithmetic without a branch, which torch.export,
    ONNX and torch.jit.trace all carry over to sizes that they have not seen.
    """
    height, width = image.shape[-2:]
    short = smaller(height, width)

    def scaled(side: int) -> int:
        return plain((2 * side * size + short) // (2 * short), least=2)  # side * size / short, rounded

    return resize(image, (scaled(height), scaled(width)))
