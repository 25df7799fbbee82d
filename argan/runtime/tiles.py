"""A large picture in tiles: each with a halo that holds all that can reach its core through the lens."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

WHOLE = 2048  # px: a picture no larger than this each way is one tile, and a tile is no larger, halo included
STEP = 64, 512  # px: tiles begin at multiples of a power of two between these, see `step_of`

Region = tuple[slice, slice]


@dataclass(frozen=True)
class Tile:
    """`core` is what a tile contributes to the picture, `seen` is core and halo; both rows and columns."""

    core: Region
    seen: Region

    @property
    def core_in_seen(self) -> Region:
        rows, columns = (
            slice(core.start - seen.start, core.stop - seen.start)
            for core, seen in zip(self.core, self.seen, strict=True)
        )
        return rows, columns


def tiles(height: int, width: int, radius: float, whole: int = WHOLE) -> Iterator[Tile]:
    """Tiles of a picture, row by row, whose cores cover it once.

    Args:
        radius: px, of the largest blur disc.
        whole: px, the largest side of a tile. With discs so large that a tile would be mostly halo, tiles grow.
    """
    step = step_of(radius)
    halo = _up(math.ceil(radius) + STEP[0], step)
    for rows, seen_rows in _spans(height, halo, step, whole):
        for columns, seen_columns in _spans(width, halo, step, whole):
            yield Tile((rows, columns), (seen_rows, seen_columns))


def step_of(radius: float) -> int:
    """The coarsest cells that matter for discs of this radius, so that every tile has them where the picture has.

    The graph halves the size for ever larger discs (argan/kernels/bokeh/graph.py): a disc of radius r is worked at
    r / 8 and coarser, and what it uncovers is filled in from cells up to three times its radius.
    """
    return min(max(2 ** math.ceil(math.log2(max(3 * radius, 1))), STEP[0]), STEP[1])


def _spans(size: int, halo: int, step: int, whole: int) -> Iterator[tuple[slice, slice]]:
    """Cores of one axis, as even as `step` allows, each with what it sees."""
    if size <= whole:
        yield slice(0, size), slice(0, size)
        return
    longest = max(whole - 2 * halo, halo)
    core = _up(math.ceil(size / math.ceil(size / longest)), step)
    for start in range(0, size, core):
        stop = min(start + core, size)
        yield slice(start, stop), slice(max(0, start - halo), min(size, stop + halo))


def _up(size: int, step: int) -> int:
    """The next multiple of `step`."""
    return math.ceil(size / step) * step
