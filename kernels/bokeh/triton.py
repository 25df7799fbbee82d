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
NUM_WARPS = 2
TILE = 4096


@triton.jit(do_not_specialize=["height", "width", "side"])
def spread_kernel(source, weights, spans, blocks, out, height, width, side, BLOCK: tl.constexpr, BLOCK_P: tl.constexpr):
    """out[y, x] = sum of weights[i, j] source[y + i, x + j], channels-last RGBA; source is side - 1 larger.

    `blocks` lists (picture, row, column) of the blocks of out to work on, `spans` the first and last + 1 weight of
    every row of weights that is not zero.
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
    total = tl.zeros([BLOCK_P, 4], out.dtype.element_ty)
    for i in range(side):
        for j in range(tl.load(spans + 2 * i), tl.load(spans + 2 * i + 1)):
            total += tl.load(weights + i * side + j) * tl.load(source + (i * pitch + j) * 4, mask=exists, other=0.0)
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
    window = reference.block_windows(layer[:, 3], visible.shape[-2:], side, BLOCK)
    return _Spread.apply(layer, reference.busy_blocks(window, visible, BLOCK), kernels[0, 0].to(layer))


class _Spread(torch.autograd.Function):
    """Correlation of a padded picture with the half-turned image of a point; its adjoint is one with the image."""

    @staticmethod
    def forward(ctx, padded: Tensor, busy: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(kernel)
        return gather(padded, busy, kernel.flip(0, 1))

    @staticmethod
    def backward(ctx, grad: Tensor):
        (kernel,) = ctx.saved_tensors
        grad = F.pad(grad, (kernel.shape[-1] - 1,) * 4)
        everywhere = torch.ones(grad.shape[0], *(-(-n // BLOCK) for n in grad.shape[-2:]), dtype=torch.bool)
        return gather(grad, everywhere.to(grad.device), kernel), None, None


def gather(padded: Tensor, busy: Tensor, weights: Tensor) -> Tensor:
    """Correlates RGBA (B,4,H+n-1,W+n-1) with weights (n,n) in the `busy` blocks (B,H/BLOCK,W/BLOCK); 0 elsewhere."""
    side = weights.shape[-1]
    batch, _, height, width = padded.shape
    out = padded.new_zeros(batch, height - side + 1, width - side + 1, 4)
    blocks = busy.nonzero().to(torch.int32).contiguous()  # nonzero is column by column
    if len(blocks):
        used = weights != 0
        first = used.to(torch.int32).argmax(1)
        last = side - used.flip(1).to(torch.int32).argmax(1)
        spans = torch.stack([first, last.where(used.any(1), first)], 1).to(torch.int32)
        source = padded.permute(0, 2, 3, 1).contiguous()
        tensors = source, weights.contiguous(), spans, blocks, out
        launch = spread_kernel[(len(blocks) * BLOCK * BLOCK // BLOCK_P,)]
        with torch.cuda.device_of(padded):
            launch(*tensors, *out.shape[1:3], side, BLOCK=BLOCK, BLOCK_P=BLOCK_P, num_warps=NUM_WARPS)
    return out.permute(0, 3, 1, 2)
