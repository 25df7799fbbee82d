"""What a picture is taken apart into, sheets, and put together from, composites of layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.kernels.bokeh.areas import Area, enlarged, halved, largest, smallest, window
from argan.kernels.bokeh.plan import EPS, OWN, Plan

NOWHERE = -1e4  # the place of a far surface where there is none
TRUST = 16  # what is known of a TRUST-th part of a cell is known well enough
ASIDE = 2.0  # how far the middle of the aperture's free part moves; straight edges half-way across it: 4/3
RADIAL = {0: 0, 1: 1, -1: 4}  # channels whose slopes `Composite` needs, by its side: none, alpha, RGBA


@dataclass
class Sheets:
    """The surfaces in a region's pixels: a near one in every pixel, and a far one in those at depth edges.

    RGBA is premultiplied by a surface's share of its pixel; places are `Plan.place`'s.
    """

    near: Tensor  # (1,4,h,w)
    place: Tensor  # (1,1,h,w)
    far: Tensor  # (4,N)
    far_place: Tensor  # (1,N)
    rows: Tensor  # (N,)
    columns: Tensor  # (N,)
    cell: int  # the side of `extremes`' cells

    @cached_property
    def extremes(self) -> tuple[Tensor, Tensor]:
        """The nearest and the farthest place in every cell, (rows,columns)."""
        place, far_place = self.place.detach()[0, 0], self.far_place.detach()[0]
        least = place.index_put((self.rows, self.columns), far_place)
        return largest(place, self.cell), smallest(least, self.cell)

    @cached_property
    def row_starts(self) -> Tensor:
        """Where each row's far surfaces begin among all, (h+1,)."""
        return torch.searchsorted(self.rows, torch.arange(self.place.shape[-2] + 1, device=self.rows.device))

    @cached_property
    def arrays(self) -> tuple[Any, ...]:
        """All of it, as numpy has it, for back ends that loop."""
        tensors = (self.near[0], self.place[0, 0], self.far, self.far_place[0], self.columns, self.row_starts)
        return tuple(x.numpy() for x in (*tensors, *self.extremes))

    def weighted(self, weight: Callable[[Tensor], Tensor], area: Area, channels: slice = slice(4)) -> Tensor:
        """RGBA of all surfaces in an area, or some of its channels, each weighted by a function of its place."""
        total = self.near[area.index()][:, channels] * weight(self.place[area.index()])
        rows, columns = self.rows - area.top, self.columns - area.left
        height, width = area.size
        inside = ((rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)).nonzero()[:, 0]
        if len(inside):
            pixels = (rows * width + columns)[inside]
            far = self.far[channels, inside] * weight(self.far_place[:, inside])
            total.view(total.shape[1], -1).index_add_(1, pixels, far)
        return total

    @cached_property
    def far_planes(self) -> tuple[Tensor, Tensor]:
        """The far surface in every pixel, RGBA (1,4,h,w) and place (1,1,h,w): 0 and NOWHERE where there is none."""
        pixels, size = self.rows * self.near.shape[-1] + self.columns, self.place[0, 0].numel()
        rgba = self.far.new_zeros(4, size).index_copy(1, pixels, self.far)
        place = self.far.new_full((1, size), NOWHERE).index_copy(1, pixels, self.far_place)
        return rgba.view_as(self.near), place.view_as(self.place)


def occurrences(sheets: Sheets, plan: Plan) -> list[tuple[Area | None, Area | None]]:
    """Of each slab: where in the region it occurs, and where it may be hidden, in whole cells; None: nowhere."""
    nearest, farthest = sheets.extremes
    k = torch.arange(len(plan.radii), device=nearest.device)[:, None, None]
    seen = (nearest > k - 1) & (farthest < k + 1)
    near_by = F.max_pool2d(seen.to(nearest), 5, 1, 2) > 0  # as far as `fill` fills
    hidden = near_by & (nearest > k + 1)
    areas = bounding_areas(torch.cat([seen, hidden]), plan.cell)
    return list(zip(areas[: len(seen)], areas[len(seen) :], strict=True))


def bounding_areas(cells: Tensor, cell: int) -> list[Area | None]:
    """The rectangle of pixels around all cells (K,rows,columns) that are true, for each k; None if none is."""
    columns, rows = cells.any(1).int(), cells.any(2).int()
    ends = [end for line in (rows, columns) for end in (line.argmax(1), line.shape[1] - line.flip(1).argmax(1))]
    found = torch.stack([rows.amax(1), *ends], 1).tolist()  # a GPU is waited for here, once
    return [Area(*(cell * end for end in area)) if some else None for some, *area in found]


