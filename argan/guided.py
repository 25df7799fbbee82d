"""Bring a coarse disparity map to the photo's full size, with its edges on the photo's edges.

A fast guided filter (He and Sun, "Fast Guided Filter", arXiv:1505.00996, 2015): in every window the disparity is
explained as an affine function of the photo's colour, q = a . I + b. The coefficients (a, b) are found on a small grid
and only applied at full size, so the cost at full size is four bilinear resizes. Pooling, resizing and arithmetic only,
and no branch on a size: the same code is traced into every exported graph.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

GRID = 4  # grid cells per coarse disparity pixel, along each side
RADIUS = 4  # window radius in grid cells: one coarse pixel, so that a window sees both sides of a misplaced edge
EPS = 1e-4  # colour variance (units of I squared, I in [0, 1]) below which a window counts as flat


def guided_upsample(disparity: Tensor, image: Tensor) -> Tensor:
    """Upsample `disparity` (B, 1, h, w) in [0, 1] to the size of `image` (B, 3, H, W), display-encoded RGB in [0, 1].

    Returns (B, 1, H, W) in [0, 1], in `image`'s dtype. Differentiable, exportable with dynamic sizes; H, W >= 16.
    """
    full_size = image.shape[-2:]
    grid_size = (disparity.shape[-2] * GRID, disparity.shape[-1] * GRID)
    a, b = _affine(resize(image, grid_size), resize(disparity, grid_size))
    # a . I + b one channel at a time: at 12 megapixels each full-size plane is 48 MB
    result = resize(b, full_size)
    for channel in range(3):
        one = slice(channel, channel + 1)
        result = result + resize(a[:, one], full_size) * image[:, one]
    return result.clamp(0, 1)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of (B, C, H, W) to `size` = (height, width), area-weighted (anti-aliased) where it shrinks."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)


def _affine(guide: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Window-averaged (a, b) of the least-squares fit target = a . guide + b: (B, 3, h, w) and (B, 1, h, w)."""
    mean_guide, mean_target = _box(guide), _box(target)
    r, g, b = guide.unbind(1)
    products = torch.stack([r * r, r * g, r * b, g * g, g * b, b * b], dim=1)
    mr, mg, mb = mean_guide.unbind(1)
    means = torch.stack([mr * mr, mr * mg, mr * mb, mg * mg, mg * mb, mb * mb], dim=1)
    variance = _box(products) - means
    covariance = _box(guide * target) - mean_guide * mean_target
    a = _solve(variance, covariance)
    b = mean_target - (a * mean_guide).sum(1, keepdim=True)
    return _box(a), _box(b)


def _solve(variance: Tensor, covariance: Tensor) -> Tensor:
    """(V + EPS identity)^-1 c for the symmetric 3 x 3 V = (rr, rg, rb, gg, gb, bb) of every pixel, by its adjugate."""
    rr, rg, rb, gg, gb, bb = variance.unbind(1)
    rr, gg, bb = rr + EPS, gg + EPS, bb + EPS
    row_r = torch.stack([gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb], dim=1)
    row_g = torch.stack([row_r[:, 1], rr * bb - rb * rb, rg * rb - rr * gb], dim=1)
    row_b = torch.stack([row_r[:, 2], row_g[:, 2], rr * gg - rg * rg], dim=1)
    cr, cg, cb = covariance.split(1, dim=1)
    determinant = (torch.stack([rr, rg, rb], dim=1) * row_r).sum(1, keepdim=True)
    return (row_r * cr + row_g * cg + row_b * cb) / determinant


def _box(x: Tensor) -> Tensor:
    """Mean over the (2 RADIUS + 1)^2 window, borders extended."""
    size = 2 * RADIUS + 1
    x = F.avg_pool2d(F.pad(x, (RADIUS, RADIUS, 0, 0), mode="replicate"), (1, size), stride=1)
    return F.avg_pool2d(F.pad(x, (0, 0, RADIUS, RADIUS), mode="replicate"), (size, 1), stride=1)
