"""T's convolutions as products of matrices (implicit GEMM), and what is between them.

An image is packed: pixels row by row, with a frame of zeros, so that no tap has to ask where it is; a pixel's channels
are side by side, rounded up to whole groups, so that every load is 16 bytes wide whichever way a tap looks. A pixel is
a number among all images' pixels, frames included.

A program of `convolve_kernel` owns BLOCK_P pixels and a group of the channels that are made: for every tap it
multiplies what the tap sees (P, C) by the tap's weights (C, K). The gradient of a tap's weights is the product of the
gradient (K, P) and what the tap saw (P, C), added up by a fixed number of programs and then over these: the same result
every time. Offsets inside a program are int32, between programs int64.
"""

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from argan.kernels.expansion.op import GROUP
from argan.kernels.launch import COMPUTE_TYPES, blocks, launch

# Pixels of `convolve_kernel`, by how numbers are multiplied; `of_weights_kernel` has half. Float32 spills no registers
# for sm_80 and sm_90.
BLOCK_P = {"tf32": 64, "ieee": 32}
# Stages of loads that are on their way while a product is made. With three, Triton 3.7 takes more registers for float32
# multiplied in full on sm_80; with two, float64 takes more on sm_90.
STAGES, STAGES_FULL_FLOAT32 = 3, 2
PARTS = 176  # programs, at most, that share the sum of a gradient; of three rows of taps they fill an H200 once

# One compilation for all sizes.
kernel = triton.jit(do_not_specialize=["height", "width", "channels", "pixels"])


@triton.jit
def _place(pixel, channels, height, width):
    """Where pixels of packed images are in planes (B, C, H, W), in their first channel, and whether they are there."""
    pitch = width + 2
    framed = (height + 2) * pitch
    image, rest = pixel // framed, pixel % framed
    x, y = rest % pitch - 1, rest // pitch - 1
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return image.to(tl.int64) * channels * (height * width) + (y * width + x), inside


@kernel
def pack_kernel(planes, out, height, width, channels, pixels, BLOCK_P: tl.constexpr, GROUP: tl.constexpr):
    """A group of channels of (B, C, H, W)."""
    groups = tl.cdiv(channels, GROUP)
    program, channel = tl.program_id(0) // groups, tl.program_id(0) % groups * GROUP + tl.arange(0, GROUP)
    pixel = program * BLOCK_P + tl.arange(0, BLOCK_P)
    at, inside = _place(pixel, channels, height, width)
    mask = (channel < channels)[:, None] & (inside & (pixel < pixels))[None, :]
    value = tl.load(planes + (channel[:, None] * (height * width) + at[None, :]), mask=mask, other=0.0)
    out += program.to(tl.int64) * BLOCK_P * groups * GROUP
    at = tl.arange(0, BLOCK_P)[:, None] * (groups * GROUP) + channel[None, :]
    tl.store(out + at, tl.trans(value), mask=(pixel < pixels)[:, None])


