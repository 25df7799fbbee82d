"""The photo renderer in plain PyTorch: the definition, the CPU path, and what gradients are taken of.

README.md beside this file derives every formula. In short, with c = radius * (disparity - focus) the signed blur radius
in pixels (positive in front of the focal plane):

1. *Slabs.* The scene is cut at signed radii ... -2, -1, 0, 1, 2, ... (`slab_radii`). A pixel belongs to the two slabs around
   its c, with tent weights in c|c|, so the mean squared radius - the size of the disc - is exact between slabs too.
2. *Hidden surfaces.* What a slab may hold behind nearer things is filled in smoothly from what can be seen (`inpaint`).
3. *Discs.* Colour and alpha of every slab are spread by the normalised aperture, at the resolution where the radius is
   FINE to 2 FINE pixels (`Working`).
4. *Compositing.* Front to back with `over`, with the alpha of a slab taken *given that the ray passed its nearer
   neighbour's share of the same surface* (`Composite.add`): surfaces that run through many slabs stay opaque.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.kernels.bokeh.aperture import Aperture, aperture_kernel, reach

FINE = 8.0  # a slab is worked at the level where its radius is FINE to 2 FINE pixels (all radii below 2 FINE: at full size)
STEP = 0.12  # distance of neighbouring slabs relative to their radius (at least one pixel)
FILL = 2  # hidden surfaces are smooth: they are filled in at a quarter of the full size or coarser
EPS = 1e-6

Spread = Callable[[Tensor, float, float], Tensor]  # (layer, radius in its pixels, sign) -> blurred layer


def slab_radii(largest: float) -> list[float]:
    """Radii 0, 1, 2, ... that reach `largest`, in steps of one pixel or STEP, whichever is more."""
    radii = [0.0]
    while radii[-1] < largest:
        radii.append(radii[-1] + max(1.0, STEP * radii[-1]))
    return radii


def level_of(radius: float) -> int:
    """How many times to halve the resolution for a slab of this radius."""
    return max(0, math.floor(math.log2(max(abs(radius), FINE) / FINE)))


def spread(layer: Tensor, radius: float, aperture: Aperture) -> Tensor:
    """Every pixel's light spread over the aperture's image of signed `radius`; the frame's edge is extended."""
    kernel = aperture_kernel(aperture, radius)
    half = kernel.shape[-1] // 2
    if half == 0:
        return layer
    channels = layer.shape[1]
    weight = kernel.flip(0, 1).to(layer).expand(channels, 1, -1, -1)  # conv2d correlates
    return F.conv2d(F.pad(layer, (half,) * 4, mode="replicate"), weight, groups=channels)


def inpaint(layer: Tensor, known: Tensor, levels: int) -> Tensor:
    """Fills `layer` (B,C,h,w), premultiplied by `known` (B,1,h,w) in [0, 1], smoothly into where nothing is known.

    Pull: averages of what is known, at half the size each time. Push: what is unknown at a size comes from the next
    coarser one. A cell of which a quarter is known trusts itself. What is farther than 2^levels from all known is 0.
    """
    pyramid = [torch.cat([layer, known], 1)]
    for _ in range(levels):
        mean = F.avg_pool2d(pyramid[-1], 2, ceil_mode=True)
        seen = mean[:, -1:]
        pyramid.append(mean * ((4 * seen).clamp(max=1) / seen.clamp(min=EPS)))
    filled = pyramid.pop()
    for finer in reversed(pyramid):
        filled = finer + (1 - finer[:, -1:]) * enlarge(filled, 2, finer)
    return filled[:, :-1] / filled[:, -1:].clamp(min=EPS)


def enlarge(small: Tensor, factor: int, like: Tensor) -> Tensor:
    """`small` made `factor` times larger, bilinearly, cropped to the size of `like`."""
    if factor == 1:
        return small
    height, width = like.shape[-2:]
    return F.interpolate(small, scale_factor=factor, mode="bilinear", align_corners=False)[..., :height, :width]


@dataclass
class Slabs:
    """The cuts of one picture, back to front: slab k holds what lies between radii[k - 1] and radii[k + 1]."""

    radii: list[float]

    @classmethod
    def covering(cls, lowest: float, highest: float) -> Slabs:
        """Slabs for all signed blur radii in [lowest, highest], with two spare ones at either end."""
        behind, before = slab_radii(max(-lowest, 0.0) + 1), slab_radii(max(highest, 0.0) + 1)
        return cls([-r for r in reversed(behind[1:])] + before)

    def cut(self, k: int) -> float:
        """Where slab k lies in c|c|."""
        return self.radii[k] * abs(self.radii[k])

    def ramp(self, c2: Tensor, k: int) -> Tensor:
        """0 for what lies behind slab k - 1, rising to 1 at slab k: how much of a pixel is nearer than the gap between them."""
        if k <= 0:
            return torch.ones_like(c2)
        if k >= len(self.radii):
            return torch.zeros_like(c2)
        low, high = self.cut(k - 1), self.cut(k)
        return ((c2 - low) / (high - low)).clamp(0, 1)


