"""How a picture is cut into slabs, and at what sizes these are worked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from argan.kernels.bokeh.aperture import Aperture, cat_eye_kernels, fitted_kernel, kernel_on, reach
from argan.kernels.bokeh.areas import Area, round_up

FINE = 6.0  # a slab is worked at the level where its radius is FINE to 2 FINE pixels (below 2 FINE: at full size)
OWN = 2  # halvings, at most, that slabs of a photo are worked at; those of more are taken from a smaller photo
DEEPEST = 5  # levels, at most, of the pyramid that fills in hidden surfaces
STEP = 0.5, 0.15  # neighbouring slabs are this far apart: pixels, and relative to the radius (at least one pixel)
BLOCK = 64  # discs are spread in blocks of this side
NOTCH = 0.25  # where cat's eyes differ from block to block, smaller ones: outlines differ by fewer pixels of a level
EPS = 1e-6


@dataclass
class Plan:
    """How one picture is cut into slabs, and what is needed to work on them. Slab 0 is the farthest."""

    radii: list[float]  # signed
    aperture: Aperture
    size: tuple[float, float]  # of the picture: height and width
    shrunk: int = 0  # how many times the picture was made half as large
    white: float = math.inf  # brighter light is a lamp's: it does not go on behind nearer things
    dark: bool = False  # whether there is light below black

    @classmethod
    def of(cls, coc: Tensor, aperture: Aperture) -> Plan:
        """The slabs that all blur radii in `coc` lie between."""
        farthest, nearest = float(coc.detach().amin()), float(coc.detach().amax())
        behind, before = slab_radii(max(-farthest, 0.0)), slab_radii(max(nearest, 0.0))
        radii = [-r for r in reversed(behind[1:])] + before
        return cls(radii, aperture, (coc.shape[-2], coc.shape[-1]))

    @property
    def largest(self) -> float:
        return max(-self.radii[0], self.radii[-1])

    def smaller(self) -> Plan:
        """The same slabs, of the picture at half the size."""
        height, width = self.size
        radii = [r / 2 for r in self.radii]
        return replace(self, radii=radii, size=(height / 2, width / 2), shrunk=self.shrunk + 1)

    def own_slabs(self) -> list[int]:
        """The slabs that are taken from the picture at this size, front to back."""
        levels = [self.level_of(abs(radius)) for radius in self.radii]
        own = range(OWN, OWN + 1) if self.shrunk else range(OWN + 1)
        return [k for k in reversed(range(len(levels))) if levels[k] in own]

    @cached_property
    def levels(self) -> int:
        """Levels that slabs are worked at."""
        return self.level_of(self.largest) + 1

    @cached_property
    def sides(self) -> bool:
        """Whether there are slabs on both sides of the focal plane."""
        return self.radii[0] < 0 < self.radii[-1]

    def side(self, k: int) -> int:
        """Of the focal plane: 1 before it, -1 behind it; 0 for all if nothing is on the other side."""
        return self.sides * ((self.radii[k] > 0) - (self.radii[k] < 0))

    @cached_property
    def widest(self) -> float:
        """The largest radius of what is worked at this size; smaller pictures' slabs need the one before them too."""
        ends = [k + lead for k in self.own_slabs() for lead in range(1 + bool(self.shrunk))]
        return max(abs(self.radii[min(k, len(self.radii) - 1)]) for k in ends)

    @cached_property
    def fill(self) -> int:
        """Levels of the pyramid that fills in hidden surfaces.

        Little is seen deeper than a quarter of a radius: a hidden surface's own, or that of what is blurred before it.
        """
        radius = max(self.widest, self.radii[-1], 1)
        return max(3, min(DEEPEST, math.ceil(math.log2(radius / 4))))

    @cached_property
    def cell(self) -> int:
        """The grid that regions are aligned to, so that they share all pyramids' cells and cat's eyes' blocks."""
        return max(2 ** (self.fill + 1), BLOCK) if self.aperture.cat_eye else 2**self.fill

    @cached_property
    def margin(self) -> int:
        """How far, at most, a pixel can lie from another that it depends on; a multiple of `cell`."""
        return round_up(reach(self.aperture, self.widest) + 2 * self.cell + self.cell // 4, self.cell)

    def group(self, k: int, sides: bool) -> tuple[int, int]:
        """Slabs are composited in groups of a level and of a side, which is 0 where not both `sides` are there."""
        level = self.level(k)
        return level, self.side(k) if sides or level > OWN else 0

    def level(self, k: int) -> int:
        """How many times slab k halves the resolution; in smaller pictures neighbours do as the picture's own slabs."""
        return OWN if self.shrunk else self.level_of(abs(self.radii[k]))

    def level_of(self, radius: float) -> int:
        return math.floor(math.log2(max(radius, FINE) / FINE))

    def level_radius(self, k: int) -> float:
        """Slab k's radius at its level, smaller by what `reduced` and `enlarged` blur by themselves."""
        radius, level = self.radii[k], self.level(k)
        own = 2 / 3 / 4**self.shrunk
        return math.copysign(math.sqrt((radius**2 + own) / 4**level - 5 / 3), radius) if level else radius

    def kernels(self, k: int, area: Area, like: Tensor) -> Tensor:
        """What slab k is spread by, (R,C,2n+1,2n+1), in R x C equal blocks of an area of the picture (whole cells)."""
        radius, level = self.level_radius(k), self.level(k)
        if not self.aperture.cat_eye or not radius:
            return kernel_on(self.aperture, radius, like.device, like.dtype)
        corner = math.hypot(*self.size) / 2
        finest = NOTCH * corner / 2**level / (self.aperture.cat_eye * self.aperture.lens_rim * abs(radius))
        block = min(max(4, 2 ** math.floor(math.log2(finest))), BLOCK, self.cell >> level) << level
        y, x = (
            (torch.arange(start + block / 2, end, block, device=like.device) - size / 2).to(like) / corner
            for start, end, size in zip((area.top, area.left), (area.bottom, area.right), self.size, strict=True)
        )
        return cat_eye_kernels(
            self.aperture, *fitted_kernel(self.aperture, radius), *torch.broadcast_tensors(x, y[:, None])
        )

    def place(self, coc: Tensor) -> Tensor:
        """Blur radii as places between slabs: k on slab k, and linear in c|c| from there to slab k + 1."""
        cuts = torch.tensor([r * abs(r) for r in self.radii], dtype=coc.dtype, device=coc.device)
        c2 = coc * coc.abs()
        k = torch.bucketize(c2.detach(), cuts[1:-1], right=True)
        return k + (c2 - cuts[k]) / cuts.diff()[k]


def slab_radii(largest: float) -> list[float]:
    """Radii 0, 1, 2, ... up to `largest`, in steps of one pixel or STEP, whichever is more.

    The last, at least 1, is `largest` rounded up by less than 3 %: what is blurred most, which may be all of a
    background, shows a disc and no mixture of two. It is half to one and a half steps away from the one before.
    """
    if largest == 0:
        return [0.0]
    last = max(1.0, 2 ** (math.ceil(32 * math.log2(largest) - EPS) / 32))
    radii = [0.0]
    while radii[-1] + 1.5 * (step := max(1.0, STEP[0] + STEP[1] * radii[-1])) <= last:
        radii.append(radii[-1] + step)
    return [*radii, last]
