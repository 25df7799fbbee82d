"""What lies behind blurred things, deeper than slabs are filled in: a picture at a low resolution, put behind all."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from argan.kernels.bokeh.areas import Area, by_tiles, enlarged, halved, replicated, round_up, window
from argan.kernels.bokeh.plan import OWN, Plan

FARTHER = 2.0  # px of blur radius: what is nearer by that much counts for 1 / e of what is farthest
BEYOND = 2  # sizes of cells, at most, that are larger than the picture: they hold its edge, over and over


def backdrop(light: Callable[[Area], Tensor], coc: Tensor, plan: Plan, tile: int, *, recorded: bool) -> Tensor | None:
    """The farthest surfaces around the cells of 2^plan.fill pixels that show nearer ones.

    Premultiplied RGBA and blur radius (1,5,h,w).

    Pull: four cells make one, in which the farthest count most, up to the size of the widest disc before the focal
    plane; from farther away no light comes. Push: a cell that is nearer than what lies around it is replaced by that,
    one half of which was found among larger cells, the other among the cells beside it, to go on from what is seen.
    None where nothing is blurred so much that light could pass it where slabs are not filled in any more.
    """
    widest = plan.radii[-1]
    if widest <= 2**plan.fill:  # half as deep as slabs are filled in
        return None

    def cells(area: Area) -> Tensor:
        shown = halved(torch.cat([light(area).clamp(max=plan.white), window(coc, area)], 1), OWN)
        mean = halved(shown[:, 3:], plan.fill - OWN)
        for _ in range(plan.fill - OWN):
            shown = farthest_of(fours(shown))
        return torch.cat([shown, mean], 1)

    whole, tile = Area.of(coc).rounded_up(2**plan.fill), round_up(tile, 2**plan.fill)
    every = by_tiles(cells, whole, tile, recorded=recorded, threads=coc.is_cpu, level=plan.fill)
    shown, mean = every.split([4, 1], 1)
    all_of_it = (max(shown.shape[-2:]) - 1).bit_length()  # the size at which one cell has all of the picture
    sizes = min(math.ceil(math.log2(widest)) - plan.fill, all_of_it + BEYOND)
    pyramid = [window(shown, Area.of(shown).rounded_up(2**sizes))]
    for _ in range(sizes):
        pyramid.append(farthest_of(fours(pyramid[-1])))
    found = farthest_of(nines(pyramid.pop()))
    while pyramid:
        cell, around = pyramid.pop(), farthest_between(found)
        around = torch.lerp(around, unless_nearer(farthest_of(nines(cell)), around), 0.5)
        found = unless_nearer(cell, around)
    hides = nearer(window(mean, Area.of(around)), around)
    return torch.cat([hides * around[:, :3], hides, hides * around[:, 3:]], 1)


def backdrop_in(view: Area, whole: Tensor, plan: Plan) -> Tensor | None:
    """What of the picture's backdrop a view of it shows, as large as `Composite.farthest`; None: nothing."""
    cells = view.cells(plan.fill, beyond=1)  # for interpolation between them
    part = window(whole, cells)
    if not bool((part.detach()[:, 3] > 0).any()):
        return None
    shown = view.seen_from(cells.from_level(plan.fill)).at_level(OWN)
    return enlarged(part, 2 ** (plan.fill - OWN))[shown.index()]


def farthest_of(cells: list[Tensor], shares: tuple[float, ...] = (1.0,)) -> Tensor:
    """Of light and blur radius (1,4,h,w), the mean by those shares in which the farthest count most."""
    several = torch.cat(cells)
    place = several[:, 3:]
    weight = torch.exp((place.detach().amin(0) - place) / FARTHER)  # the mean does not depend on what is subtracted
    weight = weight * weight.new_tensor(shares).view(-1, 1, 1, 1)
    return (several * weight).sum(0, keepdim=True) / weight.sum(0, keepdim=True)


def fours(x: Tensor) -> list[Tensor]:
    """The cells that make one of twice the size."""
    return [x[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]


def farthest_between(x: Tensor) -> Tensor:
    """(1,4,h,w) at twice the size, bilinearly, but that of the cells that one lies between the farthest count most."""
    cells = nines(x)

    def quarter(row: int, column: int) -> Tensor:
        beside = (cells[4], cells[3 + column], cells[3 * row + 1], cells[3 * row + column])
        return farthest_of(list(beside), (9, 3, 3, 1))

    rows = [torch.stack([quarter(row, column) for column in (0, 2)], -1).flatten(-2) for row in (0, 2)]
    return torch.stack(rows, -2).flatten(-3, -2)


def nines(x: Tensor) -> list[Tensor]:
    """Each cell and those around it."""
    height, width = x.shape[-2:]
    x = replicated(x)
    return [x[..., row : row + height, column : column + width] for row in range(3) for column in range(3)]


def unless_nearer(x: Tensor, around: Tensor) -> Tensor:
    """x, but what is `around` where that is farther."""
    return torch.lerp(x, around, nearer(x, around))


def nearer(x: Tensor, around: Tensor) -> Tensor:
    """As slabs hide what is farther by more than one: not up to a pixel of blur radius, wholly from two on."""
    return (x[:, -1:] - around[:, -1:] - 1).clamp(0, 1)
