"""Lamps: small lights of which a photo stores white, or full red, because they were brighter than it can say.

Out of focus a lamp is a bright disc with the shape of the aperture. Made from what is stored it would be a dim one: its
light is spread over a thousand pixels, and nearly all of it was cut off. How bright it was nobody knows; it is taken to
be so many times as bright as it is stored. Skies, walls and petals are white over more of the picture, and stay so.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.kernels.bokeh.areas import Area
from argan.light import luminance

CUT_OFF = 0.85, 0.97  # linear light from which the brightest channel may have been cut off, and was (ramp)
BRIGHT = 0.15, 0.35  # luminance from which a pixel may be a lamp's, and is: red ones are half sure (ramp)
AROUND = 0.04  # of the photo's long side: the square around a pixel that says how small a light is
SMALL = 0.15, 0.35  # of that square: what a lamp covers at most, and what is no lamp (ramp)
CELLS = 15  # across that square, in which bright pixels are counted
BLURRED = 0.5, 1.5  # px of blur radius: what is sharp stays as it is (ramp)
STRIP = 64  # rows of cells that are looked at together: large photos' light is not held at once


class Lamps:
    """The lamps of a photo.

    Args:
        light: an area of the photo -> its linear light (1, 3, h, w).
        picture: the area of all of it.
        brightness: how many times as bright as they are stored lamps are.
    """

    def __init__(self, light: Callable[[Area], Tensor], picture: Area, brightness: float):
        self.brightness = brightness
        around = max(picture.size) * AROUND
        self.cell = max(1, round(around / CELLS))
        side = 2 * round((around / self.cell - 1) / 2) + 1  # odd, a cell in its middle
        step = STRIP * self.cell
        strips = [
            Area(top, min(top + step, picture.bottom), 0, picture.right) for top in range(0, picture.bottom, step)
        ]
        counted = torch.cat([_cells(_brilliance(light(strip)), self.cell) for strip in strips], 2)
        share = F.avg_pool2d(counted, side, 1, side // 2, count_include_pad=False)
        self.smallness = 1 - _ramp(F.max_pool2d(share, side, 1, side // 2), SMALL)  # 0 beside the end of a wall, too

    def lit(self, light: Tensor, coc: Tensor, area: Area) -> Tensor:
        """The light (1, 3, h, w) of an area with blur radii (1, 1, h, w), and in it lamps as bright as they may be."""
        rows, columns = (
            torch.arange(start, end, device=light.device) // self.cell
            for start, end in ((area.top, area.bottom), (area.left, area.right))
        )
        smallness = self.smallness.index_select(2, rows).index_select(3, columns)
        lamp = _brilliance(light) * smallness * _ramp(coc.abs(), BLURRED)
        return light * (1 + (self.brightness - 1) * lamp)


def _brilliance(light: Tensor) -> Tensor:
    """How surely pixels (1, 3, h, w) were brighter than is stored: (1, 1, h, w)."""
    return _ramp(light.amax(1, keepdim=True), CUT_OFF) * _ramp(luminance(light), BRIGHT)


def _cells(x: Tensor, cell: int) -> Tensor:
    """Means over squares of `cell` pixels, those at the end over what there is of them."""
    return F.avg_pool2d(x, cell, ceil_mode=True, count_include_pad=False)


def _ramp(x: Tensor, ends: tuple[float, float]) -> Tensor:
    """From 0 at one end to 1 at the other."""
    return ((x - ends[0]) / (ends[1] - ends[0])).clamp(0, 1)
