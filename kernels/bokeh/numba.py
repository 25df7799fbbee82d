"""The photo renderer's steps on CPUs as loops that Numba compiles: one pass in place of a dozen tensor operations.

Levels, order and results are the reference's, to rounding. What is empty is skipped a segment or a row at a time. There
are no gradients; loops release Python's lock, so that tiles are worked in threads.
"""

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from argan.kernels.bokeh import reference
from argan.kernels.bokeh.reference import EPS, TRUST, Area

BLOCK = reference.BLOCK
SEGMENT = 64  # pixels of a row that are skipped together if nothing is there
WINDOWS: dict[str, Callable[[int], tuple[float, float]]] = {  # `reference.WEIGHTS` as low and high ends of slopes
    "seen": lambda k: (k - 1, k + 1),
    "known": lambda k: (-math.inf, k + 1),
    "hidden": lambda k: (k + 1, math.inf),
}


def compiled(function: Callable) -> Any:
    """The function as a loop; kept on the disk, beside this file or where Numba's other files are kept."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "reassoc"}}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # no folder can be written to: every process compiles for itself
        return numba.njit(function, **options)


# What slabs take of the surfaces ------------------------------------------------------------------------------------


def weigh(sheets: reference.Sheets, what: str, k: int, area: Area, level: int) -> Tensor:
    """The reference's `weigh`: at full size or half of it, and made smaller from there."""
    first = 0 if what == "seen" else 3
    near, place = sheets.near[0, first:].numpy(), sheets.place[0, 0].numpy()
    far = sheets.far[first:].numpy(), sheets.far_place[0].numpy(), sheets.columns.numpy(), sheets.row_starts.numpy()
    window = tuple(map(place.dtype.type, WINDOWS[what](k)))
    weighed = (weighed_half if level else weighed_full)(near, place, *far, *window, *box(area))
    for _ in range(level - 1):
        weighed = half(weighed)
    return torch.from_numpy(weighed)[None]


def box(area: Area) -> tuple[int, int, int, int]:
    return area.top, area.bottom, area.left, area.right


@compiled
def weighed_full(near, place, far, far_place, columns, starts, low, high, top, bottom, left, right):
    """Surfaces weighted by their places, (C,h,w)."""
    out = np.zeros((len(near), bottom - top, right - left), near.dtype)
    weight = np.empty(right - left, near.dtype)
    for y in range(top, bottom):
        weigh_row(near, place, far, far_place, columns, starts, low, high, y, left, weight, out, y - top)
    return out