class Composite:
    """A front-to-back `over` of blurred layers at one resolution: colour gathered and transmittance left."""

    def __init__(self, like: Tensor, nearer: Tensor | None):
        self.colour = torch.zeros_like(like[:, :3])
        self.through = torch.ones_like(like[:, :1])
        self.nearer = torch.zeros_like(self.through) if nearer is None else nearer  # alpha of the slab just in front

    def add(self, layer: Tensor) -> None:
        """Put the premultiplied RGBA `layer` behind all that is here.

        The slab just in front holds parts of the same surfaces: they block disjoint parts of the aperture, so of the
        rays that pass it a share alpha / (1 - its alpha) is blocked here. All others are independent, as in `over`.
        """
        alpha = layer[:, 3:]
        layer = layer / torch.maximum(alpha, 1 - self.nearer).clamp(min=EPS)
        self.colour = self.colour + self.through * layer[:, :3]
        self.through = self.through * (1 - layer[:, 3:])
        self.nearer = alpha


def render_region(image: Tensor, coc: Tensor, slabs: Slabs, aperture: Aperture, fill_levels: int) -> Tensor:
    """Renders (B,3,h,w) from the signed blur radii `coc` (B,1,h,w); sizes are multiples of the coarsest cell."""
    c2 = coc * coc.abs()
    rgba = torch.cat([image, torch.ones_like(coc)], 1)
    colour, through = torch.zeros_like(image), torch.ones_like(coc)
    group, group_level, nearer = None, 0, None

    def flush():
        nonlocal colour, through
        scale = 2**group_level
        colour = colour + through * enlarge(group.colour, scale, image)
        through = through * enlarge(group.through, scale, image)

    for k in reversed(occupied(c2, slabs)):
        level = level_of(slabs.radii[k])
        layer = slab(rgba, c2, slabs, k, level, fill_levels)
        layer = spread(layer, working_radius(slabs.radii[k], level), aperture)
        if group is None or level != group_level:
            if group is not None:
                flush()
                nearer = resize(group.nearer, group_level, level)
            group, group_level = Composite(layer, nearer), level
        group.add(layer)
    flush()
    return colour / (1 - through).clamp(min=EPS)


def resize(x, old, new):
    if new > old:
        return F.avg_pool2d(x, 2 ** (new - old))
    return enlarge(x, 2 ** (old - new), torch.empty(x.shape[-2] * 2 ** (old - new), x.shape[-1] * 2 ** (old - new)))


def occupied(c2: Tensor, slabs: Slabs) -> list[int]:
    """The slabs that hold at least one pixel."""
    cuts = torch.tensor([slabs.cut(k) for k in range(len(slabs.radii))], dtype=c2.dtype, device=c2.device)
    gap = torch.bucketize(c2.detach(), cuts, right=True) - 1  # cuts[gap] <= c2 < cuts[gap + 1]
    counts = torch.bincount(gap.flatten(), minlength=len(cuts)).tolist()
    return [k for k in range(len(cuts)) if counts[k] or (k and counts[k - 1])]


def working_radius(radius: float, level: int) -> float:
    """Radius in pixels of a level; averaging down and bilinear up blur by themselves like a disc of one pixel there."""
    if level == 0:
        return radius
    return math.copysign(math.sqrt((radius / 2**level) ** 2 - 1), radius)


def slab(rgba: Tensor, c2: Tensor, slabs: Slabs, k: int, level: int, fill_levels: int) -> Tensor:
    """Premultiplied RGBA of slab k at a level: what is seen of it, and what it may hold behind nearer things."""
    nearer = slabs.ramp(c2, k + 1)
    shrink = (lambda x, n: F.avg_pool2d(x, 2**n)) if True else None
    seen = rgba * (slabs.ramp(c2, k) - nearer)
    hidden = slabs.ramp(c2, k + 2)
    small = max(level, FILL)
    if level:
        seen, hidden, nearer = (shrink(x, level) for x in (seen, hidden, nearer))
    if not bool((hidden.detach() > 0).any()):
        return seen
    filled = inpaint(shrink(seen, small - level), shrink(1 - nearer, small - level), max(0, fill_levels - small))
    return seen + hidden * enlarge(filled, 2 ** (small - level), seen)


def render(image: Tensor, coc: Tensor, aperture: Aperture, tile: int | None = None) -> Tensor:
    """Renders linear light (B,3,H,W) from signed blur radii (B,1,H,W), tile by tile: memory does not grow with the photo."""
    lowest, highest = float(coc.detach().min()), float(coc.detach().max())
    slabs = Slabs.covering(lowest, highest)
    largest = max(-lowest, highest)
    fill_levels = max(FILL + 1, math.ceil(math.log2(max(largest, 1) / 2)))
    cell = 2 ** max(fill_levels, level_of(largest))
    halo = round_up(reach(aperture, largest) + 2**(fill_levels + 1), cell)
    tile = round_up(tile or max(512, 8 * halo), cell)
    height, width = image.shape[-2:]
    pad = (0, round_up(width, cell) - width, 0, round_up(height, cell) - height)
    image, coc = (F.pad(x, pad, mode="replicate") for x in (image, coc))
    out = []
    for top in range(0, height, tile):
        row = []
        for left in range(0, width, tile):
            y, x = max(0, top - halo), max(0, left - halo)
            area = (..., slice(y, top + tile + halo), slice(x, left + tile + halo))
            region = render_region(image[area], coc[area], slabs, aperture, fill_levels)
            row.append(region[..., top - y : min(top + tile, height) - y, left - x : min(left + tile, width) - x])
        out.append(torch.cat(row, -1))
    return torch.cat(out, -2)


def round_up(n: int, cell: int) -> int:
    return -(-n // cell) * cell
