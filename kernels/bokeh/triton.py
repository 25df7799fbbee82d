"""The photo renderer's steps as Triton kernels: what slabs take of the surfaces, what is hidden, discs, compositing.

Levels and order are the reference's. Each kernel does in one launch, reading once, what takes a dozen
tensor operations there: `weigh`, `inpaint` (a launch for every size of the pyramid, down and up), `spread` (a gather of
hundreds to thousands of taps a pixel, in the blocks that hold or show something), `over`, `keep` and `behind` (in
place). All but the last two have a gradient of their own, those the reference's. No launch waits for the GPU, and
nothing is added atomically: results are the same every time.

A slab's kernels run for tens of microseconds each, so what Python does between them matters as much as what they do.
"""

from dataclasses import dataclass
from functools import cached_property, partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from argan.kernels.bokeh import reference
from argan.kernels.bokeh.areas import Area, folded, reduced, window
from argan.kernels.bokeh.layers import NOWHERE, TRUST, Composite, Sheets
from argan.kernels.bokeh.plan import BLOCK, EPS, Plan
from argan.kernels.bokeh.regions import BESIDE, Steps
from argan.kernels.launch import blocks, launch

TILE = 4096
BLOCK_C = 256  # cells or pixels of a program of most kernels
STRIP = 16  # rows that `busy_kernel` looks at together, to see whether there is anything
BLOCK_P = 256  # pixels of a program of `spread_kernel`, at most: rows of a block
# Pixels of its threads, by bytes of a number: they share the load of a weight, and wait for their own loads together.
# float64 is for checks; with two a thread some versions of Triton spill.
PER_THREAD = {4: 4, 8: 1}


def steps(storage: torch.dtype) -> Steps:
    """In larger tiles than the reference's; taps are stored as `storage`."""
    fill, taps = partial(reference.fill, inpaint), partial(spread, storage=storage)
    return Steps(unmix, weigh, fill, taps, over, behind, TILE)


# What slabs take of the surfaces ------------------------------------------------------------------------------------


@dataclass
class Surfaces(Sheets):
    """Sheets as kernels take them. What slabs' gradients say of them is added up in place, in `gradients`."""

    @cached_property
    def planes(self) -> list[Tensor]:
        """Near surfaces and their places, far ones and theirs."""
        return [x.contiguous() for x in (self.near, self.place, *self.far_planes)]

    @cached_property
    def gradients(self) -> list[Tensor]:
        """Of the planes; empty until the first slab has one."""
        return []

    @cached_property
    def token(self) -> Tensor:
        """What slabs depend on in place of the planes: once they have all added theirs, its gradient hands it on."""
        return _Collect.apply(self.gradients, *self.planes)


def unmix(image: Tensor, spans: Tensor, plan: Plan) -> Surfaces:
    return Surfaces(**vars(reference.unmix(image, spans, plan)))


def weigh(sheets: Sheets, what: str, k: int, area: Area, level: int, part: Area | None = None) -> Tensor:
    """The reference's `weigh`: the kernel's at full size or half of it, made smaller from there."""
    assert isinstance(sheets, Surfaces)
    arguments = sheets, what, k, part or area, min(level, 1)
    recorded = torch.is_grad_enabled() and any(x.requires_grad for x in sheets.planes)
    fine = _Weigh.apply(sheets.token, *arguments) if recorded else weighed(*arguments)
    return reference.within_zeros(reduced(fine, max(level - 1, 0)), part or area, area, level)


def weighed(sheets: Surfaces, what: str, k: int, area: Area, level: int) -> Tensor:
    place = sheets.planes[1]
    out = place.new_empty(1, 4 if what == "seen" else 1, *area.at_level(level).size)
    launch(
        weigh_kernel, blocks(out[0, 0].numel(), BLOCK_C),
        *sheets.planes, out, float(k), place.numel(), place.shape[-1], area.top, area.left, *area.size,
        WHAT=what, LEVEL=level, NOWHERE=NOWHERE, BLOCK=BLOCK_C,
    )  # fmt: skip
    return out


class _Weigh(torch.autograd.Function):
    """Near and far surfaces, weighted by functions of their places and added up."""

    @staticmethod
    def forward(ctx, token: Tensor, sheets: Surfaces, what: str, k: int, area: Area, level: int):
        ctx.constants = sheets, what, k, area, level
        return weighed(*ctx.constants)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        sheets, what, k, area, level = ctx.constants
        if not sheets.gradients:
            sheets.gradients.extend(torch.zeros_like(x) for x in sheets.planes)
        place = sheets.planes[1]
        launch(
            weigh_backward_kernel, blocks(area.pixels, BLOCK_C),
            grad.contiguous(), *sheets.planes, *sheets.gradients, float(k), place.numel(), place.shape[-1],
            area.top, area.left, *area.size, WHAT=what, LEVEL=level, NOWHERE=NOWHERE, BLOCK=BLOCK_C,
        )  # fmt: skip
        return None, None, None, None, None, None


class _Collect(torch.autograd.Function):
    """Hands on to the planes what `_Weigh` has added up for them: nobody adds up planes of gradients for every slab."""

    @staticmethod
    def forward(ctx, gradients: list[Tensor], *planes: Tensor):
        ctx.gradients = gradients
        return planes[0].new_zeros(())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, _: Tensor):
        collected = ctx.gradients.copy()
        ctx.gradients.clear()
        return None, *collected


@triton.jit
def weight_of(place, k, WHAT: tl.constexpr):
    """`reference.WEIGHTS`."""
    if WHAT == "seen":
        return tl.maximum(1 - tl.abs(place - k), 0)
    if WHAT == "known":
        return tl.minimum(tl.maximum((k + 1) - place, 0), 1)
    return tl.minimum(tl.maximum(place - (k + 1), 0), 1)


