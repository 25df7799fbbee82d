"""Bring pictures and maps to another size, in a form that every exporter keeps dynamic."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.kernels.backend import full_precision
from argan.kernels.sizes import plain, smaller

BLOCK = 16  # rows that `_shrink` makes at a time
SHARED, WARP = 48 * 1024, 32  # CUDA: bytes of shared memory that a block of threads has, and threads of a row of it


def resize(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear resize of (B, C, H, W) to `size` = (height, width), area-weighted (anti-aliased) where it shrinks."""
    if _for_other_runtimes(x, size):
        return _resize_by_products(x, size)
    if _too_much_for_cuda(x, size):
        with full_precision(x.device):
            return _resize_by_products(x.float(), size).to(x.dtype)  # its weights are float32
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)


def enlarge(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear resize of (B, C, H, W) to `size` = (height, width), for what becomes larger or is smooth: no filter."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def resize_short_side(image: Tensor, size: int) -> Tensor:
    """Resize `image` (B, C, H, W) so that its short side is `size` px and its proportions stay: (B, C, h, w).

    Bilinear, area-weighted (anti-aliased) where it shrinks, half-pixel centres; the long side is rounded to whole
    pixels. H and W may be symbolic: the sizes are found by integer arithmetic without a branch, which torch.export,
    ONNX and torch.jit.trace all carry over to sizes that they have not seen.
    """
    height, width = image.shape[-2:]
    short = smaller(height, width)

    def scaled(side: int) -> int:
        return plain((2 * side * size + short) // (2 * short), least=2)  # side * size / short, rounded

    return resize(image, (scaled(height), scaled(width)))


def _for_other_runtimes(x: Tensor, size: tuple[int, int] | torch.Size) -> bool:
    """Whether a file is being written that PyTorch is not alone to run: ONNX, or a torch.export program of one size."""
    fixed = not any(isinstance(side, torch.SymInt) for side in (*x.shape, *size))
    return torch.onnx.is_in_onnx_export() or (torch.compiler.is_exporting() and fixed)


def _too_much_for_cuda(x: Tensor, size: tuple[int, int] | torch.Size) -> bool:
    """Whether PyTorch refuses to shrink so much at once on CUDA: a photo's short side of 4513 pixels to 48.

    It keeps a row of threads' weights and, for every thread, one column of what it reads in shared memory.
    """
    if not x.is_cuda or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return False
    down, across = (1 + 2 * max(1, math.ceil(old / new)) for old, new in zip(x.shape[2:], size, strict=True))
    return (WARP * across + (WARP + 1) * down) * x.element_size() > SHARED


def _resize_by_products(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """`resize` for other runtimes, which few have but ONNX Runtime's CPU, and for what is too much for PyTorch's own.

    OpenVINO leaves the anti-aliasing of ONNX's Resize out without a word, TensorRT refuses the file, DirectML takes
    another filter; coremltools takes PyTorch's anti-aliased operation for the plain one.
    """
    height, width = size
    x = _shrink(x, smaller(x.shape[2], height))
    x = _shrink(x.transpose(2, 3), smaller(x.shape[3], width)).transpose(2, 3)
    return enlarge(x, (height, width))


def _shrink(x: Tensor, rows: int) -> Tensor:
    """x (B, C, H, W) -> (B, C, rows, W), rows <= H: a triangle two new rows wide, normalised, weighs the old ones.

    The matrix of weights is nearly empty: `BLOCK` new rows at a time are the product of those old rows that they see.
    """
    height = x.shape[2]
    scale = torch.true_divide(height, rows)
    first = torch.arange(0, rows, BLOCK, device=x.device)[:, None]
    seen = torch.arange((BLOCK + 1) * height // rows + 3, device=x.device)
    row = ((first - 0.5) * scale - 0.5).floor() + seen  # (blocks, seen)
    centre = (first + torch.arange(BLOCK, device=x.device) + 0.5) * scale  # (blocks, BLOCK)
    weight = (1 - ((row[:, None] + 0.5 - centre[..., None]) / scale).abs()).relu()  # (blocks, BLOCK, seen)
    inside = row.clamp(0, height - 1)
    weight = weight * (row == inside)[:, None]
    weight = weight / weight.sum(2, keepdim=True)  # 0 / 0 in new rows that the last block has too many
    return (weight @ x[:, :, inside.long()]).flatten(2, 3)[:, :, :rows]