@compiled
def weighed_half(near, place, far, far_place, columns, starts, low, high, top, bottom, left, right):
    """`weighed_full`, `reduced` once."""
    channels, height, width = len(near), bottom - top, right - left
    out = np.zeros((channels, height // 2, width // 2), near.dtype)
    weight, row = np.empty(width, near.dtype), np.zeros((channels, 1, width), near.dtype)
    rows, here = np.empty((channels, 4, width // 2), near.dtype), np.zeros(4, np.bool_)
    done = -1
    for j in range(height // 2):
        while done < min(2 * j + 2, height - 1):
            done += 1
            y = top + done
            some = weigh_row(near, place, far, far_place, columns, starts, low, high, y, left, weight, row, 0)
            here[done % 4] = some
            if some:
                halve_row(row, 0, rows, done % 4)
                row[:] = 0
        mix_rows(rows, here, j, height, out)
    return out


@compiled
def half(x):
    """(C,h,w) `reduced` once."""
    channels, height, width = x.shape
    out = np.zeros((channels, height // 2, width // 2), x.dtype)
    rows, here = np.empty((channels, 4, width // 2), x.dtype), np.ones(4, np.bool_)
    done = -1
    for j in range(height // 2):
        while done < min(2 * j + 2, height - 1):
            done += 1
            halve_row(x, done, rows, done % 4)
        mix_rows(rows, here, j, height, out)
    return out


@compiled
def weigh_row(near, place, far, far_place, columns, starts, low, high, y, left, weight, out, to):
    """Adds the surfaces of a row of pixels to row `to` of out (C,h,w), which is 0; False: nothing was there."""
    channels, _, width = out.shape
    some = False
    for start in range(0, width, SEGMENT):
        end, total = min(start + SEGMENT, width), type(low)(0)
        at, part = place[y, left + start : left + end], weight[start:end]
        for x in range(end - start):
            part[x] = share_between(at[x], low, high)
            total += part[x]
        if total > 0:
            some = True
            for c in range(channels):
                surface, row = near[c, y, left + start : left + end], out[c, to, start:end]
                for x in range(end - start):
                    row[x] = surface[x] * part[x]
    for i in range(starts[y], starts[y + 1]):
        x, share = columns[i] - left, share_between(far_place[i], low, high)
        if share > 0 and 0 <= x < width:
            some = True
            for c in range(channels):
                out[c, to, x] += far[c, i] * share
    return some


@compiled
def share_between(place, low, high):
    """From 0 at the low end up to 1, and down to 0 at the high end: within 1 of them."""
    nothing, all_of_it = type(place)(0), type(place)(1)
    return max(min(min(place - low, high - place), all_of_it), nothing)


@compiled
def halve_row(x, y, out, to):
    """Row y of x (C,h,w) at half the size, with weights 1 3 3 1, as row `to` of out (C,n,w/2)."""
    width, inner, outer = out.shape[2], x.dtype.type(0.375), x.dtype.type(0.125)
    for c in range(len(out)):
        row, fine = out[c, to], x[c, y]
        for i in range(width - 2):
            middle, sides = fine[2 * i + 2] + fine[2 * i + 3], fine[2 * i + 1] + fine[2 * i + 4]
            row[i + 1] = inner * middle + outer * sides
        for i in (0, width - 1):
            sides = fine[max(2 * i - 1, 0)] + fine[min(2 * i + 2, 2 * width - 1)]
            row[i] = inner * (fine[2 * i] + fine[2 * i + 1]) + outer * sides


@compiled
def mix_rows(rows, here, j, height, out):
    """Row j of out (C,h/2,w) from the last four rows (C,4,w); those not `here` are 0."""
    inner, outer = rows.dtype.type(0.375), rows.dtype.type(0.125)
    a, b, c, d = max(2 * j - 1, 0) % 4, 2 * j % 4, (2 * j + 1) % 4, min(2 * j + 2, height - 1) % 4
    for i, part in ((a, outer), (b, inner), (c, inner), (d, outer)):
        if here[i]:
            for channel in range(len(out)):
                add_row(out[channel, j], part, rows[channel, i])


@compiled
def add_row(out, part, row):
    for x in range(len(row)):
        out[x] += part * row[x]


# Hidden surfaces ----------------------------------------------------------------------------------------------------


def inpaint(layer: Tensor, known: Tensor, levels: int, wanted: Area) -> Tensor:
    """The reference's `inpaint`."""
    own = layer[0].contiguous().numpy(), known[0].contiguous().numpy()
    pyramid = [pulled(*own)]
    for _ in range(levels - 1):
        pyramid.append(pulled(pyramid[-1][:4], pyramid[-1][4:]))
    filled = pyramid.pop()
    while pyramid:
        finer = pyramid.pop()
        filled = pushed(finer[:4], finer[4:], filled, 0, finer.shape[1], 0, finer.shape[2])
    return torch.from_numpy(pushed(*own, filled, *box(wanted)))[None]


@compiled
def pulled(layer, known):
    """RGBA (4,h,w) and what it is known by (1,h,w) at half the size, (5,h/2,w/2)."""
    height, width = layer.shape[1] // 2, layer.shape[2] // 2
    out, scale = np.empty((5, height, width), layer.dtype), np.empty(width, layer.dtype)
    trust, eps, one = layer.dtype.type(TRUST), layer.dtype.type(EPS), layer.dtype.type(1)
    for y in range(height):
        for x in range(width):
            scale[x] = one
        mean_of_four(known[0, 2 * y], known[0, 2 * y + 1], scale, out[4, y])
        for x in range(width):
            scale[x] = min(trust * out[4, y, x], one) / max(out[4, y, x], eps)
            out[4, y, x] *= scale[x]
        for c in range(4):
            mean_of_four(layer[c, 2 * y], layer[c, 2 * y + 1], scale, out[c, y])
    return out


@compiled
def mean_of_four(upper, lower, scale, out):
    quarter = out.dtype.type(0.25)
    for x in range(len(out)):
        out[x] = (upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1]) * quarter * scale[x]


@compiled
def pushed(layer, known, coarse, top, bottom, left, right):
    """An area of RGBA (4,h,w), completed where it is not known from `coarse` (5,h/2,w/2): (5,bottom-top,right-left).

    Sides of the area are even.
    """
    height, width = coarse.shape[1:]
    out = np.empty((5, bottom - top, right - left), layer.dtype)
    rest, row, one = np.empty(right - left, layer.dtype), np.empty(width + 2, layer.dtype), layer.dtype.type(1)
    for y in range(top, bottom):
        here, there = y // 2, min(max(y // 2 + 2 * (y % 2) - 1, 0), height - 1)
        part = known[0, y, left:right]
        for x in range(right - left):
            rest[x] = one - part[x]
        for c in range(5):
            between(coarse[c, here], coarse[c, there], row[1:-1])
            row[0], row[-1] = row[1], row[-2]
            double_row(row[left // 2 : right // 2 + 2], out[c, y - top])
            complete(part if c == 4 else layer[c, y, left:right], rest, out[c, y - top])
    return out


@compiled
def between(here, there, out):
    most, least = out.dtype.type(0.75), out.dtype.type(0.25)
    for x in range(len(out)):
        out[x] = most * here[x] + least * there[x]


@compiled
def double_row(x, out):
    """x without its two ends at twice the size."""
    most, least = x.dtype.type(0.75), x.dtype.type(0.25)
    for i in range(len(out) // 2):
        out[2 * i] = most * x[i + 1] + least * x[i]
        out[2 * i + 1] = most * x[i + 1] + least * x[i + 2]


@compiled
def complete(own, rest, out):
    for x in range(len(out)):
        out[x] = own[x] + rest[x] * out[x]


# Discs --------------------------------------------------------------------------------------------------------------


def spread(layer: Tensor, visible: Tensor, kernels: Tensor) -> Tensor:
    """The reference's `spread`."""
    if kernels.shape[-1] == 1:
        return layer
    one = kernels.shape[:2] == (1, 1)
    height, width = visible.shape[-2:]
    high, wide = (BLOCK, BLOCK) if one else (height // len(kernels), width // kernels.shape[1])
    mean = reference.mean_colour(layer)[0, :, 0, 0]
    taps = kernels.flip(2, 3).to(layer)
    arrays = (x.contiguous().numpy() for x in (layer[0], visible[0, 0], taps))
    return torch.from_numpy(spread_blocks(*arrays, high, wide, mean.numpy()))[None]


@compiled
def spread_blocks(layer, visible, kernels, high, wide, mean):
    """A layer (4,h+2n,w+2n) gathered by kernels (R,C,2n+1,2n+1), each for a block of the result, (4,h,w).

    Down a column most of a kernel's taps are equal: what they gather is a difference of running sums.
    """
    (height, width), side = visible.shape, kernels.shape[-1]
    out = np.zeros((4, height, width), layer.dtype)
    light = np.empty((high + side - 1, wide + side - 1), layer.dtype)
    sums = np.zeros((high + side, wide + side - 1), np.float64)  # lamps would round what is dark beside them
    filled = np.zeros(high + side, np.int64)
    runs, taps = np.empty((side, 2), np.uint64), np.empty((side * side, 2), np.uint64)
    for top in range(0, height, high):
        for left in range(0, width, wide):
            bottom, right = min(top + high, height), min(left + wide, width)
            if not seen(visible, top, bottom, left, right):
                continue
            if not count_filled(layer[3], top, bottom + side - 1, left, right + side - 1, filled):
                continue
            kernel = kernels[min(top // high, len(kernels) - 1), min(left // wide, kernels.shape[1] - 1)]
            others = taps[: take_apart(kernel, runs, taps)]
            for c in (3, 0, 1, 2):
                collect(layer, c, top, bottom + side - 1, left, right + side - 1, mean, light, sums)
                for y in range(bottom - top):
                    if filled[y + side] > filled[y]:
                        total = out[c, top + y, left:right]
                        gather(kernel, runs, others, light, sums, y, total)
                        if c < 3:
                            add_row(total, mean[c], out[3, top + y, left:right])
    return out


@compiled
def seen(visible, top, bottom, left, right):
    for y in range(top, bottom):
        for x in range(left, right):
            if visible[y, x] > 0:
                return True
    return False


@compiled
def count_filled(alpha, top, bottom, left, right, filled):
    """Up to each row, how many rows of an area there are that hold something; 0: it is empty."""
    for y in range(top, bottom):
        row, some = alpha[y, left:right], 0
        for x in range(right - left):
            some |= row[x] > 0
        filled[y - top + 1] = filled[y - top] + some
    return filled[bottom - top]


@compiled
def take_apart(kernel, runs, taps):
    """A kernel's columns as runs of equal taps (from, to), the longest of each, and all other taps (row, column).

    Returns how many of `taps` there are.
    """
    side, count = len(kernel), 0
    for j in range(side):
        first, after, start = 0, 0, 0
        while start < side:
            end = start + 1
            while end < side and kernel[end, j] == kernel[start, j]:
                end += 1
            if end - start > max(after - first, 2) and kernel[start, j] != 0:
                first, after = start, end
            start = end
        runs[j, 0], runs[j, 1] = first, after
        for i in range(side):
            if not first <= i < after and kernel[i, j] != 0:
                taps[count, 0], taps[count, 1] = i, j
                count += 1
    return count


@compiled
def collect(layer, c, top, bottom, left, right, mean, light, sums):
    """A channel of an area of a layer, less its mean, and running sums of it down the columns."""
    count = right - left
    for y in range(bottom - top):
        own, alpha = layer[c, top + y, left:right], layer[3, top + y, left:right]
        row, before, after = light[y, :count], sums[y, :count], sums[y + 1, :count]
        for x in range(count):
            row[x] = own[x] - mean[c] * alpha[x]
        for x in range(count):
            after[x] = before[x] + row[x]


@compiled
def gather(kernel, runs, taps, light, sums, y, total):
    """Adds to a row what a kernel gathers from the rows from y on. Indices without a sign: else loops check it."""
    y, count = np.uint64(y), np.uint64(len(total))
    for j in range(np.uint64(len(kernel))):
        start, end = runs[j, 0], runs[j, 1]
        if end > start:
            part, first, after = kernel[start, j], y + start, y + end
            for x in range(count):
                total[x] += part * total.dtype.type(sums[after, j + x] - sums[first, j + x])
    for t in range(len(taps)):
        i, j = taps[t, 0], taps[t, 1]
        part, row = kernel[i, j], y + i
        for x in range(count):
            total[x] += part * light[row, j + x]


# Compositing --------------------------------------------------------------------------------------------------------


def over(front: reference.Composite, layer: Tensor, radius: float, area: Area) -> None:
    """The reference's `over`, in place."""
    planes = (x[0].numpy() for x in (front.rgba, front.through, front.nearer, front.radial))
    radius = front.rgba.numpy().dtype.type(radius / 2**front.level)
    put_behind(*planes, layer[0].contiguous().numpy(), radius, front.side, area.top, area.left)


@compiled
def put_behind(rgba, through, nearer, radial, layer, radius, side, top, left):
    """A layer (4,h,w) at (top, left) behind a composite; nothing is nearer elsewhere."""
    one, eps = rgba.dtype.type(1), rgba.dtype.type(EPS)
    _, height, width = layer.shape
    arrives = np.empty(width, rgba.dtype)
    for row in range(rgba.shape[1]):
        if top <= row < top + height:
            y, here = row - top, slice(left, left + width)
            alpha, passed, before = layer[3, y], through[0, row, here], nearer[0, row, here]
            for x in range(width):
                arrives[x] = passed[x] / max(max(alpha[x], one - before[x]), eps)
            for x in range(width):
                passed[x] -= arrives[x] * alpha[x]
            for c in range(4):
                add_product(rgba[c, row, here], arrives, layer[c, y])
            for x in range(width):
                arrives[x] *= radius
            for c in range(len(radial)):
                add_product(radial[c, row, here], arrives, layer[c if side < 0 else 3, y])
            nearer[0, row] = 0
            before[:] = alpha
        else:
            nearer[0, row] = 0


@compiled
def add_product(out, a, b):
    for x in range(len(a)):
        out[x] += a[x] * b[x]


def behind(front: reference.Composite, group: reference.Composite) -> None:
    """The reference's `behind`, in place."""
    front.rgba, front.through, front.nearer = (x.contiguous() for x in (front.rgba, front.through, front.nearer))
    view = group.view or Area.of(front.rgba)
    behind_all = torch.cat([group.rgba, group.through, group.nearer], 1)
    planes = (x[0].numpy() for x in (front.rgba, front.through, front.nearer, behind_all))
    put_group_behind(*planes, 2**group.level, view.top, view.left)


@compiled
def put_group_behind(rgba, through, nearer, group, unit, top, left):
    """A group (6,h,w) at 1 / unit of the size, RGBA, what passes and what is nearer, behind a composite, bilinearly."""
    height, width = rgba.shape[1:]
    cells, columns = group.shape[1:]
    first, second = np.empty(width, np.int64), np.empty(width, np.int64)
    across = np.empty(width, rgba.dtype)
    for x in range(width):
        first[x], second[x], across[x] = between_cells(left + x, columns, unit)
    wide, held = np.empty((3, 6, width), rgba.dtype), np.full(2, -1)
    for y in range(height):
        here, there, down = between_cells(top + y, cells, unit)
        for row in (here, there):
            if held[row % 2] != row:
                held[row % 2] = row
                for c in range(6):
                    widen(group[c, row], first, second, across, wide[row % 2, c])
        passed = through[0, y]
        for c in range(6):
            mix(wide[here % 2, c], wide[there % 2, c], across.dtype.type(down), wide[2, c])
        for c in range(4):
            add_product(rgba[c, y], passed, wide[2, c])
        for x in range(width):
            passed[x] *= wide[2, 4, x]
        nearer[0, y] = wide[2, 5]


@compiled
def widen(row, first, second, across, out):
    for x in range(len(out)):
        out[x] = row[first[x]] + across[x] * (row[second[x]] - row[first[x]])


@compiled
def mix(a, b, part, out):
    for x in range(len(out)):
        out[x] = a[x] + part * (b[x] - a[x])


@compiled
def between_cells(at, cells, unit):
    """The two cells that a pixel lies between, and how far on the way from one to the other."""
    place = max((at + 0.5) / unit - 0.5, 0.0)
    first = min(int(place), cells - 1)
    return first, min(first + 1, cells - 1), place - first


STEPS = reference.Steps(weigh, inpaint, spread, over, behind)
