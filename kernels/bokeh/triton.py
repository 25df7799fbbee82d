"""The photo renderer's steps as Triton kernels: what slabs take of the surfaces, what is hidden, discs, compositing.

Levels and order are the reference's. Each kernel does in one launch, reading once, what takes a dozen
tensor operations there: `weigh` (forward and backward), `inpaint` (a launch for every size of the pyramid, down and up;
its gradient is the reference's), `spread` (forward and backward: a gather of hundreds to thousands of taps a pixel, in
the blocks that hold or show something), and `over` and `behind` (in place; where gradients are recorded they are the
reference's). No launch waits for the GPU, and nothing is added atomically: results are
the same every time.
"""

from functools import partial

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from argan.kernels.bokeh import reference
from argan.kernels.bokeh.aperture import Aperture
from argan.kernels.bokeh.areas import Area, reduced, round_up, window
from argan.kernels.bokeh.layers import NOWHERE, Composite, Sheets
from argan.kernels.bokeh.plan import BLOCK, EPS, Plan
from argan.kernels.bokeh.regions import Develop, Light, Steps, render_tiles

BLOCK_C = 256  # cells or pixels of a program of the other kernels
BLOCK_P = 256  # pixels of a program, at most: rows of a block
PER_THREAD = 4  # pixels: they share a weight's load, and wait for their own together
TILE = 4096


def render(
    image: Tensor | Light,
    coc: Tensor,
    aperture: Aperture,
    storage: torch.dtype,
    develop: Develop | None = None,
) -> Tensor:
    """The reference's `render`, in larger tiles; taps are stored as `storage`."""
    plan = Plan.of(coc, aperture)
    tile = round_up(max(TILE, 2 * plan.margin), plan.cell)
    fill, taps = partial(reference.fill, inpaint), partial(spread, storage=storage)
    steps = Steps(reference.unmix, weigh, fill, taps, over, behind)
    return render_tiles(image, coc, plan, steps, tile, develop)


# What slabs take of the surfaces ------------------------------------------------------------------------------------


def weigh(sheets: Sheets, what: str, k: int, area: Area, level: int, part: Area | None = None) -> Tensor:
    """The reference's `weigh`: the kernel's at full size or half of it, made smaller from there."""
    weighed = _Weigh.apply(sheets.near, sheets.place, *sheets.far_planes, what, k, part or area, min(level, 1))
    return reference.within_zeros(reduced(weighed, max(level - 1, 0)), part or area, area, level)


class _Weigh(torch.autograd.Function):
    """Near and far surfaces, weighted by functions of their places and added up."""

    @staticmethod
    def forward(ctx, near, near_place, far, far_place, what: str, k: int, area: Area, level: int):
        surfaces = [x.contiguous() for x in (near, near_place, far, far_place)]
        ctx.save_for_backward(*surfaces)
        ctx.constants = what, k, area, level
        out = near.new_empty(1, 4 if what == "seen" else 1, *area.at_level(level).size)
        cells = out[0, 0].numel()
        with torch.cuda.device_of(near):
            weigh_kernel[(triton.cdiv(cells, BLOCK_C),)](
                *surfaces, out, float(k), near[0, 0].numel(), near.shape[-1], area.top, area.left, *area.size,
                WHAT=what, LEVEL=level, NOWHERE=NOWHERE, BLOCK=BLOCK_C,
            )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        surfaces = ctx.saved_tensors
        what, k, area, level = ctx.constants
        grads = [torch.zeros_like(x) for x in surfaces]
        with torch.cuda.device_of(grad):
            weigh_backward_kernel[(triton.cdiv(area.pixels, BLOCK_C),)](
                grad.contiguous(), *surfaces, *grads, float(k), surfaces[0][0, 0].numel(), surfaces[0].shape[-1],
                area.top, area.left, *area.size, WHAT=what, LEVEL=level, NOWHERE=NOWHERE, BLOCK=BLOCK_C,
            )  # fmt: skip
        return *grads, None, None, None, None


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
    """Their derivatives, at kinks as PyTorch has them."""
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
    """Gradients of surfaces and places from those of `weigh_kernel`'s cells; each pixel gathers its own."""
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
        tl.store(grad_near + channel * plane + at, near_weight * come, exists)
        tl.store(grad_far + channel * plane + at, far_weight * come, is_far)
    tl.store(grad_near_place + at, near_slope * slope_of(near_at, k, WHAT), exists)
    tl.store(grad_far_place + at, far_slope * slope_of(far_at, k, WHAT), is_far)