@kernel
def convolve_kernel(
    image, weights, other, out, height, width, channels, pixels, THEN: tl.constexpr,
    COMPUTE: tl.constexpr, PRECISION: tl.constexpr, BLOCK_P: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Packed images by `weights` (9, K, C), both rounded up to whole groups with zeros.

    THEN   "elu": packed. "slope": the same times the derivative of ELU where it gave `other`, packed. "add": the sum
           with `other`, as planes (B, C, H, W)
    """
    groups = tl.cdiv(channels, GROUP)
    pitch = groups * GROUP  # numbers a pixel
    program, made = tl.program_id(0) // groups, tl.program_id(0) % groups * GROUP + tl.arange(0, GROUP)
    pixel = program * BLOCK_P + tl.arange(0, BLOCK_P)
    plain, inside = _place(pixel, channels, height, width)
    inside &= pixel < pixels
    before = program.to(tl.int64) * BLOCK_P * pitch
    source = tl.arange(0, GROUP)
    light_at = tl.arange(0, BLOCK_P)[:, None] * pitch + source[None, :]
    weight_at = made[:, None] * pitch + source[None, :]
    total = tl.zeros([BLOCK_P, GROUP], COMPUTE)
    for step in range(9 * groups):
        tap, start = step % 9, step // 9 * GROUP
        shift = ((tap // 3 - 1) * (width + 2) + tap % 3 - 1) * pitch + start
        light = tl.load(image + before + shift + light_at, mask=inside[:, None], other=0.0)
        weight = tl.load(weights + (tap * pitch * pitch + start) + weight_at)
        total = tl.dot(light, tl.trans(weight), total, input_precision=PRECISION, out_dtype=COMPUTE)
    if THEN == "add":
        mask = (made < channels)[:, None] & inside[None, :]
        at_plain = made[:, None] * (height * width) + plain[None, :]
        tl.store(out + at_plain, tl.trans(total) + tl.load(other + at_plain, mask=mask, other=0.0), mask=mask)
    else:
        exists = (pixel < pixels)[:, None]
        at = tl.arange(0, BLOCK_P)[:, None] * pitch + made[None, :]
        if THEN == "elu":
            total = tl.where(total > 0, total, tl.exp(total) - 1)
        if THEN == "slope":
            value = tl.load(other + before + at, mask=exists, other=0.0)
            total *= tl.where(value > 0, 1.0, value + 1)
        tl.store(out + before + at, total, mask=exists)


@kernel
def of_weights_kernel(
    grad, image, parts, height, width, channels, pixels,
    COMPUTE: tl.constexpr, PRECISION: tl.constexpr, BLOCK_P: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Of a row of taps, from a group of channels to a group, the sum over every so many blocks of packed pixels."""
    groups = tl.cdiv(channels, GROUP)
    pitch = groups * GROUP
    row, program = tl.program_id(0) % 3, tl.program_id(0) // 3
    made = program % groups * GROUP + tl.arange(0, GROUP)
    source = program // groups % groups * GROUP + tl.arange(0, GROUP)
    part, shared = program // groups // groups, tl.num_programs(0) // 3 // groups // groups
    totals = ()
    for _ in tl.static_range(3):
        totals = totals + (tl.zeros([GROUP, GROUP], COMPUTE),)  # type: ignore[assignment]
    for block in range(part, tl.cdiv(pixels, BLOCK_P), shared):
        pixel = block * BLOCK_P + tl.arange(0, BLOCK_P)
        before = tl.cast(block, tl.int64) * (BLOCK_P * pitch)
        at = tl.arange(0, BLOCK_P)[:, None] * pitch
        come = tl.load(grad + before + (at + made[None, :]), mask=(pixel < pixels)[:, None], other=0.0)
        sums = ()
        for column in tl.static_range(3):
            shift = (row - 1) * (width + 2) + column - 1
            there = (pixel + shift >= 0) & (pixel + shift < pixels)
            light = tl.load(image + before + shift * pitch + (at + source[None, :]), mask=there[:, None], other=0.0)
            total = tl.dot(tl.trans(come), light, totals[column], input_precision=PRECISION, out_dtype=COMPUTE)
            sums = sums + (total,)  # type: ignore[assignment]
        totals = sums
    used = (made < channels)[:, None] & (source < channels)[None, :]
    for column in tl.static_range(3):
        at = ((part * channels + made[:, None]) * channels + source[None, :]) * 9 + 3 * row + column
        tl.store(parts + at, totals[column], mask=used)


def expand(rays: Tensor, weights: Tensor, seen: Tensor) -> Tensor:
    """T; `seen` (L, B, H+2, W+2, C) receives what each convolution sees, packed."""
    rays, by_tap = rays.contiguous(), _by_tap(weights)
    out = torch.empty_like(rays)
    _pack(rays, seen[0])
    for layer in range(len(weights) - 1):
        _convolve(seen[layer], by_tap[layer], seen[layer], seen[layer + 1], rays.shape, "elu")
    _convolve(seen[-1], by_tap[-1], rays, out, rays.shape, "add")
    return out


def gradients(
    grad: Tensor, seen: Tensor, weights: Tensor, need_rays: bool, need_weights: bool
) -> tuple[Tensor, Tensor]:
    """The gradients to rays and weights; one that is not needed is empty."""
    grad = grad.contiguous()
    back = _by_tap(weights.flip(3, 4).transpose(1, 2))  # to where the light came from: the same taps, backwards
    of_rays = torch.empty_like(grad) if need_rays else grad.new_empty(0)
    of_weights: list[Tensor] = []
    come = torch.empty_like(seen[0])
    _pack(grad, come)
    for layer in reversed(range(len(weights))):
        if need_weights:
            of_weights.insert(0, _of_weights(come, seen[layer], grad.shape))
        if layer > 0:
            made, come = come, torch.empty_like(come)
            _convolve(made, back[layer], seen[layer], come, grad.shape, "slope")
    if need_rays:
        _convolve(come, back[0], grad, of_rays, grad.shape, "add")
    return of_rays, torch.stack(of_weights) if need_weights else weights.new_empty(0)


def multiplied(dtype: torch.dtype) -> str:
    """How numbers are multiplied: as PyTorch's convolutions do."""
    asked_for = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]  # made as PyTorch is imported
    return "tf32" if dtype == torch.float32 and asked_for == "tf32" else "ieee"


