"""Aperture shapes as small, anti-aliased, normalised convolution kernels of any radius."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BLADES = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "heptagon": 7, "octagon": 8, "nonagon": 9}
APERTURES = ("disk", *BLADES)

Aperture = str | Tensor


def check_aperture(aperture: Aperture) -> Aperture:
    """Returns `aperture`, an image of one as a float32 (h, w) CPU tensor; ValueError or TypeError when it is none."""
    if isinstance(aperture, str):
        if aperture not in APERTURES:
            raise ValueError(f"unknown aperture {aperture!r}: one of {', '.join(APERTURES)}, or a 2-D tensor")
        return aperture
    if not isinstance(aperture, Tensor):
        raise TypeError(f"aperture must be a name or a 2-D tensor, not {type(aperture).__name__}")
    mask = aperture.detach().to("cpu", torch.float32)
    if mask.ndim != 2 or min(mask.shape) < 1:
        raise ValueError(f"an aperture image must be a 2-D tensor, not of shape {tuple(mask.shape)}")
    if not bool(torch.isfinite(mask).all()) or bool((mask < 0).any()) or not bool((mask > 0).any()):
        raise ValueError("an aperture image must be finite, nowhere negative and somewhere positive")
    return mask


def reach(aperture: Aperture, radius: float) -> int:
    """Half-width in pixels of the kernel of blur radius `radius`."""
    if radius <= 0:
        return 0
    corner = _circumradius(BLADES[aperture]) if isinstance(aperture, str) and aperture in BLADES else 1.0
    return math.ceil(radius * corner + 0.5)


def aperture_kernel(aperture: Aperture, radius: float) -> Tensor:
    """The image of a point light: (2n+1, 2n+1) float64, sum 1, for a signed blur radius in pixels.

    A point behind the focal plane (radius < 0) shows the aperture upright, one in front shows it turned by half a turn.
    A polygon has the area of the disc of the same radius, one corner up. An image spans the disc's bounding square.
    Edges are the ramp sat(signed distance to the edge + 1/2); the shape is drawn as much smaller as makes its mean
    squared radius that of the sharp one.
    """
    n, r = reach(aperture, abs(radius)), abs(radius)
    if n == 0:
        return torch.ones(1, 1, dtype=torch.float64)
    y, x = torch.meshgrid(*[torch.arange(-n, n + 1, dtype=torch.float64)] * 2, indexing="ij")
    drawn, wanted = r, r * r * _mean_square(aperture)
    for _ in range(8):
        kernel = _draw(aperture, drawn, x, y)
        drawn = math.sqrt(max(drawn**2 + 2 * (wanted - float((kernel * (x * x + y * y)).sum())), 0.25))
    return kernel.flip(0, 1) if radius > 0 else kernel


def _draw(aperture: Aperture, radius: float, x: Tensor, y: Tensor) -> Tensor:
    if isinstance(aperture, Tensor):
        kernel = _resampled(aperture, radius, x.shape[0] // 2)
    else:
        disk = aperture == "disk"
        inside = radius - torch.hypot(x, y) if disk else _inside_polygon(x, y, radius, BLADES[aperture])
        kernel = (inside + 0.5).clamp(0, 1)
    return kernel / kernel.sum()


def _mean_square(aperture: Aperture) -> float:
    """The mean squared distance from the centre, of the shape of radius 1."""
    if isinstance(aperture, Tensor):
        y, x = ((2 * torch.arange(n) + 1 - n) / max(aperture.shape) for n in aperture.shape)
        return float((aperture * (y[:, None] ** 2 + x**2)).sum() / aperture.sum())
    if aperture == "disk":
        return 0.5
    return _circumradius(BLADES[aperture]) ** 2 * (2 + math.cos(2 * math.pi / BLADES[aperture])) / 6


def _circumradius(blades: int) -> float:
    """Circumradius of the regular polygon whose area is that of the unit disc."""
    return math.sqrt(2 * math.pi / (blades * math.sin(2 * math.pi / blades)))


def _inside_polygon(x: Tensor, y: Tensor, radius: float, blades: int) -> Tensor:
    """Signed distance to the nearest side, positive inside; the first corner points up."""
    apothem = radius * _circumradius(blades) * math.cos(math.pi / blades)
    normals = [2 * math.pi * (side + 0.5) / blades - math.pi / 2 for side in range(blades)]
    return apothem - torch.stack([x * math.cos(a) + y * math.sin(a) for a in normals]).amax(0)


def _resampled(mask: Tensor, radius: float, n: int) -> Tensor:
    """The mask's longer side spread over [-r, r], averaged over each pixel by 8 x 8 samples."""
    fine, half = 8, max(mask.shape) / 2
    at = (torch.arange((2 * n + 1) * fine, dtype=torch.float64) + 0.5) / fine - n - 0.5
    row, column = (((at / radius) * half + size / 2).floor().long() for size in mask.shape)
    inside = ((row >= 0) & (row < mask.shape[0]))[:, None] & ((column >= 0) & (column < mask.shape[1]))
    samples = mask.double()[row.clamp(0, mask.shape[0] - 1)][:, column.clamp(0, mask.shape[1] - 1)] * inside
    kernel = F.avg_pool2d(samples[None, None], fine)[0, 0]
    if not bool((kernel > 0).any()):  # thinner than the samples: a point
        kernel[n, n] = 1
    return kernel