# Hidden surfaces ----------------------------------------------------------------------------------------------------


def inpaint(layer: Tensor, known: Tensor, levels: int, wanted: Area) -> Tensor:
    """The reference's `inpaint`, of one picture."""
    return _Inpaint.apply(layer, known, levels, wanted)


class _Inpaint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, layer: Tensor, known: Tensor, levels: int, wanted: Area):
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(layer.clone(), known)  # the layer is written to afterwards
        ctx.constants = levels, wanted
        pyramid = [pulled(layer, known)]
        for _ in range(levels - 1):
            pyramid.append(pulled(pyramid[-1][:, :4], pyramid[-1][:, 4:]))
        filled = pyramid.pop()
        for finer in reversed(pyramid):
            filled = pushed(finer[:, :4], finer[:, 4:], filled, Area.of(finer))
        return pushed(layer, known, filled, wanted)

    @staticmethod
    def backward(ctx, grad: Tensor):
        inputs = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        with torch.enable_grad():
            filled = reference.inpaint(*inputs, *ctx.constants)
        return *torch.autograd.grad(filled, inputs, grad), None, None


def pulled(rgba: Tensor, known: Tensor) -> Tensor:
    """RGBA and the weight that it is premultiplied by, at half the size, as far as they are trusted: (1,5,h,w)."""
    height, width = (n // 2 for n in known.shape[-2:])
    out = rgba.new_empty(1, 5, height, width)
    with torch.cuda.device_of(rgba):
        pull_kernel[(triton.cdiv(height * width, BLOCK_C),)](
            *strided(rgba), *strided(known), out, height, width, TRUST=reference.TRUST, EPS=EPS, BLOCK=BLOCK_C
        )
    return out


def pushed(rgba: Tensor, known: Tensor, coarse: Tensor, wanted: Area) -> Tensor:
    """What is unknown of the `wanted` area, from `coarse` (1,5,h,w) of half the size: (1,5,H,W)."""
    rgba, known = rgba[wanted.index()], known[wanted.index()]
    out = rgba.new_empty(1, 5, *wanted.size)
    with torch.cuda.device_of(rgba):
        push_kernel[(triton.cdiv(wanted.pixels, BLOCK_C),)](
            *strided(rgba), *strided(known), coarse, out, *wanted.size, wanted.top, wanted.left, *coarse.shape[-2:],
            BLOCK=BLOCK_C,
        )  # fmt: skip
    return out


def strided(x: Tensor) -> tuple[Tensor, int, int]:
    """A view of planes whose rows are contiguous, with its strides."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    return x, x.stride(1), x.stride(2)


@triton.jit(do_not_specialize=["rgba_plane", "rgba_pitch", "known_plane", "known_pitch", "height", "width"])
def pull_kernel(
    rgba, rgba_plane, rgba_pitch, known, known_plane, known_pitch, out, height, width,
    TRUST: tl.constexpr, EPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Means of 2 x 2 pixels, lessened where less than a TRUST-th part of a cell is known."""
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = cell < height * width
    y, x = cell // width, cell % width
    part = mean_of_four(known + 2 * y * known_pitch + 2 * x, known_pitch, exists)
    trust = tl.minimum(TRUST * part, 1) / tl.maximum(part, EPS)
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
        here = 0.75 * tl.load(of + row * coarse_width + column, exists, other=0)
        here += 0.25 * tl.load(of + row * coarse_width + beside, exists, other=0)
        there = 0.75 * tl.load(of + beyond * coarse_width + column, exists, other=0)
        there += 0.25 * tl.load(of + beyond * coarse_width + beside, exists, other=0)
        if channel < 4:
            own = tl.load(rgba + channel * rgba_plane + y * rgba_pitch + x, exists, other=0)
        else:
            own = 1 - unknown
        tl.store(out + channel * height * width + pixel, own + unknown * (0.75 * here + 0.25 * there), exists)


# Discs --------------------------------------------------------------------------------------------------------------


def spread(layer: Tensor, area: Area, visible: Tensor, kernels: Tensor, storage: torch.dtype | None = None) -> Tensor:
    """The reference's `spread`; taps are stored as `storage`, None: as the layer is."""
    layer = window(layer, area.grown(kernels.shape[-1] // 2))
    if kernels.shape[-1] == 1:
        return layer
    one = kernels.shape[:2] == (1, 1)
    block = BLOCK if one else visible.shape[-2] // len(kernels)
    windows = reference.block_windows(layer[:, 3], visible.shape[-2:], kernels.shape[-1], block)
    busy = reference.busy_blocks(windows, visible, block)
    return _Spread.apply(layer, busy, kernels.to(layer), spans(kernels).to(layer.device), block, storage or layer.dtype)


def spans(kernels: Tensor) -> Tensor:
    """The first and last + 1 column (n,2) of each row of kernels (R,C,n,n) that is not 0 in all of them, int32."""
    used = (kernels != 0).flatten(0, 1).any(0)
    first, last = used.int().argmax(1), used.shape[1] - used.flip(1).int().argmax(1)
    return torch.stack([first, last.where(used.any(1), first)], 1).int()


class _Spread(torch.autograd.Function):
    """Correlation of a padded picture with the half-turned image of a point; its adjoint is one with the image."""

    @staticmethod
    def forward(ctx, padded: Tensor, busy: Tensor, kernels: Tensor, spans: Tensor, block: int, storage: torch.dtype):
        ctx.save_for_backward(kernels, spans)
        ctx.block, ctx.one = block, kernels.shape[:2] == (1, 1)
        turned = (kernels.shape[-1] - spans.flip(0, 1)).contiguous()
        return gather(padded, busy, kernels.flip(2, 3), turned, "one" if ctx.one else "block", block, block, storage)

    @staticmethod
    def backward(ctx, grad: Tensor):
        kernels, spans = ctx.saved_tensors
        grad = F.pad(grad, (kernels.shape[-1] - 1,) * 4)
        blocks = (grad.shape[0], *(-(-(n - kernels.shape[-1] + 1) // BLOCK) for n in grad.shape[-2:]))
        everywhere = torch.ones(blocks, dtype=torch.bool, device=grad.device)
        whose = "one" if ctx.one else "tap"
        return gather(grad, everywhere, kernels, spans, whose, BLOCK, ctx.block, grad.dtype), *[None] * 5


def gather(
    padded: Tensor,
    busy: Tensor,
    weights: Tensor,
    spans: Tensor,
    whose: str,
    block: int,
    cell: int,
    storage: torch.dtype,
) -> Tensor:
    """Correlates RGBA (B,4,H+n-1,W+n-1) with weights (R,C,n,n) in the `busy` blocks (B,H/block,W/block); 0 elsewhere.

    `whose` weights these are, `spans` and `cell`: see `spread_kernel`.
    """
    rows, columns, side, _ = weights.shape
    batch, _, height, width = padded.shape
    out = padded.new_empty(batch, 4, height - side + 1, width - side + 1)
    source = padded.new_empty(batch, height, width, 4, dtype=storage)
    largest = torch.finfo(storage).max
    source.copy_((padded if storage == padded.dtype else padded.clamp(-largest, largest)).permute(0, 2, 3, 1))
    pixels = min(BLOCK_P, block * block)
    launch = spread_kernel[(busy.numel() * block * block // pixels,)]
    with torch.cuda.device_of(padded):
        launch(
            source, weights.contiguous(), spans, busy.to(torch.int8), out, *out.shape[2:], side, rows, columns, cell,
            KERNELS=whose, BLOCK=block, BLOCK_P=pixels, num_warps=max(1, pixels // (32 * PER_THREAD)),
        )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["height", "width", "side", "rows", "columns", "cell"])
def spread_kernel(
    source, weights, spans, busy, out, height, width, side, rows, columns, cell,
    KERNELS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """out[:, y, x] = sum of weights[i, j] source[y + i, x + j]: RGBA, channels last in source, side - 1 larger.

    `busy` says which blocks of out to work on, the rest is 0; `spans` has the first and last + 1 weight of every row of
    weights that is not zero in all of them. Sums are in the type of weights, whatever source is stored in.
    KERNELS says whose weights: "one" for all; "block": every block of out has its own; "tap": the adjoint of that,
    every cell x cell pixels of source have, which begins with side - 1 pixels that belong to no cell and are 0.
    """
    block = tl.program_id(0) // (BLOCK * BLOCK // BLOCK_P)
    within = (tl.program_id(0) % (BLOCK * BLOCK // BLOCK_P)) * BLOCK_P + tl.arange(0, BLOCK_P)
    down, across = tl.cdiv(height, BLOCK), tl.cdiv(width, BLOCK)
    picture = (block // (down * across)).to(tl.int64)
    y = (block // across % down) * BLOCK + within // BLOCK
    x = (block % across) * BLOCK + within % BLOCK
    channel = tl.arange(0, 4)[None]
    exists = (y < height) & (x < width)
    y, x = tl.minimum(y, height - 1), tl.minimum(x, width - 1)  # what can always be read needs no masks in the loop
    pitch = width + side - 1
    source += picture * (height + side - 1) * pitch * 4 + ((y * pitch + x) * 4)[:, None] + channel
    total = tl.zeros([BLOCK_P, 4], weights.dtype.element_ty)
    if tl.load(busy + block) != 0:
        if KERNELS == "block":
            weights += block % (down * across) * side * side
        for i in range(side):
            for j in range(tl.load(spans + 2 * i), tl.load(spans + 2 * i + 1)):
                tap = tl.load(source + (i * pitch + j) * 4).to(total.dtype)
                if KERNELS == "tap":
                    row = tl.minimum(tl.maximum(y + i - (side - 1), 0) // cell, rows - 1)
                    column = tl.minimum(tl.maximum(x + j - (side - 1), 0) // cell, columns - 1)
                    total += tl.load(weights + (row * columns + column) * side * side + i * side + j)[:, None] * tap
                else:
                    total += tl.load(weights + i * side + j) * tap
    plane = (height * width).to(tl.int64)
    tl.store(
        out + (picture * 4 + channel) * plane + (y * width + x)[:, None], total, mask=exists[:, None] & (channel < 4)
    )


# Compositing --------------------------------------------------------------------------------------------------------


def over(front: Composite, layer: Tensor, radius: float, area: Area) -> None:
    """The reference's `over`, in place; where gradients are recorded, the reference's own."""
    if torch.is_grad_enabled() and (layer.requires_grad or front.rgba.requires_grad):
        reference.over(front, layer, radius, area)
        return
    planes = [x.contiguous() for x in (front.rgba, front.through, front.nearer, front.radial)]
    front.rgba, front.through, front.nearer, front.radial = planes
    height, width = front.through.shape[-2:]
    with torch.cuda.device_of(layer):
        over_kernel[(triton.cdiv(height * width, BLOCK_C),)](
            layer.contiguous(), *planes, radius / 2**front.level, height, width, area.top, area.left, *area.size,
            SIDE=front.side, EPS=EPS, BLOCK=BLOCK_C,
        )  # fmt: skip


def behind(front: Composite, group: Composite) -> None:
    """The reference's `behind`, in place; where gradients are recorded, the reference's own."""
    if torch.is_grad_enabled() and (group.rgba.requires_grad or front.rgba.requires_grad):
        reference.behind(front, group)
        return
    front.rgba, front.through, front.nearer = (x.contiguous() for x in (front.rgba, front.through, front.nearer))
    parts = [x.contiguous() for x in (group.rgba, group.through, group.nearer)]
    view = group.view or Area.of(front.rgba)
    with torch.cuda.device_of(front.rgba):
        behind_kernel[(triton.cdiv(front.through.numel(), BLOCK_C),)](
            front.rgba, front.through, front.nearer, *parts, *front.through.shape[-2:], view.top, view.left,
            *parts[1].shape[-2:], UNIT=2**group.level, BLOCK=BLOCK_C,
        )  # fmt: skip


@triton.jit(do_not_specialize=["radius", "height", "width", "top", "left", "layer_height", "layer_width"])
def over_kernel(
    layer, rgba, through, nearer, radial, radius, height, width, top, left, layer_height, layer_width,
    SIDE: tl.constexpr, EPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A layer, which is a part of the picture, behind what is there: `reference.over`. Nothing is nearer elsewhere."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    plane, layer_plane = height * width, layer_height * layer_width
    exists = pixel < plane
    y, x = pixel // width - top, pixel % width - left
    inside = exists & (y >= 0) & (y < layer_height) & (x >= 0) & (x < layer_width)
    at = y * layer_width + x
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
