"""The photo renderer's steps on CPUs as loops that Numba compiles: one pass in place of a dozen tensor operations.

Levels, order and results are the reference's, to rounding. What is empty is skipped a cell, a row or a block at a time.
There are no gradients; loops release Python's lock, so that tiles are worked in threads.
"""

import math
import zlib
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from argan.kernels.bokeh.areas import Area, window
from argan.kernels.bokeh.layers import TRUST, Composite, Sheets
from argan.kernels.bokeh.plan import BLOCK, EPS, Plan
from argan.kernels.bokeh.reference import DOUBT, EDGE, FADE, HELD, MIXED, NOISE, RIDGE
from argan.kernels.bokeh.regions import BESIDE, Steps

LAMP = 2.0  # running sums of brighter light in single precision would round what is dark beside it
SEGMENT = 64  # pixels of a row that are skipped together if nothing is there
NEARNESS = np.array([math.exp(-(i * i + j * j) / 2) for i in range(-2, 3) for j in range(-2, 3)])
WINDOWS: dict[str, Callable[[int], tuple[float, float]]] = {  # `reference.WEIGHTS` as low and high ends of slopes
    "seen": lambda k: (k - 1, k + 1),
    "known": lambda k: (-math.inf, k + 1),
    "hidden": lambda k: (k + 1, math.inf),
}


def compiled(function: Callable) -> Any:
    """The function as a loop; kept on the disk, beside this file or where Numba's other files are kept.

    Numba compiles anew what this file changes. What it takes from others is part of the name that it is kept by.
    """
    taken = BESIDE, BLOCK, DOUBT, EDGE, EPS, FADE, HELD, NOISE, RIDGE, TRUST
    function.__qualname__ += f"-{zlib.crc32(repr(taken).encode()):08x}"
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "reassoc"}}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # no folder can be written to: every process compiles for itself
        return numba.njit(function, **options)


# Surfaces -----------------------------------------------------------------------------------------------------------


def unmix(image: Tensor, spans: Tensor, plan: Plan) -> Sheets:
    """The reference's `unmix`."""
    rgba = torch.cat([image, torch.ones_like(image[:, :1])], 1)
    light, coc, of_light, highest, lowest = (x.contiguous().numpy() for x in (image[0], *spans[0]))
    cuts, place, mixed = np.array([r * abs(r) for r in plan.radii], coc.dtype), np.empty_like(coc), np.empty_like(coc)
    find_places(of_light.reshape(-1), cuts, place.reshape(-1))
    rows, columns, near, far = find_edges(highest, lowest, mixed)
    far_rgba, far_place = np.empty((4, len(rows)), light.dtype), np.empty_like(far)
    if len(rows):
        pixels, colours = (light, coc, mixed, rows, columns, near, far), np.empty((6, len(rows)), light.dtype)
        first, second = np.empty_like(coc), np.empty_like(coc)
        white = light.dtype.type(plan.white)
        find_shares(pixels, white, MIXED[0], first[:0], first, colours)
        find_shares(pixels, white, MIXED[1], first, second, colours)
        share_out(pixels, second, colours, rgba[0].numpy(), far_rgba)
        find_places(far, cuts, far_place)
        find_places(near, cuts, near)
        place[rows, columns] = near
    places, far_surfaces, far_places = (torch.from_numpy(x) for x in (place[None, None], far_rgba, far_place[None]))
    where = torch.from_numpy(rows), torch.from_numpy(columns)
    return Sheets(rgba, places, far_surfaces, far_places, *where, plan.cell)


@compiled
def find_places(coc, cuts, out):
    """`Plan.place`."""
    k, last = 0, len(cuts) - 2
    for x in range(len(coc)):
        c2 = coc[x] * abs(coc[x])
        while k < last and c2 >= cuts[k + 1]:
            k += 1
        while k > 0 and c2 < cuts[k]:
            k -= 1
        out[x] = out.dtype.type(k) + (c2 - cuts[k]) / (cuts[k + 1] - cuts[k])


