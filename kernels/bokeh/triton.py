"""The photo renderer with its discs spread by a Triton kernel: the reference's steps at the reference's levels.

Slabs, hidden surfaces and compositing are the reference's own tensor operations. What costs is the gather of hundreds
to ten thousands of taps a pixel and slab; that is here, forward and backward, for the blocks that hold or show
something.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from argan.kernels.bokeh import reference
from argan.kernels.bokeh.aperture import Aperture

BLOCK = reference.BLOCK
BLOCK_P = 64  # pixels of a program, one a thread: a row of a block
TILE = 4096


@triton.jit(do_not_specialize=["height", "width", "side", "rows", "columns", "cell"])
def spread_kernel(
    source, weights, spans, blocks, out, height, width, side, rows, columns, cell,
    KERNELS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """out[y, x] = sum of weights[i, j] source[y + i, x + j], channels-last RGBA; source is side - 1 larger.

    `blocks` lists (picture, row, column) of the blocks of out to work on, `spans` the first and last + 1 weight of
    every row of weights that is not zero in all of them. KERNELS says whose weights: "one" for all; "block": every
    block of out has its own; "tap": the adjoint of that, every cell x cell pixels of source have, which begins with
    side - 1 pixels that belong to no cell and are 0.
    """
    block = blocks + 3 * (tl.program_id(0) // (BLOCK * BLOCK // BLOCK_P))
    within = (tl.program_id(0) % (BLOCK * BLOCK // BLOCK_P)) * BLOCK_P + tl.arange(0, BLOCK_P)
    picture = tl.load(block).to(tl.int64)
    y = tl.load(block + 1) * BLOCK + within // BLOCK
    x = tl.load(block + 2) * BLOCK + within % BLOCK
    channel = tl.arange(0, 4)[None]
    exists = ((y < height) & (x < width))[:, None] & (channel < 4)
    pitch = width + side - 1
    source += picture * (height + side - 1) * pitch * 4 + ((y * pitch + x) * 4)[:, None] + channel
    if KERNELS == "block":
        weights += (tl.load(block + 1) * columns + tl.load(block + 2)) * side * side
    total = tl.zeros([BLOCK_P, 4], out.dtype.element_ty)
    for i in range(side):
        for j in range(tl.load(spans + 2 * i), tl.load(spans + 2 * i + 1)):
            tap = tl.load(source + (i * pitch + j) * 4, mask=exists, other=0.0)
            if KERNELS == "tap":
                row = tl.minimum(tl.maximum(y + i - (side - 1), 0) // cell, rows - 1)
                column = tl.minimum(tl.maximum(x + j - (side - 1), 0) // cell, columns - 1)
                total += tl.load(weights + (row * columns + column) * side * side + i * side + j)[:, None] * tap
            else:
                total += tl.load(weights + i * side + j) * tap
    tl.store(out + picture * height * width * 4 + ((y * width + x) * 4)[:, None] + channel, total, mask=exists)


def render(image: Tensor, coc: Tensor, aperture: Aperture) -> Tensor:
    """The reference's `render`, in larger tiles."""
    plan = reference.Plan.of(coc, aperture)
    tile = reference.round_up(max(TILE, 2 * plan.margin), plan.cell)
    return reference.render_tiles(image, coc, plan, spread, tile)


def spread(layer: Tensor, visible: Tensor, kernels: Tensor) -> Tensor:
    """The reference's `spread`."""
    side = kernels.shape[-1]
    if side == 1:
        return layer
    block = visible.shape[-2] // len(kernels) if kernels.shape[:2] != (1, 1) else BLOCK
    window = reference.block_windows(layer[:, 3], visible.shape[-2:], side, block)
    return _Spread.apply(layer, reference.busy_blocks(window, visible, block), kernels.to(layer), block)


class _Spread(torch.autograd.Function):
    """Correlation of a padded picture with the half-turned image of a point; its adjoint is one with the image."""

    @staticmethod
    def forward(ctx, padded: Tensor, busy: Tensor, kernels: Tensor, block: int) -> Tensor:
        ctx.save_for_backward(kernels)
        ctx.block = block
        one = kernels.shape[:2] == (1, 1)
        return gather(padded, busy, kernels.flip(2, 3), "one" if one else "block", block, block)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (kernels,) = ctx.saved_tensors
        grad = F.pad(grad, (kernels.shape[-1] - 1,) * 4)
        everywhere = torch.ones(grad.shape[0], *(-(-n // BLOCK) for n in grad.shape[-2:]), dtype=torch.bool)
        one = kernels.shape[:2] == (1, 1)
        return gather(grad, everywhere.to(grad.device), kernels, "one" if one else "tap", BLOCK, ctx.block), *[None] * 3


def gather(padded: Tensor, busy: Tensor, weights: Tensor, kernels: str, block: int, cell: int) -> Tensor:
    """Correlates RGBA (B,4,H+n-1,W+n-1) with weights (R,C,n,n) in the `busy` blocks (B,H/block,W/block); 0 elsewhere.

    `kernels` says where which of the R x C weights count, as in `spread_kernel`.
    """
    rows, columns, side, _ = weights.shape
    batch, _, height, width = padded.shape
    out = padded.new_zeros(batch, height - side + 1, width - side + 1, 4)
    blocks = busy.nonzero().to(torch.int32).contiguous()  # nonzero is column by column
    if len(blocks):
        used = (weights != 0).flatten(0, 1).any(0)
        first = used.to(torch.int32).argmax(1)
        last = side - used.flip(1).to(torch.int32).argmax(1)
        spans = torch.stack([first, last.where(used.any(1), first)], 1).to(torch.int32)
        source = padded.permute(0, 2, 3, 1).contiguous()
        tensors = source, weights.contiguous(), spans, blocks, out
        pixels = min(BLOCK_P, block * block)
        launch = spread_kernel[(len(blocks) * block * block // pixels,)]
        with torch.cuda.device_of(padded):
            launch(*tensors, *out.shape[1:3], side, rows, columns, cell, KERNELS=kernels, BLOCK=block, BLOCK_P=pixels,
                   num_warps=max(1, pixels // 32))  # fmt: skip
    return out.permute(0, 3, 1, 2)