def _by_tap(weights: Tensor) -> Tensor:
    """(L, K, C, 3, 3) -> (L, 9, K, C), with zeros up to whole groups."""
    missing = -weights.shape[1] % GROUP
    return F.pad(weights.flatten(3).permute(0, 3, 1, 2), (0, missing, 0, missing)).contiguous()


def _pack(planes: Tensor, out: Tensor) -> None:
    _launch(pack_kernel, planes, out, shape=planes.shape, BLOCK_P=BLOCK_P["tf32"], num_stages=STAGES)


def _convolve(image: Tensor, weights: Tensor, other: Tensor, out: Tensor, shape: torch.Size, then: str) -> None:
    """`other` is not read where `then` does not say so."""
    how = _how(image.dtype)
    _launch(convolve_kernel, image, weights, other, out, shape=shape, THEN=then, **how)


def _of_weights(grad: Tensor, image: Tensor, shape: torch.Size) -> Tensor:
    channels, how = shape[1], _how(image.dtype)
    how["BLOCK_P"] //= 2
    parts = grad.new_empty(min(PARTS, blocks(_pixels(shape), how["BLOCK_P"])), channels, channels, 3, 3)
    programs = 3 * len(parts) * blocks(channels, GROUP)
    _launch(of_weights_kernel, grad, image, parts, shape=shape, programs=programs, **how)
    return parts.sum(0)


def _how(dtype: torch.dtype) -> dict[str, Any]:
    precision = multiplied(dtype)
    stages = STAGES_FULL_FLOAT32 if dtype == torch.float32 and precision == "ieee" else STAGES
    return {
        "COMPUTE": COMPUTE_TYPES[dtype],
        "PRECISION": precision,
        "BLOCK_P": BLOCK_P[precision],
        "num_stages": stages,
    }


def _pixels(shape: torch.Size) -> int:
    """Of packed images."""
    batch, _, height, width = shape
    return batch * (height + 2) * (width + 2)


def _launch(function, *tensors: Tensor, shape: torch.Size, programs: int = 0, **constants: Any) -> None:
    """Programs for every group of channels; as many for each as there are blocks of pixels, unless told."""
    _, channels, height, width = shape
    pixels = _pixels(shape)
    if pixels > 2**31 - 2**10 or channels * height * width >= 2**31:
        raise ValueError(f"too large for one launch (2^31 pixels, or numbers an image): {tuple(shape)}")
    programs = (programs or blocks(pixels, constants["BLOCK_P"])) * blocks(channels, GROUP)
    launch(
        function, programs, *tensors, height, width, channels, pixels, **constants,
        GROUP=GROUP, num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
