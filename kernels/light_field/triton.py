"""Light field rendering in Triton: the reference's values and gradients without a stack of views (see README.md).

A program owns BLOCK_P consecutive pixels of one image, one thread a pixel, and walks through views and channels; every
tensor in a kernel is [BLOCK_P]. Positions, interpolation and sums are in COMPUTE (float32 or float64), whatever the
tensors are stored in. Offsets inside a plane are int32, offsets between planes int64.
"""

import triton
import triton.language as tl
from torch import Tensor

from argan.kernels import backend
from argan.kernels.launch import COMPUTE_TYPES, blocks, launch

BLOCK_P = 128
NUM_WARPS = 4
MAX_GROUP = 4  # channels whose sums a thread holds while it walks through the views
REACH = tl.constexpr(2)  # px around a pixel within which a thread sums up what it adds to others

# One compilation for all sizes.
kernel = triton.jit(do_not_specialize=["height", "width", "count"])


@triton.jit
def _pixels(height, width, BLOCK_P: tl.constexpr):
    """This program's image, and its pixels: offset in the plane, column, row, and whether it exists."""
    plane = height * width
    blocks = tl.cdiv(plane, BLOCK_P)
    program = tl.program_id(0)
    pixel = (program % blocks) * BLOCK_P + tl.arange(0, BLOCK_P)
    return (program // blocks).to(tl.int64), pixel, pixel % width, pixel // width, pixel < plane


@triton.jit
def _neighbours(position, size):
    """The two pixels that a position lies between, after clamping it to the border, and the second one's share."""
    position = tl.minimum(tl.where(position > 0.0, position, 0.0), size - 1)  # nan is 0: nothing is read outside
    first = tl.floor(position).to(tl.int32)
    return first, tl.minimum(first + 1, size - 1), position - first


@triton.jit
def _corners(source, x0, x1, y0, y1, width, mask, COMPUTE: tl.constexpr):
    """The four pixels around a position: upper left, upper right, lower left, lower right."""
    upper_left = tl.load(source + (y0 * width + x0), mask=mask, other=0.0).to(COMPUTE)
    upper_right = tl.load(source + (y0 * width + x1), mask=mask, other=0.0).to(COMPUTE)
    lower_left = tl.load(source + (y1 * width + x0), mask=mask, other=0.0).to(COMPUTE)
    lower_right = tl.load(source + (y1 * width + x1), mask=mask, other=0.0).to(COMPUTE)
    return upper_left, upper_right, lower_left, lower_right


@triton.jit
def _no_spread(COMPUTE: tl.constexpr, BLOCK_P: tl.constexpr):
    """What a pixel adds to those within REACH, row by row: nothing yet."""
    spread = ()
    for _ in tl.static_range((2 * REACH + 1) * (2 * REACH + 1)):
        spread = spread + (tl.zeros([BLOCK_P], COMPUTE),)  # type: ignore[assignment]
    return spread


@triton.jit
def _share_out(spread, value, right, down):
    """Add a value to the four pixels around a position, each its share: the transpose of interpolation.

    The position is so many pixels to the right of the thread's and below it. Returns the new spread, and whether the
    position was within REACH; if not, nothing is added.
    """
    near = (tl.abs(right) <= REACH) & (tl.abs(down) <= REACH)
    value = tl.where(near, value, 0.0)
    shared = ()
    for y in tl.static_range(2 * REACH + 1):
        of_row = value * tl.maximum(1 - tl.abs(down - (y - REACH)), 0.0)
        for x in tl.static_range(2 * REACH + 1):
            share = of_row * tl.maximum(1 - tl.abs(right - (x - REACH)), 0.0)
            shared = shared + (spread[y * (2 * REACH + 1) + x] + share,)
    return shared, near


@triton.jit
def _add_spread(target, spread, value, column, row, height, width, exists):
    """Add the spread, times a value of the thread's own pixel, to a plane; what is zero is not added."""
    for y in tl.static_range(2 * REACH + 1):
        for x in tl.static_range(2 * REACH + 1):
            share = spread[y * (2 * REACH + 1) + x]
            to_y, to_x = row + (y - REACH), column + (x - REACH)
            inside = (to_y >= 0) & (to_y < height) & (to_x >= 0) & (to_x < width)
            mask = exists & inside & (share != 0)
            tl.atomic_add(target + (to_y * width + to_x), share * value, mask=mask, sem="relaxed")


@triton.jit
def _scatter(target, value, x0, x1, fx, y0, y1, fy, width, mask):
    """Add a value to the four pixels around a position, each its share, at once."""
    upper, lower = value * (1 - fy), value * fy
    tl.atomic_add(target + (y0 * width + x0), upper * (1 - fx), mask=mask, sem="relaxed")
    tl.atomic_add(target + (y0 * width + x1), upper * fx, mask=mask, sem="relaxed")
    tl.atomic_add(target + (y1 * width + x0), lower * (1 - fx), mask=mask, sem="relaxed")
    tl.atomic_add(target + (y1 * width + x1), lower * fx, mask=mask, sem="relaxed")


@kernel
def warp_forward_kernel(disparity, views, out, height, width, count, COMPUTE: tl.constexpr, BLOCK_P: tl.constexpr):
    batch, pixel, column, row, exists = _pixels(height, width, BLOCK_P)
    plane = (height * width).to(tl.int64)
    disparity += batch * plane
    ray = tl.load(disparity + pixel, mask=exists, other=0.0).to(COMPUTE)
    for view in range(count):
        x0, x1, fx = _neighbours(column + tl.load(views + 2 * view) * ray, width)
        y0, y1, fy = _neighbours(row + tl.load(views + 2 * view + 1) * ray, height)
        a, b, c, d = _corners(disparity, x0, x1, y0, y1, width, exists, COMPUTE)
        top = a + fx * (b - a)
        bottom = c + fx * (d - c)
        tl.store(out + (batch * count + view) * plane + pixel, top + fy * (bottom - top), mask=exists)


@kernel
def warp_backward_kernel(
    grad_out, disparity, views, grad_disparity, height, width, count, COMPUTE: tl.constexpr, BLOCK_P: tl.constexpr
):
    batch, pixel, column, row, exists = _pixels(height, width, BLOCK_P)
    plane = (height * width).to(tl.int64)
    disparity += batch * plane
    grad_disparity += batch * plane
    ray = tl.load(disparity + pixel, mask=exists, other=0.0).to(COMPUTE)
    through_position = tl.zeros([BLOCK_P], COMPUTE)
    spread = _no_spread(COMPUTE, BLOCK_P)
    for view in range(count):
        grad = tl.load(grad_out + (batch * count + view) * plane + pixel, mask=exists, other=0.0).to(COMPUTE)
        ux, uy = tl.load(views + 2 * view), tl.load(views + 2 * view + 1)
        x, y = column + ux * ray, row + uy * ray
        x0, x1, fx = _neighbours(x, width)
        y0, y1, fy = _neighbours(y, height)
        a, b, c, d = _corners(disparity, x0, x1, y0, y1, width, exists, COMPUTE)
        slope_x = (b - a) + fy * ((d - c) - (b - a))
        slope_y = (c - a) + fx * ((d - b) - (c - a))
        slope = tl.where(x > 0, ux * slope_x, 0.0) + tl.where(y > 0, uy * slope_y, 0.0)  # clamped: it does not move
        through_position += grad * slope
        spread, near = _share_out(spread, grad, x0 - column + fx, y0 - row + fy)
        _scatter(grad_disparity, grad, x0, x1, fx, y0, y1, fy, width, exists & ~near)
    _add_spread(grad_disparity, spread, 1, column, row, height, width, exists)
    tl.atomic_add(grad_disparity + pixel, through_position, mask=exists, sem="relaxed")


@kernel
def render_forward_kernel(
    image, rays, views, weights, out, height, width, count,
    CHANNELS: tl.constexpr, GROUP: tl.constexpr, COMPUTE: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    batch, pixel, column, row, exists = _pixels(height, width, BLOCK_P)
    plane = (height * width).to(tl.int64)
    for first in range(0, CHANNELS, GROUP):
        totals = ()
        for _ in tl.static_range(GROUP):
            totals = totals + (tl.zeros([BLOCK_P], COMPUTE),)  # type: ignore[assignment]
        for view in range(count):
            ray = tl.load(rays + (batch * count + view) * plane + pixel, mask=exists, other=0.0).to(COMPUTE)
            x0, x1, fx = _neighbours(column + tl.load(views + 2 * view) * ray, width)
            y0, y1, fy = _neighbours(row + tl.load(views + 2 * view + 1) * ray, height)
            weight = tl.load(weights + view)
            sums = ()
            for offset in tl.static_range(GROUP):
                channel = min(first + offset, CHANNELS - 1)  # a short last group repeats the last channel
                source = image + (batch * CHANNELS + channel) * plane
                a, b, c, d = _corners(source, x0, x1, y0, y1, width, exists, COMPUTE)
                top = a + fx * (b - a)
                bottom = c + fx * (d - c)
                sums = sums + (totals[offset] + weight * (top + fy * (bottom - top)),)  # type: ignore[assignment]
            totals = sums
        for offset in tl.static_range(GROUP):
            channel = min(first + offset, CHANNELS - 1)
            tl.store(out + (batch * CHANNELS + channel) * plane + pixel, totals[offset], mask=exists)


@kernel
def render_backward_kernel(
    grad_out, image, rays, views, weights, grad_image, grad_rays, grad_weights, height, width, count,
    NEED_IMAGE: tl.constexpr, NEED_RAYS: tl.constexpr, NEED_WEIGHTS: tl.constexpr,
    CHANNELS: tl.constexpr, COMPUTE: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    batch, pixel, column, row, exists = _pixels(height, width, BLOCK_P)
    plane = (height * width).to(tl.int64)
    spread = _no_spread(COMPUTE, BLOCK_P)  # of what comes back to the pixel, whatever it is
    for view in range(count):
        ray_pixel = (batch * count + view) * plane + pixel
        ray = tl.load(rays + ray_pixel, mask=exists, other=0.0).to(COMPUTE)
        ux, uy = tl.load(views + 2 * view), tl.load(views + 2 * view + 1)
        weight = tl.load(weights + view)
        x, y = column + ux * ray, row + uy * ray
        x0, x1, fx = _neighbours(x, width)
        y0, y1, fy = _neighbours(y, height)
        slope_x = tl.zeros([BLOCK_P], COMPUTE)  # of the loss along the position
        slope_y = tl.zeros([BLOCK_P], COMPUTE)
        product = tl.zeros([BLOCK_P], COMPUTE)  # of the incoming gradient and the sample
        if NEED_IMAGE:
            spread, near = _share_out(spread, weight, x0 - column + fx, y0 - row + fy)
        for channel in range(CHANNELS):
            channel_plane = (batch * CHANNELS + channel) * plane
            grad = tl.load(grad_out + channel_plane + pixel, mask=exists, other=0.0).to(COMPUTE)
            if NEED_RAYS or NEED_WEIGHTS:
                a, b, c, d = _corners(image + channel_plane, x0, x1, y0, y1, width, exists, COMPUTE)
            if NEED_RAYS:
                slope_x += grad * ((b - a) + fy * ((d - c) - (b - a)))
                slope_y += grad * ((c - a) + fx * ((d - b) - (c - a)))
            if NEED_WEIGHTS:
                top = a + fx * (b - a)
                bottom = c + fx * (d - c)
                product += grad * (top + fy * (bottom - top))
            if NEED_IMAGE:
                _scatter(grad_image + channel_plane, weight * grad, x0, x1, fx, y0, y1, fy, width, exists & ~near)
        if NEED_RAYS:
            slope = tl.where(x > 0, ux * slope_x, 0.0) + tl.where(y > 0, uy * slope_y, 0.0)  # clamped: it does not move
            tl.store(grad_rays + ray_pixel, weight * slope, mask=exists)
        if NEED_WEIGHTS:
            tl.store(grad_weights + tl.program_id(0).to(tl.int64) * count + view, tl.sum(product, 0))
    if NEED_IMAGE:
        for channel in range(CHANNELS):
            channel_plane = (batch * CHANNELS + channel) * plane
            grad = tl.load(grad_out + channel_plane + pixel, mask=exists, other=0.0).to(COMPUTE)
            _add_spread(grad_image + channel_plane, spread, grad, column, row, height, width, exists)


def warp_forward(disparity: Tensor, views: Tensor) -> Tensor:
    batch, _, height, width = disparity.shape
    out = disparity.new_empty(batch, views.shape[0], height, width)
    _launch(warp_forward_kernel, views, disparity, views, out)
    return out


def warp_backward(grad_out: Tensor, disparity: Tensor, views: Tensor) -> Tensor:
    backend.alert_not_deterministic("the gradient of warp_disparity", disparity.device)
    grad_disparity = views.new_zeros(disparity.shape)
    _launch(warp_backward_kernel, views, grad_out, disparity, views, grad_disparity)
    return grad_disparity.to(disparity.dtype)


def render_forward(image: Tensor, rays: Tensor, views: Tensor, weights: Tensor) -> Tensor:
    out = image.new_empty(image.shape)
    groups = {"CHANNELS": image.shape[1], "GROUP": min(image.shape[1], MAX_GROUP)}
    _launch(render_forward_kernel, views, image, rays, views, weights, out, **groups)
    return out


def render_backward(
    grad_out: Tensor,
    image: Tensor,
    rays: Tensor,
    views: Tensor,
    weights: Tensor,
    need_image: bool,
    need_rays: bool,
    need_weights: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients to image, rays and weights; one that is not needed is empty."""
    if need_image:
        backend.alert_not_deterministic("the gradient of render_light_field to its image", image.device)
    grad_image = views.new_zeros(image.shape if need_image else 0)
    grad_rays = rays.new_empty(rays.shape if need_rays else 0)
    grad_weights = views.new_empty((_programs(image), views.shape[0]) if need_weights else 0)
    _launch(
        render_backward_kernel, views, grad_out, image, rays, views, weights, grad_image, grad_rays, grad_weights,
        NEED_IMAGE=need_image, NEED_RAYS=need_rays, NEED_WEIGHTS=need_weights, CHANNELS=image.shape[1],
    )  # fmt: skip
    grad_weights = grad_weights.sum(0).to(weights.dtype) if need_weights else grad_weights
    return grad_image.to(image.dtype), grad_rays, grad_weights


def _programs(image: Tensor) -> int:
    batch, _, height, width = image.shape
    return batch * blocks(height * width, BLOCK_P)


def _launch(function, views: Tensor, *tensors: Tensor, **constants) -> None:
    """Run a kernel over the pixels of the first tensor, calculating in the dtype of `views`. Results are contiguous.

    A kernel's constants come in one order always (`launch` tells compiled kernels apart by their values).
    """
    height, width = tensors[0].shape[-2:]
    programs = _programs(tensors[0])
    if height * width > 2**31 - BLOCK_P or programs >= 2**31:
        raise ValueError(f"too large for one launch (2^31 pixels an image): {tuple(tensors[0].shape)}")
    launch(
        function, programs, *(tensor.contiguous() for tensor in tensors), height, width, views.shape[0],
        COMPUTE=COMPUTE_TYPES[views.dtype], BLOCK_P=BLOCK_P, **constants,
        num_warps=NUM_WARPS, enable_fp_fusion=True,
    )  # fmt: skip