@triton.jit
def slope_of(place, k, WHAT: tl.constexpr):
    """Their derivatives, at kinks as PyTorch has them up to 2.14."""
    if WHAT == "seen":
        away = place - k
        return tl.where(tl.abs(away) > 1, 0, tl.where(away > 0, -1, tl.where(away < 0, 1, 0)))
    if WHAT == "known":
        return tl.where((place < k) | (place > k + 1), 0, -1)
    return tl.where((place < k + 1) | (place > k + 2), 0, 1)


@triton.jit(do_not_specialize=["k", "plane", "pitch", "top", "left", "height", "width"])
def weigh_kernel(
    near, near_place, far, far_place, out, k, plane, pitch, top, left, height, width,
    WHAT: tl.constexpr, LEVEL: tl.constexpr, NOWHERE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Surfaces of an area of a region's planes times their weights, shared by the cells around: `reduced`.

    What weighs nothing is not read: most of a picture belongs to other slabs, and most of it has no far surface.
    """
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    columns = width >> LEVEL
    cells = columns * (height >> LEVEL)
    exists = cell < cells
    y, x = cell // columns, cell % columns
    first = tl.zeros([BLOCK], out.dtype.element_ty)
    second, third, alpha = first, first, first
    for i in range(4 if LEVEL else 1):
        for j in range(4 if LEVEL else 1):
            row, column, share = y, x, 1.0
            if LEVEL:
                row = tl.minimum(tl.maximum(2 * y + i - 1, 0), height - 1)
                column = tl.minimum(tl.maximum(2 * x + j - 1, 0), width - 1)
                share = tl.where((i == 0) | (i == 3), 0.125, 0.375) * tl.where((j == 0) | (j == 3), 0.125, 0.375)
            at = (top + row) * pitch + left + column
            place = tl.load(near_place + at, exists, other=0)
            weight = share * weight_of(place, k, WHAT)
            used = exists & (weight > 0)
            if WHAT == "seen":
                first += weight * tl.load(near + at, used, other=0)
                second += weight * tl.load(near + plane + at, used, other=0)
                third += weight * tl.load(near + 2 * plane + at, used, other=0)
            alpha += weight * tl.load(near + 3 * plane + at, used, other=0)
            place = tl.load(far_place + at, exists, other=NOWHERE)
            weight = share * weight_of(place, k, WHAT)
            used = exists & (weight > 0) & (place > NOWHERE)
            if WHAT == "seen":
                first += weight * tl.load(far + at, used, other=0)
                second += weight * tl.load(far + plane + at, used, other=0)
                third += weight * tl.load(far + 2 * plane + at, used, other=0)
            alpha += weight * tl.load(far + 3 * plane + at, used, other=0)
    if WHAT == "seen":
        tl.store(out + cell, first, exists)
        tl.store(out + cells + cell, second, exists)
        tl.store(out + 2 * cells + cell, third, exists)
        tl.store(out + 3 * cells + cell, alpha, exists)
    else:
        tl.store(out + cell, alpha, exists)


@triton.jit
def shared_gradient(grad, y, x, height, width, exists, LEVEL: tl.constexpr):
    """The gradient that comes to a pixel from the cells which it was shared by: the adjoint of `reduced`."""
    columns = width >> LEVEL
    if not LEVEL:
        return tl.load(grad + y * columns + x, exists, other=0)
    row, column = y // 2, x // 2
    beside = tl.minimum(tl.maximum(column + 2 * (x % 2) - 1, 0), columns - 1)
    beyond = tl.minimum(tl.maximum(row + 2 * (y % 2) - 1, 0), (height >> LEVEL) - 1)
    here = 0.375 * tl.load(grad + row * columns + column, exists, other=0)
    here += 0.125 * tl.load(grad + row * columns + beside, exists, other=0)
    there = 0.375 * tl.load(grad + beyond * columns + column, exists, other=0)
    there += 0.125 * tl.load(grad + beyond * columns + beside, exists, other=0)
    return 0.375 * here + 0.125 * there


@triton.jit(do_not_specialize=["k", "plane", "pitch", "top", "left", "height", "width"])
def weigh_backward_kernel(
    grad, near, near_place, far, far_place, grad_near, grad_near_place, grad_far, grad_far_place,
    k, plane, pitch, top, left, height, width,
    WHAT: tl.constexpr, LEVEL: tl.constexpr, NOWHERE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adds to gradients of surfaces and places those from `weigh_kernel`'s cells; each pixel gathers its own."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = pixel < height * width
    y, x = pixel // width, pixel % width
    at = (top + y) * pitch + left + x
    cells = (height >> LEVEL) * (width >> LEVEL)
    near_at, far_at = tl.load(near_place + at, exists, other=0), tl.load(far_place + at, exists, other=NOWHERE)
    is_far = exists & (far_at > NOWHERE)
    near_weight, far_weight = weight_of(near_at, k, WHAT), weight_of(far_at, k, WHAT)
    near_slope = tl.zeros([BLOCK], grad_near.dtype.element_ty)
    far_slope = near_slope
    for channel in range(0 if WHAT == "seen" else 3, 4):
        come = shared_gradient(grad + (channel * cells if WHAT == "seen" else 0), y, x, height, width, exists, LEVEL)
        near_slope += come * tl.load(near + channel * plane + at, exists, other=0)
        far_slope += come * tl.load(far + channel * plane + at, is_far, other=0)
        add_to(grad_near + channel * plane + at, near_weight * come, exists & (near_weight > 0))
        add_to(grad_far + channel * plane + at, far_weight * come, is_far & (far_weight > 0))
    near_slope *= slope_of(near_at, k, WHAT)
    far_slope *= slope_of(far_at, k, WHAT)
    add_to(grad_near_place + at, near_slope, exists & (near_slope != 0))
    add_to(grad_far_place + at, far_slope, is_far & (far_slope != 0))


@triton.jit
def add_to(at, value, mask):
    tl.store(at, tl.load(at, mask, other=0) + value, mask)


# Hidden surfaces ----------------------------------------------------------------------------------------------------


def inpaint(layer: Tensor, known: Tensor, levels: int, wanted: Area) -> Tensor:
    """The reference's `inpaint`, of one picture."""
    if torch.is_grad_enabled() and (layer.requires_grad or known.requires_grad):
        return _Inpaint.apply(layer, known, levels, wanted)
    return pyramid_of(layer, known, levels, wanted)[0]


def pyramid_of(layer: Tensor, known: Tensor, levels: int, wanted: Area) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """What is filled in, and all smaller sizes, each (1,5,h,w), fine to coarse: what was known there, and filled in."""
    means = [pulled(layer, known)]
    for _ in range(levels - 1):
        means.append(pulled(means[-1][:, :4], means[-1][:, 4:]))
    filled = [means[-1]]
    for finer in reversed(means[:-1]):
        filled.insert(0, pushed(finer[:, :4], finer[:, 4:], filled[0], Area.of(finer)))
    return pushed(layer, known, filled[0], wanted), means, filled


class _Inpaint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, layer: Tensor, known: Tensor, levels: int, wanted: Area):
        out, means, filled = pyramid_of(layer, known, levels, wanted)
        ctx.save_for_backward(layer.clone(), known, *means, *filled)  # the layer is written to afterwards
        ctx.wanted = wanted
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        layer, known, *smaller = ctx.saved_tensors
        levels = len(smaller) // 2
        means, filled = smaller[:levels], smaller[levels:]
        sizes = [(layer, known), *((mean[:, :4], mean[:, 4:]) for mean in means)]
        areas = [ctx.wanted, *map(Area.of, means)]
        grads = [grad.contiguous()]  # of what is filled in, fine to coarse
        for (_, part), coarse, area in zip(sizes, filled, areas, strict=False):
            grads.append(pushed_backward(grads[-1], part, coarse, area))
        of_mean = grads.pop()
        for level in reversed(range(levels)):
            of_mean = pulled_backward(of_mean, grads[level], *sizes[level], filled[level], areas[level])
        return of_mean[:, :4], of_mean[:, 4:], None, None


def pulled(rgba: Tensor, known: Tensor) -> Tensor:
    """RGBA and the weight that it is premultiplied by, at half the size, as far as they are trusted: (1,5,h,w)."""
    height, width = (n // 2 for n in known.shape[-2:])
    out = rgba.new_empty(1, 5, height, width)
    launch(
        pull_kernel, blocks(height * width, BLOCK_C),
        *strided(rgba), *strided(known), out, height, width, TRUST=TRUST, BLOCK=BLOCK_C,
    )  # fmt: skip
    return out


def pushed(rgba: Tensor, known: Tensor, coarse: Tensor, wanted: Area) -> Tensor:
    """What is unknown of the `wanted` area, from `coarse` (1,5,h,w) of half the size: (1,5,H,W)."""
    rgba, known = rgba[wanted.index()], known[wanted.index()]
    out = rgba.new_empty(1, 5, *wanted.size)
    launch(
        push_kernel, blocks(wanted.pixels, BLOCK_C),
        *strided(rgba), *strided(known), coarse, out, *wanted.size, wanted.top, wanted.left, *coarse.shape[-2:],
        BLOCK=BLOCK_C,
    )  # fmt: skip
    return out


def pushed_backward(grad: Tensor, known: Tensor, coarse: Tensor, wanted: Area) -> Tensor:
    """The gradient of `coarse` from that of what was `pushed`."""
    out = torch.empty_like(coarse)
    launch(
        push_backward_kernel, blocks(coarse[0, 0].numel(), BLOCK_C),
        grad, *strided(known), out, *wanted.size, wanted.top, wanted.left, *coarse.shape[-2:], BLOCK=BLOCK_C,
    )  # fmt: skip
    return out


def pulled_backward(
    of_mean: Tensor, of_filled: Tensor, rgba: Tensor, known: Tensor, coarse: Tensor, wanted: Area
) -> Tensor:
    """The gradient (1,5,H,W) of rgba and known, of both that was made of them: what was `pulled` and `pushed`."""
    height, width = coarse.shape[-2:]
    out = rgba.new_empty(1, 5, 2 * height, 2 * width)
    launch(
        pull_backward_kernel, blocks(height * width, BLOCK_C),
        of_mean, of_filled, *strided(rgba), *strided(known), coarse, out,
        *wanted.size, wanted.top, wanted.left, height, width, TRUST=TRUST, BLOCK=BLOCK_C,
    )  # fmt: skip
    return out


def strided(x: Tensor) -> tuple[Tensor, int, int]:
    """A view of planes whose rows are contiguous, with its strides."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    return x, x.stride(1), x.stride(2)


@triton.jit(do_not_specialize=["rgba_plane", "rgba_pitch", "known_plane", "known_pitch", "height", "width"])
def pull_kernel(
    rgba, rgba_plane, rgba_pitch, known, known_plane, known_pitch, out, height, width,
    TRUST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Means of 2 x 2 pixels, lessened where less than a TRUST-th part of a cell is known."""
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = cell < height * width
    y, x = cell // width, cell % width
    part = mean_of_four(known + 2 * y * known_pitch + 2 * x, known_pitch, exists)
    trust = 1 / tl.maximum(part, 1 / TRUST)
    plane = height * width
    for channel in tl.static_range(4):
        mean = mean_of_four(rgba + channel * rgba_plane + 2 * y * rgba_pitch + 2 * x, rgba_pitch, exists)
        tl.store(out + channel * plane + cell, mean * trust, exists)
    tl.store(out + 4 * plane + cell, part * trust, exists)


@triton.jit
def mean_of_four(at, pitch, exists):
    """The mean of the 2 x 2 pixels from `at` on."""
    left = tl.load(at, exists, other=0) + tl.load(at + pitch, exists, other=0)
    right = tl.load(at + 1, exists, other=0) + tl.load(at + pitch + 1, exists, other=0)
    return (left + right) * 0.25


@triton.jit(
    do_not_specialize=[
        "rgba_plane", "rgba_pitch", "known_plane", "known_pitch",
        "height", "width", "top", "left", "coarse_height", "coarse_width",
    ]
)  # fmt: skip
def push_kernel(
    rgba, rgba_plane, rgba_pitch, known, known_plane, known_pitch, coarse, out,
    height, width, top, left, coarse_height, coarse_width, BLOCK: tl.constexpr,
):  # fmt: skip
    """What is known, and beside it what the coarser size says, bilinearly: `doubled`."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = pixel < height * width
    y, x = pixel // width, pixel % width
    row, column = (y + top) // 2, (x + left) // 2
    beyond = tl.minimum(tl.maximum(row + 2 * ((y + top) % 2) - 1, 0), coarse_height - 1)
    beside = tl.minimum(tl.maximum(column + 2 * ((x + left) % 2) - 1, 0), coarse_width - 1)
    unknown = 1 - tl.load(known + y * known_pitch + x, exists, other=0)
    for channel in tl.static_range(5):
        of = coarse + channel * coarse_height * coarse_width
        filled = between(of, row, beyond, column, beside, coarse_width, exists)
        if channel < 4:
            own = tl.load(rgba + channel * rgba_plane + y * rgba_pitch + x, exists, other=0)
        else:
            own = 1 - unknown
        tl.store(out + channel * height * width + pixel, own + unknown * filled, exists)


@triton.jit
def between(coarse, row, beyond, column, beside, pitch, mask):
    """What lies between the cells of two rows and columns, at a quarter of the way from the first ones."""
    here = 0.75 * tl.load(coarse + row * pitch + column, mask, other=0)
    here += 0.25 * tl.load(coarse + row * pitch + beside, mask, other=0)
    there = 0.75 * tl.load(coarse + beyond * pitch + column, mask, other=0)
    there += 0.25 * tl.load(coarse + beyond * pitch + beside, mask, other=0)
    return 0.75 * here + 0.25 * there


@triton.jit(
    do_not_specialize=["known_plane", "known_pitch", "height", "width", "top", "left", "coarse_height", "coarse_width"]
)
def push_backward_kernel(
    grad, known, known_plane, known_pitch, out, height, width, top, left, coarse_height, coarse_width,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Every coarse cell gathers what the pixels around it say, as much as `push_kernel` gave them of it."""
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    plane = coarse_height * coarse_width
    exists = cell < plane
    row, column = cell // coarse_width, cell % coarse_width
    zero = tl.zeros([BLOCK], out.dtype.element_ty)
    red, green, blue, alpha, weight = zero, zero, zero, zero, zero
    known += top * known_pitch + left
    for i in range(4):
        for j in range(4):
            y, x = 2 * row - 1 + i, 2 * column - 1 + j
            share = share_of(y, row, coarse_height) * share_of(x, column, coarse_width)
            y, x = y - top, x - left
            inside = exists & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            share *= 1 - tl.load(known + y * known_pitch + x, inside, other=1)
            at = grad + y * width + x
            red += share * tl.load(at, inside, other=0)
            green += share * tl.load(at + height * width, inside, other=0)
            blue += share * tl.load(at + 2 * height * width, inside, other=0)
            alpha += share * tl.load(at + 3 * height * width, inside, other=0)
            weight += share * tl.load(at + 4 * height * width, inside, other=0)
    tl.store(out + cell, red, exists)
    tl.store(out + plane + cell, green, exists)
    tl.store(out + 2 * plane + cell, blue, exists)
    tl.store(out + 3 * plane + cell, alpha, exists)
    tl.store(out + 4 * plane + cell, weight, exists)


@triton.jit
def share_of(y, row, rows):
    """How much of a coarse row there is in a fine one, which may be -1 (where no pixel is)."""
    own = (y + 2) // 2 - 1
    beyond = tl.minimum(tl.maximum(own + 2 * ((y + 2) % 2) - 1, 0), rows - 1)
    return tl.where(own == row, 0.75, 0.0) + tl.where(beyond == row, 0.25, 0.0)


@triton.jit(
    do_not_specialize=[
        "rgba_plane", "rgba_pitch", "known_plane", "known_pitch",
        "height", "width", "top", "left", "coarse_height", "coarse_width",
    ]
)  # fmt: skip
def pull_backward_kernel(
    of_mean, of_filled, rgba, rgba_plane, rgba_pitch, known, known_plane, known_pitch, coarse, out,
    height, width, top, left, coarse_height, coarse_width, TRUST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The four pixels of a cell: of `pull_kernel`'s mean of them, and of `push_kernel`'s pixels in the wanted area.

    A mean m of pixels of which a part p is known becomes m t(p), and p becomes p t(p).
    """
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    cells = coarse_height * coarse_width
    exists = cell < cells
    row, column = cell // coarse_width, cell % coarse_width
    part = mean_of_four(known + 2 * row * known_pitch + 2 * column, known_pitch, exists)
    trust = 1 / tl.maximum(part, 1 / TRUST)
    slope = tl.where(part >= 1 / TRUST, -trust * trust, 0)
    come = tl.load(of_mean + 4 * cells + cell, exists, other=0)
    of_part = come * (trust + part * slope)
    for channel in range(4):
        come = tl.load(of_mean + channel * cells + cell, exists, other=0)
        mean = mean_of_four(rgba + channel * rgba_plane + 2 * row * rgba_pitch + 2 * column, rgba_pitch, exists)
        of_part += come * mean * slope
    for i in range(2):
        beyond = tl.minimum(tl.maximum(row + 2 * i - 1, 0), coarse_height - 1)
        for j in range(2):
            beside = tl.minimum(tl.maximum(column + 2 * j - 1, 0), coarse_width - 1)
            y, x = 2 * row + i - top, 2 * column + j - left
            inside = exists & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            at = (2 * row + i) * 2 * coarse_width + 2 * column + j
            of_known = tl.load(of_filled + 4 * height * width + y * width + x, inside, other=0)
            of_known -= of_known * between(coarse + 4 * cells, row, beyond, column, beside, coarse_width, inside)
            for channel in range(4):
                come = tl.load(of_filled + channel * height * width + y * width + x, inside, other=0)
                mean = tl.load(of_mean + channel * cells + cell, exists, other=0)
                tl.store(out + channel * 4 * cells + at, come + 0.25 * trust * mean, exists)
                of_known -= come * between(coarse + channel * cells, row, beyond, column, beside, coarse_width, inside)
            tl.store(out + 16 * cells + at, of_known + 0.25 * of_part, exists)


# Discs --------------------------------------------------------------------------------------------------------------


def spread(layer: Tensor, area: Area, visible: Tensor, kernels: Tensor, storage: torch.dtype) -> Tensor:
    """The reference's `spread`, of one picture; taps are stored as `storage`."""
    side = kernels.shape[-1]
    if side == 1:
        return window(layer, area)
    block = BLOCK if kernels.shape[:2] == (1, 1) else visible.shape[-2] // len(kernels)
    arguments = layer, area.grown(side // 2), visible, kernels.to(layer), block, storage
    recorded = torch.is_grad_enabled() and layer.requires_grad
    return _Spread.apply(*arguments) if recorded else spread_blocks(*arguments)


def spread_blocks(
    layer: Tensor, source: Area, visible: Tensor, kernels: Tensor, block: int, storage: torch.dtype
) -> Tensor:
    """Spreads what there is in the `source`, an area of the layer that reaches half a kernel beyond the result."""
    busy = busy_blocks(layer, source, visible, block)
    whose = "one" if kernels.shape[:2] == (1, 1) else "block"
    return gather(packed(layer, source, storage), busy, kernels.flip(2, 3), whose, block, block)


class _Spread(torch.autograd.Function):
    """Correlation with the half-turned image of a point; its adjoint is one with the image."""

    @staticmethod
    def forward(ctx, layer: Tensor, source: Area, visible: Tensor, kernels: Tensor, block: int, storage: torch.dtype):
        ctx.save_for_backward(kernels)
        ctx.constants = source, layer.shape[-2:], block
        return spread_blocks(layer, source, visible, kernels, block, storage)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        (kernels,), (source, size, block) = ctx.saved_tensors, ctx.constants
        around = Area.of(grad).grown(kernels.shape[-1] - 1)
        everywhere = torch.ones(*(blocks(n, BLOCK) for n in source.size), dtype=torch.int8, device=grad.device)
        whose = "one" if kernels.shape[:2] == (1, 1) else "tap"
        spread = gather(packed(grad, around, grad.dtype, edge="zero"), everywhere, kernels, whose, BLOCK, block)
        return window_backward(spread, source, size), *[None] * 5


def window_backward(grad: Tensor, area: Area, size: torch.Size) -> Tensor:
    """The adjoint of `window`, of a picture of this size."""
    picture = Area(0, size[0], 0, size[1])
    inside = area.within(picture)
    grad = folded(grad, inside.short_of(area))
    if inside == picture:
        return grad
    out = grad.new_zeros(*grad.shape[:2], *size)
    out[inside.index()] = grad
    return out


def busy_blocks(layer: Tensor, source: Area, visible: Tensor, block: int) -> Tensor:
    """Which blocks of the result light reaches and are visible somewhere, or beside: int8, (rows,columns)."""
    height, width = visible.shape[-2:]
    out = torch.empty(blocks(height, block), blocks(width, block), dtype=torch.int8, device=layer.device)
    alpha, _, pitch = strided(layer[:, 3:])
    visible, _, visible_pitch = strided(visible)
    launch(
        busy_kernel, out.numel(), alpha, pitch, *layer.shape[-2:], source.top, source.left, *source.size,
        visible, visible_pitch, out, height, width, BLOCK=block, STRIP=min(block, STRIP), BESIDE=BESIDE,
    )  # fmt: skip
    return out


def packed(planes: Tensor, area: Area, storage: torch.dtype, edge: str = "extend") -> Tensor:
    """RGBA (1,4,h,w) pixel by pixel, (H,W,4), of an area that may reach beyond: there its edge goes on, or "zero"."""
    out = planes.new_empty(*area.size, 4, dtype=storage)
    launch(
        pack_kernel, blocks(area.pixels, BLOCK_C),
        *strided(planes), *planes.shape[-2:], out, area.top, area.left, *area.size,
        HALF=storage == torch.float16, EDGE=edge, BLOCK=BLOCK_C,
    )  # fmt: skip
    return out


def gather(source: Tensor, busy: Tensor, weights: Tensor, whose: str, block: int, cell: int) -> Tensor:
    """Correlates RGBA (H+n-1,W+n-1,4) with weights (R,C,n,n) in the `busy` blocks (H/block,W/block); 0 elsewhere.

    `whose` weights these are, and `cell`: see `spread_kernel`. Returns (1,4,H,W).
    """
    rows, columns, side, _ = weights.shape
    height, width = (n - side + 1 for n in source.shape[:2])
    out = weights.new_empty(1, 4, height, width)
    pixels = min(BLOCK_P, block * block)
    warps = max(1, pixels // (32 * PER_THREAD[weights.element_size()]))
    launch(
        spread_kernel, busy.numel() * block * block // pixels,
        source, weights.contiguous(), busy, out, height, width, side, rows, columns, cell,
        KERNELS=whose, BLOCK=block, BLOCK_P=pixels, num_warps=warps,
    )  # fmt: skip
    return out


@triton.jit(
    do_not_specialize=[
        "pitch", "layer_height", "layer_width", "top", "left", "source_height", "source_width",
        "visible_pitch", "height", "width",
    ]
)  # fmt: skip
def busy_kernel(
    alpha, pitch, layer_height, layer_width, top, left, source_height, source_width, visible, visible_pitch,
    out, height, width, BLOCK: tl.constexpr, STRIP: tl.constexpr, BESIDE: tl.constexpr,
):  # fmt: skip
    """Whether a block or what is beside it is visible, and there is something in what it is gathered from."""
    block = tl.program_id(0)
    across = tl.cdiv(width, BLOCK)
    first_row, first_column = (block // across) * BLOCK, (block % across) * BLOCK
    y, x = tl.arange(0, STRIP)[:, None], first_column + tl.arange(0, BLOCK)[None]
    shown = tl.zeros([STRIP, BLOCK], visible.dtype.element_ty)
    end_row = tl.minimum(first_row + BLOCK + BESIDE, height)
    for row in range(tl.maximum(first_row - BESIDE, 0), end_row, STRIP):
        for shift in tl.static_range(-BESIDE, BESIDE + 1, 2 * BESIDE):  # both together: a block and what is beside it
            column = x + shift
            exists = (row + y < end_row) & (column >= 0) & (column < width)
            shown = tl.maximum(shown, tl.load(visible + (row + y) * visible_pitch + column, exists, other=0))
    something = tl.max(shown) > 0
    if something:
        last_row = tl.minimum(first_row + BLOCK + source_height - height, source_height)
        last_column = tl.minimum(first_column + BLOCK + source_width - width, source_width)
        most = tl.zeros([STRIP, BLOCK], alpha.dtype.element_ty)
        for row in range(first_row, last_row, STRIP):
            for beside in range(0, last_column - first_column, BLOCK):
                exists = (row + y < last_row) & (x + beside < last_column)
                from_row = tl.minimum(tl.maximum(row + y + top, 0), layer_height - 1)
                from_column = tl.minimum(tl.maximum(x + beside + left, 0), layer_width - 1)
                most = tl.maximum(most, tl.load(alpha + from_row * pitch + from_column, exists, other=0))
        something = tl.max(most) > 0
    tl.store(out + block, something.to(tl.int8))


@triton.jit(do_not_specialize=["plane", "pitch", "layer_height", "layer_width", "top", "left", "height", "width"])
def pack_kernel(
    layer, plane, pitch, layer_height, layer_width, out, top, left, height, width,
    HALF: tl.constexpr, EDGE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = pixel < height * width
    y, x = pixel // width + top, pixel % width + left
    if EDGE == "zero":
        exists_there = exists & (y >= 0) & (y < layer_height) & (x >= 0) & (x < layer_width)
    else:
        exists_there = exists
        y, x = tl.minimum(tl.maximum(y, 0), layer_height - 1), tl.minimum(tl.maximum(x, 0), layer_width - 1)
    at = layer + y * pitch + x
    red, green = tl.load(at, exists_there, other=0), tl.load(at + plane, exists_there, other=0)
    blue, alpha = tl.load(at + 2 * plane, exists_there, other=0), tl.load(at + 3 * plane, exists_there, other=0)
    rgba = tl.reshape(tl.join(tl.join(red, blue), tl.join(green, alpha)), [BLOCK, 4])
    if HALF:
        rgba = tl.minimum(tl.maximum(rgba, -65504.0), 65504.0)
    tl.store(out + 4 * pixel[:, None] + tl.arange(0, 4)[None], rgba.to(out.dtype.element_ty), exists[:, None])


@triton.jit(do_not_specialize=["height", "width", "side", "rows", "columns", "cell"])
def spread_kernel(
    source, weights, busy, out, height, width, side, rows, columns, cell,
    KERNELS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """out[:, y, x] = sum of weights[i, j] source[y + i, x + j]: RGBA, channels last in source, side - 1 larger.

    `busy` says which blocks of out to work on, the rest is 0. Sums are in the type of weights, whatever source is
    stored in. KERNELS says whose weights: "one" for all; "block": every block of out has its own; "tap": the adjoint of
    that, every cell x cell pixels of source have, which begins with side - 1 pixels that belong to no cell and are 0.
    """
    block = tl.program_id(0) // (BLOCK * BLOCK // BLOCK_P)
    within = (tl.program_id(0) % (BLOCK * BLOCK // BLOCK_P)) * BLOCK_P + tl.arange(0, BLOCK_P)
    across = tl.cdiv(width, BLOCK)
    y = (block // across) * BLOCK + within // BLOCK
    x = (block % across) * BLOCK + within % BLOCK
    channel = tl.arange(0, 4)[None]
    pitch = width + side - 1
    pixel = tl.minimum(y, height - 1) * pitch + tl.minimum(x, width - 1)  # can be read always: no masks in the loop
    source += (pixel * 4)[:, None] + channel
    total = tl.zeros([BLOCK_P, 4], weights.dtype.element_ty)
    if tl.load(busy + block) != 0:
        if KERNELS == "block":
            weights += block * side * side
        for i in range(side):
            taps = source + i * pitch * 4
            for j in range(side):
                tap = tl.load(taps + j * 4).to(total.dtype)
                if KERNELS == "tap":
                    row = tl.minimum(tl.maximum(y + i - (side - 1), 0) // cell, rows - 1)
                    column = tl.minimum(tl.maximum(x + j - (side - 1), 0) // cell, columns - 1)
                    total += tl.load(weights + (row * columns + column) * side * side + i * side + j)[:, None] * tap
                else:
                    total += tl.load(weights + i * side + j) * tap
    exists = (y < height) & (x < width)
    tl.store(out + channel * (height * width) + (y * width + x)[:, None], total, mask=exists[:, None] & (channel < 4))


# Compositing --------------------------------------------------------------------------------------------------------


def over(front: Composite, layer: Tensor, radius: float, area: Area) -> None:
    """The reference's `over`, in place."""
    planes = tuple(x.contiguous() for x in (front.rgba, front.through, front.nearer, front.radial))
    own = radius / 2**front.level
    if torch.is_grad_enabled() and (layer.requires_grad or front.rgba.requires_grad):
        planes = _Over.apply(layer, *planes, own, front.side, area)
    else:
        put_over(layer, planes, own, front.side, area)
    front.rgba, front.through, front.nearer, front.radial = planes
    keep(front, layer, radius, area)


def keep(front: Composite, layer: Tensor, radius: float, area: Area) -> None:
    """The reference's `keep`, in place; where gradients are recorded, the reference's own."""
    if torch.is_grad_enabled() and (layer.requires_grad or front.rgba.requires_grad):
        reference.keep(front, layer, radius, area)
        return
    farthest, at = front.farthest.contiguous(), area.at_level(front.finer)
    launch(
        keep_kernel, blocks(at.pixels, BLOCK_C),
        layer.contiguous(), farthest, radius, *farthest.shape[-2:], at.top, at.left, *area.size,
        FINER=front.finer, TRUST=TRUST, BLOCK=BLOCK_C,
    )  # fmt: skip
    front.farthest = farthest


def put_over(layer: Tensor, planes: tuple[Tensor, ...], radius: float, side: int, area: Area) -> None:
    """Into the planes: RGBA, what passes, what is nearer, and what is weighted by radii."""
    through = planes[1]
    launch(
        over_kernel, blocks(through.numel(), BLOCK_C),
        layer.contiguous(), *planes, radius, *through.shape[-2:],
        area.top, area.left, *area.size, SIDE=side, EPS=EPS, BLOCK=BLOCK_C,
    )  # fmt: skip


class _Over(torch.autograd.Function):
    """`put_over`, with what it takes to go back: what passed before, and what was nearer."""

    @staticmethod
    def forward(ctx, layer, rgba, through, nearer, radial, radius: float, side: int, area: Area):
        ctx.save_for_backward(layer, through, nearer)
        ctx.constants = radius, side, area
        through, nearer = through.clone(), nearer.clone()
        put_over(layer, (rgba, through, nearer, radial), radius, side, area)
        ctx.mark_dirty(rgba, radial)
        return rgba, through, nearer, radial

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, of_rgba, of_through, of_nearer, of_radial):
        (layer, through, nearer), (radius, side, area) = ctx.saved_tensors, ctx.constants
        grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (layer, through, nearer)]
        launch(
            over_backward_kernel, blocks(through.numel(), BLOCK_C),
            *(x.contiguous() for x in (layer, through, nearer, of_rgba, of_through, of_nearer, of_radial)), *grads,
            radius, *through.shape[-2:], area.top, area.left, *area.size, SIDE=side, EPS=EPS, BLOCK=BLOCK_C,
        )  # fmt: skip
        of_layer, of_through, of_nearer = grads
        return of_layer, of_rgba, of_through, of_nearer, of_radial, None, None, None


def behind(front: Composite, group: Composite) -> None:
    """The reference's `behind`, in place; where gradients are recorded, the reference's own."""
    if torch.is_grad_enabled() and (group.rgba.requires_grad or front.rgba.requires_grad):
        reference.behind(front, group)
        return
    front.rgba, front.through, front.nearer = (x.contiguous() for x in (front.rgba, front.through, front.nearer))
    parts = [x.contiguous() for x in (group.rgba, group.through, group.nearer)]
    view = group.view or Area.of(front.rgba)
    launch(
        behind_kernel, blocks(front.through.numel(), BLOCK_C),
        front.rgba, front.through, front.nearer, *parts, *front.through.shape[-2:], view.top, view.left,
        *parts[1].shape[-2:], UNIT=2**group.level, BLOCK=BLOCK_C,
    )  # fmt: skip


@triton.jit
def in_layer(height, width, top, left, layer_height, layer_width, BLOCK: tl.constexpr):
    """A program's pixels of the picture: where they are, whether they exist, lie in the layer, and where in it."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = pixel < height * width
    y, x = pixel // width - top, pixel % width - left
    inside = exists & (y >= 0) & (y < layer_height) & (x >= 0) & (x < layer_width)
    return pixel, exists, inside, y * layer_width + x


@triton.jit(do_not_specialize=["radius", "height", "width", "top", "left", "layer_height", "layer_width"])
def over_kernel(
    layer, rgba, through, nearer, radial, radius: tl.float64, height, width, top, left, layer_height, layer_width,
    SIDE: tl.constexpr, EPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A layer, which is a part of the picture, behind what is there: `reference.over`. Nothing is nearer elsewhere."""
    radius = tl.cast(radius, rgba.dtype.element_ty)
    plane, layer_plane = height * width, layer_height * layer_width
    pixel, exists, inside, at = in_layer(height, width, top, left, layer_height, layer_width, BLOCK)
    alpha = tl.load(layer + 3 * layer_plane + at, inside, other=0)
    passed, before = tl.load(through + pixel, inside, other=0), tl.load(nearer + pixel, inside, other=0)
    arrives = passed / tl.maximum(tl.maximum(alpha, 1 - before), EPS)
    tl.store(through + pixel, passed - arrives * alpha, inside)
    tl.store(nearer + pixel, alpha, exists)
    for channel in tl.static_range(4):
        light = arrives * tl.load(layer + channel * layer_plane + at, inside, other=0)
        own = channel * plane + pixel
        tl.store(rgba + own, tl.load(rgba + own, inside, other=0) + light, inside)
        if SIDE < 0:
            tl.store(radial + own, tl.load(radial + own, inside, other=0) + radius * light, inside)
    if SIDE > 0:
        tl.store(radial + pixel, tl.load(radial + pixel, inside, other=0) + radius * arrives * alpha, inside)


@triton.jit(do_not_specialize=["radius", "height", "width", "top", "left", "layer_height", "layer_width"])
def over_backward_kernel(
    layer, through, nearer, of_rgba, of_through, of_nearer, of_radial, grad_layer, grad_through, grad_nearer,
    radius: tl.float64, height, width, top, left, layer_height, layer_width,
    SIDE: tl.constexpr, EPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of a layer, and of what passed and was nearer before it, from those after it; kinks as PyTorch's."""
    radius = tl.cast(radius, grad_layer.dtype.element_ty)
    plane, layer_plane = height * width, layer_height * layer_width
    pixel, exists, inside, at = in_layer(height, width, top, left, layer_height, layer_width, BLOCK)
    alpha = tl.load(layer + 3 * layer_plane + at, inside, other=0)
    rest = 1 - tl.load(nearer + pixel, inside, other=0)
    share = tl.maximum(tl.maximum(alpha, rest), EPS)
    arrives = tl.load(through + pixel, inside, other=0) / share
    come = tl.load(of_through + pixel, exists, other=0)
    of_alpha = tl.load(of_nearer + pixel, inside, other=0) - arrives * come
    of_arrives = -alpha * come
    if SIDE > 0:
        radial = radius * tl.load(of_radial + pixel, inside, other=0)
        of_alpha += arrives * radial
        of_arrives += alpha * radial
    for channel in tl.static_range(4):
        light = tl.load(of_rgba + channel * plane + pixel, inside, other=0)
        if SIDE < 0:
            light += radius * tl.load(of_radial + channel * plane + pixel, inside, other=0)
        of_arrives += light * tl.load(layer + channel * layer_plane + at, inside, other=0)
        if channel < 3:
            tl.store(grad_layer + channel * layer_plane + at, arrives * light, inside)
        else:
            of_alpha += arrives * light
    of_share = tl.where(tl.maximum(alpha, rest) >= EPS, -of_arrives * arrives / share, 0)
    to_alpha = tl.where(alpha > rest, 1.0, tl.where(alpha == rest, 0.5, 0.0))
    tl.store(grad_layer + 3 * layer_plane + at, of_alpha + to_alpha * of_share, inside)
    tl.store(grad_through + pixel, come + tl.where(inside, of_arrives / share, 0), exists)
    tl.store(grad_nearer + pixel, tl.where(inside, (to_alpha - 1) * of_share, 0), exists)


@triton.jit(do_not_specialize=["radius", "height", "width", "top", "left", "layer_height", "layer_width"])
def keep_kernel(
    layer, farthest, radius: tl.float64, height, width, top, left, layer_height, layer_width,
    FINER: tl.constexpr, TRUST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A layer, which is a part of the picture, at 1 / 2^FINER of its size before what is there: `reference.keep`."""
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    columns = layer_width >> FINER
    exists = cell < columns * (layer_height >> FINER)
    y, x = cell // columns, cell % columns
    plane, layer_plane = height * width, layer_height * layer_width
    pixel, at = (y << FINER) * layer_width + (x << FINER), (top + y) * width + left + x
    part = mean_of_cell(layer + 3 * layer_plane + pixel, layer_width, exists, FINER)
    trust = 1 / tl.maximum(part, 1 / TRUST)
    for channel in tl.static_range(5):
        if channel < 4:
            mean = mean_of_cell(layer + channel * layer_plane + pixel, layer_width, exists, FINER)
        else:
            mean = tl.cast(radius, part.dtype) * part
        own = farthest + channel * plane + at
        tl.store(own, trust * mean + (1 - trust * part) * tl.load(own, exists, other=0), exists)


@triton.jit
def mean_of_cell(at, pitch, exists, FINER: tl.constexpr):
    """The mean of the pixels of a cell, from `at` on."""
    total = tl.load(at, exists, other=0)
    for i in tl.static_range(1, 4**FINER):
        total += tl.load(at + (i >> FINER) * pitch + i % 2**FINER, exists, other=0)
    return total / 4**FINER


@triton.jit(do_not_specialize=["height", "width", "top", "left", "group_height", "group_width"])
def behind_kernel(
    rgba, through, nearer, group_rgba, group_through, group_nearer,
    height, width, top, left, group_height, group_width, UNIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A group at 1 / UNIT of the size behind what is there: `reference.behind`, enlarged bilinearly on the way."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = pixel < height * width
    plane, group_plane = height * width, group_height * group_width
    y, x = pixel // width + top, pixel % width + left
    row, beyond, down = between_cells(y, group_height, UNIT)
    column, beside, across = between_cells(x, group_width, UNIT)
    first, second = row * group_width + column, row * group_width + beside
    third, fourth = beyond * group_width + column, beyond * group_width + beside
    passed = tl.load(through + pixel, exists, other=0)
    for channel in tl.static_range(6):
        if channel < 4:
            source = group_rgba + channel * group_plane
        elif channel == 4:
            source = group_through
        else:
            source = group_nearer
        here = tl.load(source + first, exists, other=0)
        if UNIT > 1:
            here += across * (tl.load(source + second, exists, other=0) - here)
            there = tl.load(source + third, exists, other=0)
            there += across * (tl.load(source + fourth, exists, other=0) - there)
            here += down * (there - here)
        if channel < 4:
            own = rgba + channel * plane + pixel
            tl.store(own, tl.load(own, exists, other=0) + passed * here, exists)
        elif channel == 4:
            tl.store(through + pixel, passed * here, exists)
        else:
            tl.store(nearer + pixel, here, exists)


@triton.jit
def between_cells(at, cells, UNIT: tl.constexpr):
    """The two cells that a pixel lies between, and how far on the way from one to the other."""
    place = tl.maximum((at.to(tl.float32) + 0.5) / UNIT - 0.5, 0)
    first = tl.minimum(place.to(tl.int32), cells - 1)
    return first, tl.minimum(first + 1, cells - 1), place - first