@compiled
def find_edges(highest, lowest, mixed):
    """How surely a pixel is `mixed` (h,w); row and column of those that may be, and the two surfaces' radii, (N,)."""
    height, width = mixed.shape
    high, low = np.empty(width, mixed.dtype), np.empty(width, mixed.dtype)
    kind, count = mixed.dtype.type, 0
    for y in range(height):
        above, below, row = max(y - 1, 0), min(y + 1, height - 1), mixed[y]
        for x in range(width):
            high[x] = max(max(highest[above, x], highest[y, x]), highest[below, x])
            low[x] = min(min(lowest[above, x], lowest[y, x]), lowest[below, x])
        for x in range(width):
            before, after = max(x - 1, 0), min(x + 1, width - 1)
            apart = max(max(high[before], high[x]), high[after]) - min(min(low[before], low[x]), low[after])
            row[x] = min(max((apart - kind(EDGE[0])) / kind(EDGE[1] - EDGE[0]), kind(0)), kind(1))
        for x in range(width):
            count += row[x] > 0
    rows, columns = np.empty(count, np.int64), np.empty(count, np.int64)
    near, far, i = np.empty(count, mixed.dtype), np.empty(count, mixed.dtype), 0
    for y in range(height):
        for x in range(width):
            if mixed[y, x] > 0:
                rows[i], columns[i], near[i], far[i] = y, x, highest[y, x], lowest[y, x]
                for row in range(max(y - 1, 0), min(y + 2, height)):
                    for column in range(max(x - 1, 0), min(x + 2, width)):
                        near[i], far[i] = max(near[i], highest[row, column]), min(far[i], lowest[row, column])
                i += 1
    return rows, columns, near, far


@compiled
def find_shares(pixels, white, trust, known, shares, colours):
    """The near surface's `shares` (h,w) of mixed pixels, and both surfaces' colours (6,N): a round of the reference's.

    Where `known` (h,w), unless it is empty, has shares of mixed pixels around, these are taken.
    """
    light, coc, mixed, rows, columns, near, far = pixels
    share, weight, at = np.empty(25), np.empty(25), np.empty((25, 2), np.int64)
    for i in range(len(rows)):
        y, x = rows[i], columns[i]
        look_around(coc, mixed, y, x, near[i], far[i], known, share, at)
        total = a = aa = 0.0
        for n in range(25):
            weight[n] = NEARNESS[n] * (1 - (1 - trust) * mixed[at[n, 0], at[n, 1]])
            total += weight[n]
            a += weight[n] * share[n]
            aa += weight[n] * share[n] ** 2
        a, aa = a / total, aa / total
        fit, contrast, doubt = 0.0, 0.0, 0.0
        for c in range(3):
            one, other = two_colours(light[c], white, at, share, weight, total, a, aa)
            colours[c, i], colours[3 + c, i] = one, other
            fit += (min(light[c, y, x], white) - other) * (one - other)
            contrast += (one - other) ** 2
            doubt += DOUBT * (one**2 + other**2)
        side = side_of(coc[y, x], near[i], far[i])
        found = (fit + doubt * side) / max(contrast + doubt, EPS)
        found = min(max(found, HELD * side), 1 - HELD * (1 - side))
        shares[y, x] = side + mixed[y, x] * (found - side)


