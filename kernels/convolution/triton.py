"""Convolution as products of matrices (implicit GEMM): a tap's weights (K, C) times the pixels that it sees (C, P).

A program owns BLOCK_P consecutive pixels of one image and BLOCK_K of the channels that are made. What a tap sees is the
same pixels, moved: read anew for each tap, from the level-1 cache. The gradient of a tap's weights is the product of
the gradient (K, P) and what the tap saw, added up by a fixed number of programs and then over these: the same result
every time. Offsets inside an image are int32, those of images int64.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from argan.kernels.launch import COMPUTE_TYPES, blocks, launch

BLOCK_K = BLOCK_C = 32  # channels that are made, and channels that are seen
# Pixels of `convolve_kernel`, by how numbers are multiplied; the gradient's has half. For TF32 the fastest on an H200,
# with 21 channels, of what spills no registers for sm_80 and sm_90; otherwise the most that spill none.
BLOCK_P = {"tf32": 64, "ieee": 32}
PARTS = 256  # programs, at most, that share the sum of a gradient

# One compilation for all sizes.
kernel = triton.jit(do_not_specialize=["height", "width", "channels", "seen", "blocks"])


@triton.jit
def _inside(pixel, down, across, height, width):
    """Whether what lies so far from a pixel is in the image."""
    y, x = pixel // width + down, pixel % width + across
    return (pixel < height * width) & (y >= 0) & (y < height) & (x >= 0) & (x < width)


@kernel
def convolve_kernel(
    image, weights, out, height, width, channels, seen, COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """`weights` are (9, channels, seen), both rounded up to whole blocks with zeros."""
    plane = height * width
    groups, blocks = tl.cdiv(channels, BLOCK_K), tl.cdiv(plane, BLOCK_P)
    pitch = tl.cdiv(seen, BLOCK_C) * BLOCK_C
    program = tl.program_id(0)
    made = (program % groups * BLOCK_K + tl.arange(0, BLOCK_K))[:, None]
    pixel = (program // groups % blocks * BLOCK_P + tl.arange(0, BLOCK_P))[None, :]
    batch = (program // groups // blocks).to(tl.int64)
    image += batch * seen * plane
    total = tl.zeros([BLOCK_K, BLOCK_P], COMPUTE)
    for start in range(0, seen, BLOCK_C):
        source = start + tl.arange(0, BLOCK_C)
        for row in range(3):
            below = image + (source[:, None] * plane + (pixel + (row - 1) * width))
            row_weights = weights + ((3 * row * groups * BLOCK_K + made) * pitch + source[None, :])
            for column in tl.static_range(3):
                inside = _inside(pixel, row - 1, column - 1, height, width)
                light = tl.load(below + (column - 1), mask=(source < seen)[:, None] & inside, other=0.0).to(COMPUTE)
                weight = tl.load(row_weights + column * groups * BLOCK_K * pitch)
                total = tl.dot(weight, light, total, input_precision=PRECISION, out_dtype=COMPUTE)
    exists = (made < channels) & (pixel < plane)
    tl.store(out + batch * channels * plane + (made * plane + pixel), total, mask=exists)


@kernel
def of_weights_kernel(
    grad, image, parts, height, width, channels, seen, blocks, COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Of a row of taps, from BLOCK_C channels to BLOCK_K, the sum over every so many of all images' blocks."""
    plane = height * width
    each = tl.cdiv(plane, BLOCK_P)  # blocks of an image
    made_groups, seen_groups = tl.cdiv(channels, BLOCK_K), tl.cdiv(seen, BLOCK_C)
    row, program = tl.program_id(0) % 3, tl.program_id(0) // 3
    made = program % made_groups * BLOCK_K + tl.arange(0, BLOCK_K)
    source = program // made_groups % seen_groups * BLOCK_C + tl.arange(0, BLOCK_C)
    part = program // made_groups // seen_groups
    totals = ()
    for _ in tl.static_range(3):
        totals = totals + (tl.zeros([BLOCK_K, BLOCK_C], COMPUTE),)  # type: ignore[assignment]
    for block in range(part, blocks, tl.num_programs(0) // 3 // made_groups // seen_groups):
        batch = (block // each).to(tl.int64)
        pixel = block % each * BLOCK_P + tl.arange(0, BLOCK_P)
        come = tl.load(
            grad + batch * channels * plane + (made[:, None] * plane + pixel[None, :]),
            mask=(made < channels)[:, None] & (pixel < plane)[None, :], other=0.0,
        ).to(COMPUTE)  # fmt: skip
        below = image + batch * seen * plane + (source[None, :] * plane + (pixel + (row - 1) * width)[:, None])
        sums = ()
        for column in tl.static_range(3):
            inside = _inside(pixel, row - 1, column - 1, height, width)[:, None]
            light = tl.load(below + (column - 1), mask=(source < seen)[None, :] & inside, other=0.0).to(COMPUTE)
            total = tl.dot(come, light, totals[column], input_precision=PRECISION, out_dtype=COMPUTE)
            sums = sums + (total,)  # type: ignore[assignment]
        totals = sums
    used = (made < channels)[:, None] & (source < seen)[None, :]
    for column in tl.static_range(3):
        at = ((part * 9 + 3 * row + column) * channels + made[:, None]) * seen + source[None, :]
        tl.store(parts + at, totals[column], mask=used)


def convolve(image: Tensor, weights: Tensor) -> Tensor:
    """(B, C, H, W) by weights (K, C, 3, 3), in their dtype -> (B, K, H, W)."""
    batch, seen, height, width = image.shape
    channels = len(weights)
    out = image.new_empty(batch, channels, height, width)
    by_tap = weights.flatten(2).permute(2, 0, 1)
    padded = F.pad(by_tap, (0, -seen % BLOCK_C, 0, -channels % BLOCK_K))
    precision = multiplied(weights.dtype)
    block = BLOCK_P[precision]
    programs = batch * blocks(height * width, block) * blocks(channels, BLOCK_K)
    _launch(
        convolve_kernel, programs, image, padded, out, height, width, channels, seen,
        COMPUTE=COMPUTE_TYPES[weights.dtype], PRECISION=precision, BLOCK_P=block, num_stages=1,
    )  # fmt: skip
    return out


def of_weights(grad: Tensor, image: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient (K, C, 3, 3) of the weights, in the dtype to calculate in."""
    batch, channels, height, width = grad.shape
    seen, precision = image.shape[1], multiplied(dtype)
    block = BLOCK_P[precision] // 2
    count = batch * blocks(height * width, block)
    shared = min(count, PARTS)
    parts = grad.new_empty(shared, 9, channels, seen, dtype=dtype)
    programs = 3 * shared * blocks(channels, BLOCK_K) * blocks(seen, BLOCK_C)
    _launch(
        of_weights_kernel, programs, grad, image, parts, height, width, channels, seen, count,
        COMPUTE=COMPUTE_TYPES[dtype], PRECISION=precision, BLOCK_P=block, num_stages=2,
    )  # fmt: skip
    return parts.sum(0).permute(1, 2, 0).contiguous().view(channels, seen, 3, 3)


def multiplied(dtype: torch.dtype) -> str:
    """How numbers are multiplied: as PyTorch's convolutions do."""
    return "tf32" if dtype == torch.float32 and torch.backends.cudnn.allow_tf32 else "ieee"


def _launch(function, programs: int, *arguments: Tensor | int, **constants) -> None:
    """Tensors are made contiguous; results are."""
    for tensor in arguments:
        if isinstance(tensor, Tensor) and tensor[0].numel() > 2**31 - 2**10:
            raise ValueError(f"too large (2^31 numbers an image): {tuple(tensor.shape)}")
    arguments = tuple(x.contiguous() if isinstance(x, Tensor) else x for x in arguments)
    launch(
        function, programs, *arguments, **constants,
        BLOCK_K=BLOCK_K, BLOCK_C=BLOCK_C, num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
