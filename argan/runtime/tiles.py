"""A large picture in tiles: each with a halo that holds all that can reach its core through the lens."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

WHOLE = 1152  # px: a picture no larger than this each way is one tile, and a tile is no larger, halo included
STEP = 64  # px: tiles begin at multiples of this, so that the graph's halvings meet the same pixels in every tile
MARGIN = 32  # px beyond the largest disc, for what is filled in behind edges; tiles differ from one run by < 0.3 / 255

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
    halo = _up(math.ceil(radius) + MARGIN)
    for rows, seen_rows in _spans(height, halo, whole):
        for columns, seen_columns in _spans(width, halo, whole):
            yield Tile((rows, columns), (seen_rows, seen_columns))


def _spans(size: int, halo: int, whole: int) -> Iterator[tuple[slice, slice]]:
    """Cores of one axis, as even as STEP allows, each with what it sees."""
    if size <= whole:
        yield slice(0, size), slice(0, size)
        return
    longest = max(whole - 2 * halo, halo)
    core = _up(math.ceil(size / math.ceil(size / longest)))
    for start in range(0, size, core):
        stop = min(start + core, size)
        yield slice(start, stop), slice(max(0, start - halo), min(size, stop + halo))


def _up(size: int) -> int:
    """The next multiple of STEP."""
    return math.ceil(size / STEP) * STEP