@compiled
def look_around(coc, mixed, y, x, near, far, known, share, at):
    """Shares of the 5 x 5 pixels around one, between the surfaces there, and their rows and columns."""
    height, width = coc.shape
    for n in range(25):
        row, column = min(max(y + n // 5 - 2, 0), height - 1), min(max(x + n % 5 - 2, 0), width - 1)
        at[n, 0], at[n, 1] = row, column
        if len(known) and mixed[row, column] > 0:
            share[n] = known[row, column]
        else:
            share[n] = side_of(coc[row, column], near, far)


@compiled
def side_of(coc, near, far):
    """On which side of an edge: 0 the far one, 1 the near one."""
    return min(max((coc - far) / max(near - far, EPS), 0.0), 1.0)


@compiled
def two_colours(light, white, at, share, weight, total, a, aa):
    """The reference's, of one channel."""
    colour, product, darkest, brightest = 0.0, 0.0, np.inf, -np.inf
    for n in range(25):
        shown = float(min(light[at[n, 0], at[n, 1]], white))
        colour += weight[n] * shown
        product += weight[n] * share[n] * shown
        darkest, brightest = min(darkest, shown), max(brightest, shown)
    colour, product = colour / total, product / total
    slope = (product - a * colour) / (max(aa - a * a, 0.0) + RIDGE)
    near, far = colour + slope * (1 - a), colour - slope * a
    return min(max(near, darkest), brightest), min(max(far, darkest), brightest)


@compiled
def share_out(pixels, shares, colours, near_rgba, far_rgba):
    """Mixed pixels' light for the near surface, into (4,h,w), and the far one (4,N): `variances` and `apart`."""
    light, coc, mixed, rows, columns, near, far = pixels
    share, at = np.empty(25), np.empty((25, 2), np.int64)
    for i in range(len(rows)):
        y, x = rows[i], columns[i]
        look_around(coc, mixed, y, x, near[i], far[i], shares, share, at)
        near_weight = far_weight = near_variance = far_variance = 0.0
        for n in range(25):
            rest = 0.0
            for c in range(3):
                mean = share[n] * colours[c, i] + (1 - share[n]) * colours[3 + c, i]
                rest += (light[c, at[n, 0], at[n, 1]] - mean) ** 2
            to_near, to_far = NEARNESS[n] * share[n] ** 2, NEARNESS[n] * (1 - share[n]) ** 2
            near_weight += to_near
            far_weight += to_far
            near_variance += to_near * rest
            far_variance += to_far * rest
        own = float(shares[y, x])
        of_near = own**2 * (near_variance / max(near_weight, EPS) + NOISE)
        of_far = (1 - own) ** 2 * (far_variance / max(far_weight, EPS) + NOISE)
        for c in range(3):
            whole, one, other = float(light[c, y, x]), colours[c, i], colours[3 + c, i]
            rest = whole - own * one - (1 - own) * other
            part = own * one + rest * (of_near / (of_near + of_far))
            near_rgba[c, y, x] = min(max(part, min(whole, 0.0)), max(whole, 0.0))
            far_rgba[c, i] = light[c, y, x] - near_rgba[c, y, x]
        near_rgba[3, y, x] = shares[y, x]
        far_rgba[3, i] = 1 - near_rgba[3, y, x]


# What slabs take of them --------------------------------------------------------------------------------------------


def weigh(sheets: Sheets, what: str, k: int, area: Area, level: int, part: Area | None = None) -> Tensor:
    """The reference's `weigh`: at full size or half of it, and made smaller from there.

    Cells say where nothing weighs anything, more finely than `part`.
    """
    first = 0 if what == "seen" else 3
    near, place, far, *rest = sheets.arrays
    surfaces = near[first:], place, far[first:], *rest, sheets.cell
    ends = tuple(map(place.dtype.type, WINDOWS[what](k)))
    weighed = (weighed_half if level else weighed_full)(surfaces, ends, *box(area))
    for _ in range(level - 1):
        weighed = half(weighed)
    return torch.from_numpy(weighed)[None]


def box(area: Area) -> tuple[int, int, int, int]:
    return area.top, area.bottom, area.left, area.right


@compiled
def weighed_full(surfaces, ends, top, bottom, left, right):
    """Surfaces weighted by their places, (C,h,w)."""
    near = surfaces[0]
    out = np.zeros((len(near), bottom - top, right - left), near.dtype)
    weight = np.empty(right - left, near.dtype)
    for y in range(top, bottom):
        weigh_row(surfaces, ends, y, left, weight, out, y - top)
    return out


@compiled
def weighed_half(surfaces, ends, top, bottom, left, right):
    """`weighed_full`, `reduced` once."""
    near = surfaces[0]
    channels, height, width = len(near), bottom - top, right - left
    out = np.zeros((channels, height // 2, width // 2), near.dtype)
    weight, row = np.empty(width, near.dtype), np.zeros((channels, 1, width), near.dtype)
    rows, here = np.empty((channels, 4, width // 2), near.dtype), np.zeros(4, np.bool_)
    done = -1
    for j in range(height // 2):
        while done < min(2 * j + 2, height - 1):
            done += 1
            here[done % 4] = weigh_row(surfaces, ends, top + done, left, weight, row, 0)
            if here[done % 4]:
                halve_row(row, 0, rows, done % 4)
                row[:] = 0
        mix_rows(rows, here, j, height, out)
    return out


@compiled
def half(x):
    """(C,h,w) `reduced` once."""
    channels, height, width = x.shape
    out = np.zeros((channels, height // 2, width // 2), x.dtype)
    rows, here = np.empty((channels, 4, width // 2), x.dtype), np.full(4, True)
    done = -1
    for j in range(height // 2):
        while done < min(2 * j + 2, height - 1):
            done += 1
            halve_row(x, done, rows, done % 4)
        mix_rows(rows, here, j, height, out)
    return out


@compiled
def weigh_row(surfaces, ends, y, left, weight, out, to):
    """Adds the surfaces of a row of pixels to row `to` of out (C,h,w), which is 0; False: nothing was there."""
    near, place, far, far_place, columns, starts, nearest, farthest, cell = surfaces
    low, high = ends
    channels, _, width = out.shape
    nearest, farthest, some = nearest[y // cell], farthest[y // cell], False
    for start in range(0, width, SEGMENT):
        end = min(start + SEGMENT, width)
        if not within(nearest, farthest, low, high, (left + start) // cell, (left + end - 1) // cell + 1):
            continue
        at, part, total = place[y, left + start : left + end], weight[start:end], type(low)(0)
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
def within(nearest, farthest, low, high, first, after):
    """Whether some of a row's cells hold anything between two places."""
    some = False
    for i in range(first, after):
        some |= nearest[i] > low and farthest[i] < high
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


def fill(layer: Tensor, known: Tensor, hidden: Tensor, levels: int, white: float, around: Area, hides: Area) -> None:
    """The reference's `fill`."""
    own, shown, behind = (x[0].numpy() for x in (layer, known, hidden))
    white = own.dtype.type(min(white, np.finfo(own.dtype).max))
    pyramid = [pulled(own, shown, white, around.top, around.left)]
    for _ in range(levels - 1):
        pyramid.append(pulled(pyramid[-1][:4], pyramid[-1][4:], white, 0, 0))
    filled = pyramid.pop()
    while pyramid:
        filled = pushed(pyramid.pop(), filled)
    put_hidden(own, shown[0], behind[0], filled, white, *box(hides), around.top, around.left)


@compiled
def pulled(layer, known, white, top, left):
    """RGBA and what it is `known` by (1,h,w) at half the size, (5,h/2,w/2); known from (top, left) of the layer on."""
    height, width = known.shape[1] // 2, known.shape[2] // 2
    out, scale = np.empty((5, height, width), layer.dtype), np.empty(width, layer.dtype)
    upper, lower = np.empty(2 * width, layer.dtype), np.empty(2 * width, layer.dtype)
    least, one = layer.dtype.type(1 / TRUST), layer.dtype.type(1)
    for y in range(height):
        scale[:] = one
        mean_of_four(known[0, 2 * y], known[0, 2 * y + 1], scale, out[4, y])
        for x in range(width):
            scale[x] = one / max(out[4, y, x], least)
            out[4, y, x] *= scale[x]
        at, row = top + 2 * y, slice(left, left + 2 * width)
        first, after = span(layer[3, at, row], layer[3, at + 1, row])
        cells, row = slice(first // 2, (after + 1) // 2), slice(left + first // 2 * 2, left + (after + 1) // 2 * 2)
        for c in range(4):
            lit(layer[c, at, row], layer[3, at, row], white, upper)
            lit(layer[c, at + 1, row], layer[3, at + 1, row], white, lower)
            out[c, y, : cells.start] = 0
            mean_of_four(upper, lower, scale[cells], out[c, y, cells])
            out[c, y, cells.stop :] = 0
    return out


@compiled
def span(row, other):
    """From where to where one or the other row holds something; (0, 0): nowhere."""
    first, after = 0, len(row)
    while after > 0 and row[after - 1] == 0 and other[after - 1] == 0:
        after -= 1
    while first < after and row[first] == 0 and other[first] == 0:
        first += 1
    return first, after


@compiled
def lit(colour, alpha, white, out):
    """Premultiplied colour that is no lamp's."""
    for x in range(len(colour)):
        out[x] = min(colour[x], white * alpha[x])


@compiled
def mean_of_four(upper, lower, scale, out):
    quarter = out.dtype.type(0.25)
    for x in range(len(out)):
        out[x] = (upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1]) * quarter * scale[x]


@compiled
def pushed(finer, coarse):
    """RGBA and what it is known by, (5,h,w), completed where it is not known from `coarse` (5,h/2,w/2)."""
    _, height, width = finer.shape
    out, row = np.empty_like(finer), np.empty(width // 2 + 2, finer.dtype)
    for y in range(height):
        for c in range(5):
            double(coarse[c], y, 0, width // 2, row, out[c, y])
            complete(finer[c, y], finer[4, y], out[c, y])
    return out


@compiled
def put_hidden(layer, known, hidden, coarse, white, top, bottom, left, right, first_row, first_column):
    """Adds to an area of the layer what is `hidden` there: `known` and `coarse` begin at the first row and column."""
    width, start, fade = known.shape[1], left - first_column, layer.dtype.type(FADE)
    row, filled = np.empty(width // 2 + 2, layer.dtype), np.empty((2, width), layer.dtype)
    own, scale = np.empty(width, layer.dtype), np.empty(width, layer.dtype)
    for y in range(top, bottom):
        behind = hidden[y - top]
        first, after = span(behind, behind)
        if first == after:
            continue
        here = slice(start + first, start + after)
        part, cells = known[y - first_row, here], (here.start // 2, (here.stop + 1) // 2)
        double(coarse[4], y - first_row, *cells, row, filled[0])
        complete(part, part, filled[0, here])
        for x in range(after - first):
            scale[x] = behind[first + x] / max(filled[0, here.start + x], fade)
        alpha = layer[3, y, left + first : left + after]
        for c in range(4):  # alpha last: lamps are told by it
            colour = layer[c, y, left + first : left + after]
            lit(colour, alpha, white, own)
            double(coarse[c], y - first_row, *cells, row, filled[1])
            complete(own, part, filled[1, here])
            add_product(colour, filled[1, here], scale)


@compiled
def double(coarse, y, first, after, row, out):
    """Cells from `first` to `after` of row y of a plane (h/2,w/2) at twice the size; `row` (w/2+2) is written to."""
    here, there = y // 2, min(max(y // 2 + 2 * (y % 2) - 1, 0), len(coarse) - 1)
    around = slice(max(first - 1, 0), min(after + 1, coarse.shape[1]))
    between(coarse[here, around], coarse[there, around], row[around.start + 1 : around.stop + 1])
    row[0] = row[1] if first == 0 else row[0]
    row[-1] = row[-2] if after == coarse.shape[1] else row[-1]
    double_row(row[first : after + 2], out[2 * first : 2 * after])


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
def complete(own, known, out):
    one = out.dtype.type(1)
    for x in range(len(out)):
        out[x] = own[x] + (one - known[x]) * out[x]


# Discs --------------------------------------------------------------------------------------------------------------


def spread(layer: Tensor, area: Area, visible: Tensor, kernels: Tensor) -> Tensor:
    """The reference's `spread`."""
    side, source = kernels.shape[-1], area.grown(kernels.shape[-1] // 2)
    if side == 1:
        return window(layer, source)
    one = kernels.shape[:2] == (1, 1)
    high, wide = (BLOCK, BLOCK) if one else (area.size[0] // len(kernels), area.size[1] // kernels.shape[1])
    arrays = [x.contiguous().numpy() for x in (layer[0], visible[0, 0], kernels.flip(2, 3).to(layer))]
    mean, lamps = mean_colour(arrays[0])
    exact = np.float64 if lamps > 0 else mean.dtype
    sums = np.zeros((high + side, source.size[1]), exact)
    return torch.from_numpy(spread_blocks(*arrays, source.top, source.left, high, wide, mean, sums))[None]


@compiled
def spread_blocks(layer, visible, kernels, first_row, first_column, high, wide, mean, sums):
    """A layer (4,H,W) gathered from a row and a column on by kernels (R,C,n,n), each for a block of the result (4,h,w).

    The result lies within the layer; what kernels reach beyond it is its edge, extended. Down a column most of a
    kernel's taps are equal: what they gather is a difference of running `sums`. Blocks side by side that have the same
    kernel are worked together: long loops are fast ones.
    """
    (height, width), side = visible.shape, kernels.shape[-1]
    out = np.zeros((4, height, width), layer.dtype)
    light = np.empty((high + side - 1, width + side - 1), layer.dtype)
    filled = np.zeros(high + side, np.int64)
    for top in range(0, height, high):
        left, bottom = 0, min(top + high, height)
        while left < width:
            right = min(left + wide, width)
            busy = seen(visible, top, bottom, left, right)
            while busy and kernels.shape[1] == 1 and right < width and seen(visible, top, bottom, right, right + wide):
                right = min(right + wide, width)
            rows = first_row + top, first_row + bottom + side - 1
            columns = first_column + left, first_column + right + side - 1
            if busy and count_filled(layer[3], *rows, *columns, filled):
                kernel = kernels[min(top // high, len(kernels) - 1), min(left // wide, kernels.shape[1] - 1)]
                apart = take_apart(kernel)
                for c in (3, 0, 1, 2):
                    collect(layer, c, *rows, *columns, mean, light, sums)
                    for y in range(bottom - top):
                        if filled[y + side] > filled[y]:
                            total = out[c, top + y, left:right]
                            gather(apart, light, sums, y, total)
                            if c < 3:
                                add_row(total, mean[c], out[3, top + y, left:right])
            left = right
    return out


@compiled
def mean_colour(layer):
    """Of a layer (4,h,w), per alpha and without what is brighter than white; and how much light is beyond LAMP.

    The mean's own alpha is 0.
    """
    sums, mean, lamps = np.zeros(4), np.zeros(4, layer.dtype), 0.0
    for y in range(layer.shape[1]):
        first, after = span(layer[3, y], layer[3, y])
        for c in range(4):
            total, beyond = sum_row(layer[c, y, first:after], layer[3, y, first:after])
            sums[c] += total
            lamps += beyond
    for c in range(3):
        mean[c] = sums[c] / max(sums[3], EPS)
    return mean, lamps


@compiled
def sum_row(row, alpha):
    total, beyond, lamp = row.dtype.type(0), row.dtype.type(0), row.dtype.type(LAMP)
    for x in range(len(row)):
        total += min(row[x], alpha[x])
        beyond += max(row[x] - lamp, row.dtype.type(0))
    return total, beyond


@compiled
def seen(visible, top, bottom, left, right):
    """Whether anything of a block is visible, or of what is beside it."""
    for y in range(max(top - BESIDE, 0), min(bottom + BESIDE, visible.shape[0])):
        for x in range(max(left - BESIDE, 0), min(right + BESIDE, visible.shape[1])):
            if visible[y, x] > 0:
                return True
    return False


@compiled
def count_filled(alpha, top, bottom, left, right, filled):
    """Up to each row, how many rows of an area there are that hold something; 0: it is empty."""
    height, width = alpha.shape
    for y in range(top, bottom):
        row, some = alpha[min(max(y, 0), height - 1), max(left, 0) : min(right, width)], 0
        for x in range(len(row)):
            some |= row[x] > 0
        filled[y - top + 1] = filled[y - top] + some
    return filled[bottom - top]


@compiled
def take_apart(kernel):
    """A kernel's columns as runs of equal taps, the longest of each (from, to, column), and other taps (row, column).

    And what they are multiplied by. The others are filled up to fours with taps of nothing.
    """
    side, n, m = len(kernel), 0, 0
    runs, run_parts = np.zeros((side, 3), np.uint64), np.zeros(side, kernel.dtype)
    taps, tap_parts = np.zeros((side * side + 3, 2), np.uint64), np.zeros(side * side + 3, kernel.dtype)
    for j in range(side):
        first, after, start = 0, 0, 0
        while start < side:
            end = start + 1
            while end < side and kernel[end, j] == kernel[start, j]:
                end += 1
            if end - start > max(after - first, 2) and kernel[start, j] != 0:
                first, after = start, end
            start = end
        if after > first:
            runs[n, 0], runs[n, 1], runs[n, 2], run_parts[n] = first, after, j, kernel[first, j]
            n += 1
        for i in range(side):
            if not first <= i < after and kernel[i, j] != 0:
                taps[m, 0], taps[m, 1], tap_parts[m] = i, j, kernel[i, j]
                m += 1
    fours = (m + 3) // 4 * 4
    return runs[:n], run_parts[:n], taps[:fours], tap_parts[:fours]


@compiled
def collect(layer, c, top, bottom, left, right, mean, light, sums):
    """A channel of an area of a layer, less its mean, and running sums of it down the columns."""
    _, height, width = layer.shape
    count, first, end = right - left, max(left, 0), min(right, width)
    for y in range(bottom - top):
        at = min(max(top + y, 0), height - 1)
        own, alpha, inside = layer[c, at, first:end], layer[3, at, first:end], light[y, first - left : end - left]
        row, before, after = light[y, :count], sums[y, :count], sums[y + 1, :count]
        for x in range(len(inside)):
            inside[x] = own[x] - mean[c] * alpha[x]
        row[: first - left], row[end - left :] = inside[0], inside[len(inside) - 1]
        for x in range(count):
            after[x] = before[x] + row[x]


@compiled
def gather(apart, light, sums, y, total):
    """Adds to a row what a kernel gathers from the rows from y on, four taps at once: the row is read and written once.

    Indices have no sign: else loops check it.
    """
    runs, run_parts, taps, tap_parts = apart
    y, count = np.uint64(y), np.uint64(len(total))
    for n in range(len(runs)):
        part, first, after, j = run_parts[n], y + runs[n, 0], y + runs[n, 1], runs[n, 2]
        for x in range(count):
            total[x] += part * total.dtype.type(sums[after, j + x] - sums[first, j + x])
    for n in range(0, len(taps), 4):
        a, b, c, d = tap_parts[n], tap_parts[n + 1], tap_parts[n + 2], tap_parts[n + 3]
        ya, yb, yc, yd = y + taps[n, 0], y + taps[n + 1, 0], y + taps[n + 2, 0], y + taps[n + 3, 0]
        xa, xb, xc, xd = taps[n, 1], taps[n + 1, 1], taps[n + 2, 1], taps[n + 3, 1]
        for x in range(count):
            total[x] += a * light[ya, xa + x] + b * light[yb, xb + x] + c * light[yc, xc + x] + d * light[yd, xd + x]


# Compositing --------------------------------------------------------------------------------------------------------


def over(front: Composite, layer: Tensor, radius: float, area: Area) -> None:
    """The reference's `over`, in place."""
    planes = (x[0].numpy() for x in (front.rgba, front.through, front.nearer, front.radial))
    kind, at = front.rgba.numpy().dtype.type, area.at_level(front.finer)
    shown = layer[0].contiguous().numpy()
    put_behind(*planes, shown, kind(radius / 2**front.level), front.side, area.top, area.left)
    put_before(front.farthest[0].numpy(), shown, kind(radius), 2**front.finer, at.top, at.left)


@compiled
def put_behind(rgba, through, nearer, radial, layer, radius, side, top, left):
    """A layer (4,h,w) at (top, left) behind a composite; nothing is nearer elsewhere."""
    one, eps = rgba.dtype.type(1), rgba.dtype.type(EPS)
    _, height, width = layer.shape
    arrives = np.empty(width, rgba.dtype)
    nearer[0, :top], nearer[0, top + height :] = 0, 0
    for y in range(height):
        first, after = span(layer[3, y], layer[3, y])
        row, here, part, count = top + y, slice(left + first, left + after), slice(first, after), after - first
        passed, before, alpha = through[0, row, here], nearer[0, row, here], layer[3, y, part]
        for x in range(count):
            arrives[x] = passed[x] / max(max(alpha[x], one - before[x]), eps)
        for x in range(count):
            passed[x] -= arrives[x] * alpha[x]
        for c in range(4):
            add_product(rgba[c, row, here], arrives, layer[c, y, part])
        for x in range(count):
            arrives[x] *= radius
        for c in range(len(radial)):
            add_product(radial[c, row, here], arrives, layer[c if side < 0 else 3, y, part])
        nearer[0, row] = 0
        copy(alpha, before)


@compiled
def put_before(farthest, layer, radius, unit, top, left):
    """The reference's `keep`: a layer (4,h,w), at 1 / unit of the size, at (top, left) before all others."""
    _, height, width = layer.shape
    one, least = layer.dtype.type(1), layer.dtype.type(1 / TRUST)
    trust, passes, mean = np.empty((3, width // unit), layer.dtype)
    sums = np.empty(width, layer.dtype)
    for y in range(height // unit):
        rows = slice(unit * y, unit * y + unit)
        mean_of_cells(layer[3, rows], sums, mean)
        first, after = span(mean, mean)
        for x in range(first, after):
            trust[x] = one / max(mean[x], least)
            passes[x] = one - mean[x] * trust[x]
        for c in (3, 4, 0, 1, 2):
            if c < 3:
                mean_of_cells(layer[c, rows, unit * first : unit * after], sums, mean[first:after])
            elif c == 4:  # of alpha, which was the channel before
                mean[first:after] *= radius
            own = farthest[c, top + y, left + first : left + after]
            for x in range(after - first):
                own[x] = mean[first + x] * trust[first + x] + passes[first + x] * own[x]


@compiled
def mean_of_cells(rows, sums, out):
    """The means of a row of cells from their rows of pixels (n,w); `sums` (w) is written to."""
    unit, width = rows.shape
    share = sums.dtype.type(1 / unit**2)
    copy(rows[0], sums[:width])
    for i in range(1, unit):
        add_row(sums[:width], sums.dtype.type(1), rows[i])
    for x in range(len(out)):
        total = sums[unit * x]
        for i in range(1, unit):
            total += sums[unit * x + i]
        out[x] = total * share


@compiled
def copy(row, out):
    for x in range(len(row)):
        out[x] = row[x]


@compiled
def add_product(out, a, b):
    for x in range(len(out)):
        out[x] += a[x] * b[x]


def behind(front: Composite, group: Composite) -> None:
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
        passed, shown = through[0, y], wide[2]
        if unit == 1:
            shown = group[:, top + y, left : left + width]
        else:
            here, there, down = between_cells(top + y, cells, unit)
            for row in (here, there):
                if held[row % 2] != row:
                    held[row % 2] = row
                    for c in range(6):
                        widen(group[c, row], first, second, across, wide[row % 2, c])
            for c in range(6):
                mix(wide[here % 2, c], wide[there % 2, c], across.dtype.type(down), shown[c])
        for c in range(4):
            add_product(rgba[c, y], passed, shown[c])
        for x in range(width):
            passed[x] *= shown[4, x]
        copy(shown[5], nearer[0, y])


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


STEPS = Steps(unmix, weigh, fill, spread, over, behind)