class Composite:
    """Layers put one behind the other: their premultiplied RGBA, and what light passes them all.

    Begins with the alpha (B,1,h,w) of the slab just in front. RGBA's alpha is 1 - through, rounded like its colours.
    Layers may be worked at 1 / 2^level of the size, and lie on one `side` of the focal plane: 1 before it, -1 behind.
    """

    def __init__(self, nearer: Tensor, level: int = 0, side: int = 0):
        count, _, *size = nearer.shape
        self.rgba = nearer.new_zeros(count, 4, *size)
        self.through = torch.ones_like(nearer)
        self.nearer = nearer
        self.level, self.side = level, side
        self.radial = nearer.new_zeros(count, RADIAL[side], *size)  # layers times their radii
        self.farthest = nearer.new_zeros(count, 5, *Area.of(nearer).at_level(self.finer).size)  # see `keep`
        self.middle: Tensor | None = None  # of the part of the aperture that lets light pass, x and y; 1: the rim
        self.view: Area | None = None  # what is wanted of it, at full size; None: all

    def group(self, level: int, side: int) -> Composite:
        """What layers of that level and side are to be added to, for `add_group`. Fine ones may be added right here."""
        if side < 0 and self.middle is None:  # nothing before the focal plane hides them
            side = 0
        return Composite(halved(self.nearer, level), level, side) if level or side else self

    @staticmethod
    def channels(side: int) -> int:
        """Of `state`."""
        return 11 + RADIAL[side]

    def state(self) -> Tensor:
        """All of it in one (1,C,h,w)."""
        return torch.cat([self.rgba, self.through, self.nearer, self.farthest, self.radial], 1)

    @classmethod
    def part(cls, state: Tensor, level: int, side: int, view: Area) -> Composite:
        """From the `state` of a whole picture, OWN or coarser, what a view of it is made of, for `add_group`."""
        cells = view.cells(level, beyond=2)  # for slopes, and interpolation between them
        rgba, through, nearer, farthest, radial = window(state, cells).split([4, 1, 1, 5, RADIAL[side]], 1)
        part = cls(nearer, level, side)
        part.rgba, part.through, part.farthest, part.radial = rgba, through, farthest, radial
        part.view = view.seen_from(cells.from_level(level))
        return part

    def add_nothing(self) -> None:
        """The slab just in front is empty."""
        self.nearer = torch.zeros_like(self.nearer)

    @property
    def finer(self) -> int:
        """How many times its layers are halved for `farthest`, which is at OWN or coarser."""
        return max(OWN - self.level, 0)

    def add_group(self, group: Composite, behind: Callable[[Composite, Composite], None], dark: bool = False) -> None:
        """Puts a finished group of layers behind all that is here, by a back end's `behind`; `dark` as in `Plan`."""
        if group is self:
            return
        if group.side < 0 and self.middle is not None:
            group.shift(self.middle, dark)
        if group.side > 0:
            passing = group.enlarged(group.passing())
            self.middle = passing if self.middle is None else self.middle + passing
        behind(self, group)
        farthest = enlarged(group.farthest, 2 ** max(group.level - OWN, 0))
        farthest = farthest if group.view is None else farthest[group.view.at_level(OWN).index()]
        self.farthest = before(farthest, self.farthest)

    def beyond(self, around: Tensor | None) -> Composite:
        """What is to be put behind all that is here: the farther of its own farthest and the `backdrop_in` its view."""
        rgba = (self.farthest if around is None else farther(self.farthest, around))[:, :4]
        group = Composite(torch.zeros_like(rgba[:, 3:]), OWN)
        group.rgba, group.through = rgba, 1 - rgba[:, 3:]
        return group

    def enlarged(self, x: Tensor) -> Tensor:
        """One of its own at full size."""
        x = enlarged(x, 2**self.level)
        return x if self.view is None else x[self.view.index()]

    def passing(self) -> Tensor:
        """The middle of the part of the aperture where light passes these layers: away from where they are denser."""
        across, down = rises(self.radial)
        return ASIDE / 2 * (self.through - 1) * torch.cat([F.pad(across, (1, 1)), F.pad(down, (0, 0, 1, 1))], 1)

    def shift(self, middle: Tensor, dark: bool) -> None:
        """These layers as they are seen through a part of the aperture with that middle, to first order.

        What is light stays light, and what is below black stays below it: each is moved by itself. Alpha is 1 at most.
        """
        if self.view is not None:
            middle = window(middle, Area.of(self.rgba).from_level(self.level).seen_from(self.view))
        x, y = halved(middle, self.level).split(1, 1)

        def moved(rgba: Tensor, radial: Tensor) -> Tensor:
            across, down = rises(radial)
            rgba = rgba.clone()
            rgba[..., 1:-1].addcmul_(x[..., 1:-1], across, value=0.5)
            rgba[..., 1:-1, :].addcmul_(y[..., 1:-1, :], down, value=0.5)
            return rgba

        light, of_light = self.rgba, self.radial
        if dark:
            light, of_light = light.clamp(min=0), of_light.clamp(max=0)  # radii behind the focal plane are below 0
        lit = moved(light, of_light).clamp_(min=0)
        rgba = lit + moved(self.rgba - light, self.radial - of_light).clamp_(max=0) if dark else lit
        self.rgba = rgba / rgba[:, 3:].clamp(min=1)
        self.through = 1 - self.rgba[:, 3:]


def trusted(x: Tensor, known: Tensor) -> Tensor:
    """x, premultiplied by the part of each cell that is `known`, as if a cell were known well enough or not at all."""
    return x / known.clamp(min=1 / TRUST)


def before(layer: Tensor, others: Tensor) -> Tensor:
    """A layer before others: premultiplied RGBA, and more."""
    return torch.addcmul(layer, others, 1 - layer[:, 3:4])


def farther(one: Tensor, other: Tensor) -> Tensor:
    """The farther of two before the other; RGBA and blur radius (B,5,h,w), premultiplied.

    As slabs hide what is farther, one gives way to the other if it is nearer by a pixel of blur radius to two.
    """
    radius, others_radius = (x[:, 4:] / x[:, 3:4].clamp(min=EPS) for x in (one, other))
    return torch.lerp(before(one, other), before(other, one), (radius - others_radius - 1).clamp(0, 1))


def rises(x: Tensor) -> tuple[Tensor, Tensor]:
    """By how much x rises across (B,C,h,w-2) and down (B,C,h-2,w), from one neighbour to the other; at the rim by 0."""
    return x[..., 2:] - x[..., :-2], x[..., 2:, :] - x[..., :-2, :]
