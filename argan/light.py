"""Between what a file stores and light, for tensors: the curves of `argan.curves` applied to pixels of any type."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from argan.curves import SRGB, Curve

FULL_SCALE = {torch.uint8: 255, torch.uint16: 65535}

Finisher = Callable[[Tensor, int], Tensor]  # stored values (H, W) in [0, 1] of a channel -> the same, with grain


def to_linear(pixels: Tensor, curve: Curve = SRGB) -> Tensor:
    """Pixels of any shape, uint8, uint16 or float in [0, 1] -> linear light; integers become float32 by a table."""
    if pixels.dtype not in FULL_SCALE:
        return curve.decode(pixels)
    table = _decoded(curve, FULL_SCALE[pixels.dtype]).to(pixels.device)
    return table.index_select(0, pixels.flatten().int()).view_as(pixels)


def from_linear(
    linear: Tensor, curve: Curve = SRGB, dtype: torch.dtype = torch.float32, finish: Finisher | None = None
) -> Tensor:
    """The inverse of `to_linear`: (C, H, W) linear light -> `dtype`; integers are clamped and rounded.

    8-bit values come from a table over the square root of linear light, in which every curve is nearly straight:
    they are within 0.503 steps of the exact value (0.5 is rounding itself) and an untouched pixel keeps its value.
    Floats keep highlights beyond white, and none is below black: there is no negative light. `finish` changes stored
    values before they are rounded: grain and dither.
    """
    finish = finish or (lambda stored, _channel: stored)
    if dtype == torch.uint8:
        table = _encoded(curve).to(linear.device)
        roots = (plane.clamp(0, 1).sqrt_().mul_(65535).add_(0.5).int() for plane in linear.detach())
        planes = (table.index_select(0, plane.flatten()).view_as(plane) for plane in roots)
    else:
        planes = (curve.encode(plane) for plane in linear.clamp(min=0))
    finished = (finish(plane, channel) for channel, plane in enumerate(planes))
    if dtype not in FULL_SCALE:
        return torch.stack([plane.to(dtype) for plane in finished])
    pixels = torch.stack([quantise(plane.detach(), dtype) for plane in finished], -1)
    return pixels.permute(2, 0, 1)  # channels side by side in memory, as files have them


@lru_cache(maxsize=8)
def _decoded(curve: Curve, steps: int) -> Tensor:
    """Linear light of the stored values 0, 1, ... `steps`."""
    return curve.decode(torch.arange(steps + 1, dtype=torch.float64, device="cpu") / steps).float()


@lru_cache(maxsize=8)
def _encoded(curve: Curve) -> Tensor:
    """Stored values in [0, 1] of light whose square root is 0, 1 / 65535, ... 1."""
    root = torch.arange(65536, dtype=torch.float64, device="cpu") / 65535
    return curve.encode(root.square()).float()


def luminance(rgb: Tensor) -> Tensor:
    """Of linear RGB (…, 3, H, W), by ITU-R BT.709; of display-encoded RGB it is luma, where detail is compared."""
    red, green, blue = rgb.split(1, -3)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def quantise(stored: Tensor, dtype: torch.dtype) -> Tensor:
    """[0, 1] -> the nearest value of an integer dtype."""
    steps = FULL_SCALE[dtype]
    return (stored * steps + 0.5).clamp(0, steps).to(dtype)
