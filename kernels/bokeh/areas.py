"""Areas of pictures: rectangles, tiles that are worked at the same time, and other sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.kernels.backend import Setting, full_precision

WORKERS = 4  # tiles that are worked at the same time, at most: each needs memory
THREADS = Setting(torch.get_num_threads, torch.set_num_threads)


@dataclass(frozen=True)
class Area:
    """A rectangle of pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def of(cls, x: Tensor) -> Area:
        return cls(0, x.shape[-2], 0, x.shape[-1])

    def grown(self, by: int) -> Area:
        return Area(self.top - by, self.bottom + by, self.left - by, self.right + by)

    def within(self, other: Area) -> Area:
        top, left = max(self.top, other.top), max(self.left, other.left)
        return Area(top, max(top, min(self.bottom, other.bottom)), left, max(left, min(self.right, other.right)))

    def seen_from(self, other: Area) -> Area:
        """In coordinates that begin at the other's corner."""
        return Area(self.top - other.top, self.bottom - other.top, self.left - other.left, self.right - other.left)

    def moved_from(self, other: Area) -> Area:
        """The inverse of `seen_from`."""
        return Area(self.top + other.top, self.bottom + other.top, self.left + other.left, self.right + other.left)

    def short_of(self, other: Area) -> tuple[int, int, int, int]:
        """How far the other reaches beyond it to the left, right, top and bottom."""
        return self.left - other.left, other.right - self.right, self.top - other.top, other.bottom - self.bottom

    def at_level(self, level: int) -> Area:
        return Area(self.top >> level, self.bottom >> level, self.left >> level, self.right >> level)

    def from_level(self, level: int) -> Area:
        """The inverse of `at_level`."""
        return Area(self.top << level, self.bottom << level, self.left << level, self.right << level)

    def cells(self, level: int, beyond: int) -> Area:
        """The cells of 2^level pixels that hold it, and some more around them."""
        grown, unit = self.grown(beyond << level), 1 << level
        return Area(grown.top // unit, -(-grown.bottom // unit), grown.left // unit, -(-grown.right // unit))

    def rounded_up(self, unit: int) -> Area:
        """An area that begins at (0, 0), extended to whole cells of so many pixels."""
        return Area(0, round_up(self.bottom, unit), 0, round_up(self.right, unit))

    def index(self) -> tuple:
        """An index into pictures."""
        return (..., slice(self.top, self.bottom), slice(self.left, self.right))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def pixels(self) -> int:
        return math.prod(self.size)


def window(x: Tensor, area: Area) -> Tensor:
    """The part of x in `area`, which may reach beyond it: its edge is extended."""
    height, width = x.shape[-2:]
    inside = area.within(Area(0, height, 0, width))
    beyond = inside.short_of(area)
    return replicated(x[inside.index()], beyond) if any(beyond) else x[inside.index()]


def replicated(x: Tensor, beyond: Sequence[int] = (1, 1, 1, 1)) -> Tensor:
    """x (B,C,h,w) and its edge for so many pixels more to the left, right, top and bottom."""
    recorded = torch.is_grad_enabled() and x.requires_grad
    return _Replicated.apply(x, beyond) if recorded else F.pad(x, list(beyond), mode="replicate")


class _Replicated(torch.autograd.Function):
    """PyTorch's own gradient adds atomically on a GPU: in another order every time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, beyond: Sequence[int]) -> Tensor:
        ctx.beyond = beyond
        return F.pad(x, list(beyond), mode="replicate")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return folded(grad, ctx.beyond), None


def folded(x: Tensor, beyond: Sequence[int]) -> Tensor:
    """The adjoint of `replicated`: x without its rim, which is added to the edge."""
    for dim, (before, after) in ((-2, beyond[2:]), (-1, beyond[:2])):
        if before or after:
            first, rest = x.narrow(dim, 0, before), x.narrow(dim, x.shape[dim] - after, after)
            x = x.narrow(dim, before, x.shape[dim] - before - after).clone()
            x.narrow(dim, 0, 1).add_(first.sum(dim, keepdim=True))
            x.narrow(dim, -1, 1).add_(rest.sum(dim, keepdim=True))
    return x


def by_tiles(
    work: Callable[[Area], Tensor], whole: Area, tile: int, *, recorded: bool, threads: bool, level: int = 0
) -> Tensor:
    """What `work` makes of the tiles of an area that begins at (0, 0), put together; results may be of a level."""
    tops, lefts = range(0, whole.bottom, tile), range(0, whole.right, tile)
    areas = [Area(top, top + tile, left, left + tile).within(whole) for top in tops for left in lefts]
    if recorded:
        every = [work(area) for area in areas]
        return torch.cat([torch.cat(every[i : i + len(lefts)], -1) for i in range(0, len(every), len(lefts))], -2)
    result: Tensor | None = None
    lock = Lock()

    def put(area: Area) -> None:  # by the thread that made it: threads of PyTorch's own would wait for work, spinning
        nonlocal result
        done = work(area)
        with lock:
            if result is None:
                last = done.is_contiguous(memory_format=torch.channels_last)  # pixel by pixel, or plane by plane
                order = torch.channels_last if last else torch.contiguous_format
                shape = *done.shape[:2], *whole.at_level(level).size
                result = torch.empty(shape, dtype=done.dtype, device=done.device, memory_format=order)
        result[area.at_level(level).index()] = done

    in_threads(put, areas, threads)
    assert result is not None
    return result


def in_threads(function: Callable[[Area], None], arguments: Sequence[Area], useful: bool) -> None:
    """function(a) for a in arguments, several at a time if that is useful: many small operations leave cores idle.

    PyTorch's threads are divided among them, which changes no result. No gradients are recorded in threads.
    """
    with THREADS.held() if useful else nullcontext(1) as cores:
        workers = min(cores, len(arguments), WORKERS)
        if workers < 2:
            for argument in arguments:
                function(argument)
            return

        def start() -> None:  # of a thread: both settings are its own
            torch.set_grad_enabled(False)
            torch.set_num_threads(cores // workers)

        try:
            with ThreadPoolExecutor(workers, initializer=start) as pool:
                for _ in pool.map(function, arguments):  # what fails in a thread is raised here
                    pass
        finally:
            torch.set_num_threads(cores)  # this thread's own, which may have begun when others had fewer


def halved(x: Tensor, times: int) -> Tensor:
    """Means over squares of 2^times pixels."""
    for _ in range(times):
        x = x[..., ::2, :] + x[..., 1::2, :]
        x = (x[..., ::2] + x[..., 1::2]) * 0.25
    return x


def reduced(x: Tensor, times: int) -> Tensor:
    """x at 1 / 2^times of the size; pixels are shared by the two nearest in each direction: light keeps its place."""
    for _ in range(times):
        x = replicated(x)
        x = torch.lerp(x[..., 1:-1:2, :] + x[..., 2::2, :], x[..., :-2:2, :] + x[..., 3::2, :], 0.25)
        x = torch.lerp(x[..., 1:-1:2] + x[..., 2::2], x[..., :-2:2] + x[..., 3::2], 0.25) * 0.25
    return x


def doubled(x: Tensor) -> Tensor:
    """x without its rim of one pixel at twice the size, bilinearly: as `enlarged`, but faster without gradients."""
    if torch.is_grad_enabled() and x.requires_grad:
        return enlarged(x, 2)[..., 2:-2, 2:-2]
    *count, height, width = x.shape
    columns = x.new_empty(*count, height, width - 2, 2)
    torch.lerp(x[..., 1:-1], x[..., :-2], 0.25, out=columns[..., 0])
    torch.lerp(x[..., 1:-1], x[..., 2:], 0.25, out=columns[..., 1])
    x = columns.flatten(-2)
    rows = x.new_empty(*count, height - 2, 2, x.shape[-1])
    torch.lerp(x[..., 1:-1, :], x[..., :-2, :], 0.25, out=rows[..., 0, :])
    torch.lerp(x[..., 1:-1, :], x[..., 2:, :], 0.25, out=rows[..., 1, :])
    return rows.flatten(-3, -2)


def enlarged(x: Tensor, times: int) -> Tensor:
    """x (B,C,h,w) at so many times the size, an even number or 1, bilinearly."""
    if times == 1:
        return x
    recorded = torch.is_grad_enabled() and x.requires_grad
    return _Enlarged.apply(x, times) if recorded else interpolated(x, times)


def interpolated(x: Tensor, times: int) -> Tensor:
    return F.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)


class _Enlarged(torch.autograd.Function):
    """As `_Replicated`: PyTorch's own gradient adds atomically."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, times: int) -> Tensor:
        ctx.times = times
        return interpolated(x, times)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        with full_precision(grad.device):  # backward() may be called under autocast, too
            rows = gathered(grad.unflatten(-2, (-1, ctx.times)).movedim(-2, -1), dim=-2)
            return gathered(rows.unflatten(-1, (-1, ctx.times)), dim=-1), None


def gathered(fine: Tensor, dim: int) -> Tensor:
    """The adjoint of linear interpolation along a dimension: what each cell's pixels, (...,t), got of it and of others.

    A pixel lies between its own cell and the one before if it is in the first half of its cell, else the one after;
    beyond the ends are the cells at the ends.
    """
    found = fine @ shares(fine.shape[-1], fine.device, fine.dtype)
    own, before, after = (found[..., k] for k in range(3))
    others = own.shape[dim] - 1
    own.narrow(dim, 0, others).add_(before.narrow(dim, 1, others))
    own.narrow(dim, 0, 1).add_(before.narrow(dim, 0, 1))
    own.narrow(dim, 1, others).add_(after.narrow(dim, 0, others))
    own.narrow(dim, others, 1).add_(after.narrow(dim, others, 1))
    return own


@lru_cache
@torch.inference_mode(False)
def shares(times: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Of its own cell, the one before and the one after in each of a cell's pixels, (t,3)."""
    away = (torch.arange(times, dtype=dtype, device=device) + 0.5) / times - 0.5  # of the cell's middle
    return torch.stack([1 - away.abs(), (-away).clamp(min=0), away.clamp(min=0)], 1)


def largest(x: Tensor, side: int) -> Tensor:
    """The largest value in every square of `side` pixels."""
    return x if side == 1 else x.unflatten(-2, (-1, side)).amax(-2).unflatten(-1, (-1, side)).amax(-1)


def smallest(x: Tensor, side: int) -> Tensor:
    """The smallest value in every square of `side` pixels."""
    return x if side == 1 else x.unflatten(-2, (-1, side)).amin(-2).unflatten(-1, (-1, side)).amin(-1)


def largest_around(x: Tensor) -> Tensor:
    """The largest value in the 3 x 3 pixels around each."""
    x = replicated(x)
    x = torch.maximum(torch.maximum(x[..., :-2, :], x[..., 1:-1, :]), x[..., 2:, :])
    return torch.maximum(torch.maximum(x[..., :-2], x[..., 1:-1]), x[..., 2:])


def round_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit
