"""The photo renderer with its discs spread by a Triton kernel: the reference's steps at the reference's levels.

Slabs, hidden surfaces and compositing are the reference's own tensor operations. What would cost most is the gather of
hundreds to ten thousands of taps a pixel and slab; that is here, forward and backward, for the blocks that hold or show
something. Nothing in it waits for the GPU, and nothing is added atomically: results are the same every time.
"""

from functools import partial

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from argan.kernels.bokeh import reference
from argan.kernels.bokeh.aperture import Aperture

BLOCK = reference.BLOCK
BLOCK_P = 256  # pixels of a program, at most: rows of a block
PER_THREAD = 4  # pixels: they share a weight's load, and wait for their own together
TILE = 4096


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


def render(
    image: Tensor | reference.Light,
    coc: Tensor,
    aperture: Aperture,
    storage: torch.dtype,
    develop: reference.Develop | None = None,
) -> Tensor:
    """The reference's `render`, in larger tiles; taps are stored as `storage`."""
    plan = reference.Plan.of(coc, aperture)
    tile = reference.round_up(max(TILE, 2 * plan.margin), plan.cell)
    return reference.render_tiles(image, coc, plan, partial(spread, storage=storage), tile, develop)


def spread(layer: Tensor, visible: Tensor, kernels: Tensor, storage: torch.dtype | None = None) -> Tensor:
    """The reference's `spread`; taps are stored as `storage`, None: as the layer is."""
    if kernels.shape[-1] == 1:
        return layer
    one = kernels.shape[:2] == (1, 1)
    block = BLOCK if one else visible.shape[-2] // len(kernels)
    window = reference.block_windows(layer[:, 3], visible.shape[-2:], kernels.shape[-1], block)
    busy = reference.busy_blocks(window, visible, block)
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
