"""Light field rendering in plain PyTorch: the definition, the CPU path and the export path (README.md derives it)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.kernels.backend import compute_dtype


def warp_disparity(disparity: Tensor, views: Tensor) -> Tensor:
    """D(x + u D(x)) for every view u: (B, 1, H, W), (V, 2) -> (B, V, H, W)."""
    signed = disparity.to(compute_dtype(disparity))
    rays = signed.expand(-1, views.shape[0], -1, -1)
    return _sample_views(signed, rays, views)[:, 0].to(disparity.dtype)


def render_light_field(image: Tensor, rays: Tensor, views: Tensor, weights: Tensor) -> Tensor:
    """sum_u A(u) I(x + u M(x, u)) for weights A (V,): (B, C, H, W), (B, V, H, W), (V, 2), (V,) -> (B, C, H, W)."""
    dtype = compute_dtype(image, rays, weights)
    light_field = _sample_views(image.to(dtype), rays.to(dtype), views)
    return torch.matmul(weights.to(dtype), light_field.flatten(3)).view(image.shape).to(image.dtype)


def _sample_views(image: Tensor, rays: Tensor, views: Tensor) -> Tensor:
    """The light field I(x + u M(x, u)): (B, C, H, W), (B, V, H, W), (V, 2) -> (B, C, V, H, W).

    All views are one grid_sample, the fastest of the formulations that README.md lists.
    """
    batch, channels, height, width = image.shape
    count = rays.shape[1]
    padded = _pad_to_power_of_two(image)
    # grid_sample without align_corners maps pixel p to the coordinate (2 p + 1) / size - 1.
    step_y, step_x = 2 / padded.shape[-2], 2 / padded.shape[-1]
    views = views.to(rays.dtype)
    rows = (torch.arange(height, dtype=rays.dtype, device=rays.device) + 0.5) * step_y - 1
    columns = (torch.arange(width, dtype=rays.dtype, device=rays.device) + 0.5) * step_x - 1
    x = torch.addcmul(columns, rays, (views[:, 0] * step_x).view(count, 1, 1))
    y = torch.addcmul(rows.view(height, 1), rays, (views[:, 1] * step_y).view(count, 1, 1))
    if rays.device.type == "cpu" and (image.requires_grad or rays.requires_grad):
        # As they are read without gradients; the CPU's backward pass would write out of bounds.
        x, y = (position.nan_to_num(-1, 2, -2) for position in (x, y))
    grid = torch.stack((x, y), dim=-1).view(batch, count * height, width, 2)
    samples = F.grid_sample(padded, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return samples.view(batch, channels, count, height, width)


def _pad_to_power_of_two(image: Tensor) -> Tensor:
    """Repeat the last row and column up to powers of two: there grid_sample's coordinates name whole pixels exactly.

    Otherwise rounding moves whole pixels by 1e-7 of the size, to either side of the kink that interpolation has there.
    What is added equals what clamping to the border gives, so it changes nothing else. Sizes that an exporter keeps
    symbolic are left as they are: there that rounding stays.
    """
    height, width = image.shape[-2:]
    if not all(isinstance(size, int) for size in (height, width)):
        return image
    below, right = (1 << (height - 1).bit_length()) - height, (1 << (width - 1).bit_length()) - width
    return F.pad(image, (0, right, 0, below), mode="replicate") if below or right else image
